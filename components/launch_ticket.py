"""What a new server needs for its first boot and must not keep: one ticket a server.

A ticket is the sealed secrets document in the bundles bucket, the key that opens it, and links to
it and to the bundle that are good for an hour. It is made anew only with its generation, so
neither a new bundle nor a new secret touches the servers that run.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult
from pulumi.dynamic import Resource as DynamicResource

from components.bundle_object import object_key
from components.dynamic import ConfiguredProvider, changed, replace_on
from components.s3 import content_md5, explain, hide_object, s3_client

LIFETIME_SECONDS = 3600


class LaunchTicketProvider(ConfiguredProvider):
    """Seal, put, and sign links."""

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Only another generation is another ticket."""
        return replace_on(changed(olds, news, ("generation", "node")))

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Seal the document with a new key; earlier tickets of the node are hidden."""
        from cryptography.fernet import Fernet

        s3, bucket, node = self._client(props), props["bucket"], props["node"]
        ticket, key = uuid.uuid4().hex, Fernet.generate_key()
        sealed = Fernet(key).encrypt(props["document"].encode())
        name = f"boot/{node}/{ticket}"
        try:
            # What an interrupted run left; nobody has its key.
            for old in s3.list_objects_v2(Bucket=bucket, Prefix=f"boot/{node}/").get(
                "Contents", ()
            ):
                s3.delete_object(Bucket=bucket, Key=old["Key"])
            s3.put_object(Bucket=bucket, Key=name, Body=sealed, ContentMD5=content_md5(sealed))
            secrets_url = _link(s3, bucket, name)
            bundle_url = _link(s3, bucket, object_key(props["bundleSha256"]))
        except Exception as error:
            raise explain(error, f"launch ticket of {node} in bucket {bucket}") from None
        return CreateResult(
            name,
            {
                **{key: props[key] for key in ("endpoint", "region", "bucket", "node")},
                "generation": int(props["generation"]),
                "bundleUrl": bundle_url,
                "bundleSha256": props["bundleSha256"],
                "secretsUrl": secrets_url,
                "secretsSha256": hashlib.sha256(sealed).hexdigest(),
                "secretsKey": key.decode(),
            },
        )

    def delete(self, id_: str, props: dict[str, Any]) -> None:
        """Hide the sealed document; the links stop working at once."""
        hide_object(self._client(props), props["bucket"], id_, f"launch ticket {id_}")

    def _client(self, props: Mapping[str, Any]) -> Any:
        return s3_client(props["endpoint"], props["region"], self.setting)


class LaunchTicket(DynamicResource, name="LaunchTicket"):
    """The first-boot ticket of one server."""

    generation: pulumi.Output[int]
    bundle_url: pulumi.Output[str]
    bundle_sha256: pulumi.Output[str]
    secrets_url: pulumi.Output[str]
    secrets_sha256: pulumi.Output[str]
    secrets_key: pulumi.Output[str]

    def __init__(
        self,
        resource_name: str,
        *,
        endpoint: str,
        region: str,
        bucket: pulumi.Input[str],
        node: str,
        generation: int,
        bundle_sha256: pulumi.Input[str],
        document: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            LaunchTicketProvider(),
            resource_name,
            {
                "endpoint": endpoint,
                "region": region,
                "bucket": bucket,
                "node": node,
                "generation": generation,
                "bundle_sha256": bundle_sha256,
                "document": pulumi.Output.secret(document),
                "bundle_url": None,
                "secrets_url": None,
                "secrets_sha256": None,
                "secrets_key": None,
            },
            pulumi.ResourceOptions.merge(
                opts,
                pulumi.ResourceOptions(
                    additional_secret_outputs=["bundleUrl", "secretsUrl", "secretsKey"]
                ),
            ),
        )

    def translate_input_property(self, prop: str) -> str:
        """Names as the provider knows them."""
        return _CAMEL.get(prop, prop)

    def translate_output_property(self, prop: str) -> str:
        """Names as the program knows them."""
        return _SNAKE.get(prop, prop)


_CAMEL = {
    "bundle_sha256": "bundleSha256",
    "bundle_url": "bundleUrl",
    "secrets_url": "secretsUrl",
    "secrets_sha256": "secretsSha256",
    "secrets_key": "secretsKey",
}
_SNAKE = {camel: snake for snake, camel in _CAMEL.items()}


def _link(s3: Any, bucket: str, key: str) -> str:
    return str(
        s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=LIFETIME_SECONDS
        )
    )
