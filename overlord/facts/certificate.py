"""The certificate that nginx shows."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509


def expiry(certificate: Path) -> datetime | None:
    """When a PEM certificate ends; None if there is none that can be read."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return None
    # Older versions of the library, as in Debian 12, know only the naive one.
    if hasattr(parsed, "not_valid_after_utc"):
        return parsed.not_valid_after_utc
    return parsed.not_valid_after.replace(tzinfo=UTC)


def days_left(certificate: Path, now: datetime) -> float | None:
    """Days until a certificate ends, negative afterwards."""
    end = expiry(certificate)
    return None if end is None else (end - now).total_seconds() / 86_400
