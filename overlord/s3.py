"""The node's S3 client, as B2 wants it."""

from typing import Any

from overlord.node import BundleStore

SYSTEM_TRUST = "/etc/ssl/certs/ca-certificates.crt"
"""Certificate authorities that the machine trusts."""


def s3_client(store: BundleStore, key_id: str, key: str, trust: str = SYSTEM_TRUST) -> Any:
    """A client of the store's endpoint.

    Args:
        trust: PEM file of the certificate authorities to trust.
    """
    # Slow to import, and only needed here.
    import boto3
    from botocore.config import Config

    options: dict[str, Any] = {
        "signature_version": "s3v4",
        "retries": {"max_attempts": 6, "mode": "standard"},
        "connect_timeout": 10,
        "read_timeout": 120,
        "s3": {"addressing_style": "path"},
    }
    if "request_checksum_calculation" in Config.OPTION_DEFAULTS:
        # Distributions of 2025 and later have an SDK that would send what B2 refuses.
        options["request_checksum_calculation"] = "when_required"
        options["response_checksum_validation"] = "when_required"
    return boto3.client(  # type: ignore[no-untyped-call]
        "s3",
        endpoint_url=store.endpoint,
        region_name=store.region,
        aws_access_key_id=key_id,
        aws_secret_access_key=key,
        verify=trust,
        config=Config(**options),  # type: ignore[no-untyped-call]
    )
