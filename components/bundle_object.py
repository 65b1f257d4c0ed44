"""The bundle in its bucket, as a dynamic resource. Its name is its checksum, so it never changes.

The content does not go through the engine: it would swell the state and the preview. The program
leaves it in a file named by the checksum, and the provider reads it there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult
from pulumi.dynamic import Resource as DynamicResource

from components.dynamic import ConfiguredProvider, changed, replace_on
from components.s3 import S3Error, content_md5, error_code, explain, hide_object, s3_client

WORK_DIR = Path(__file__).resolve().parent.parent / ".overlord" / "bundles"
_KEPT_FILES = 5


def object_key(sha256: str) -> str:
    """Name of a bundle in its bucket."""
    return f"bundles/{sha256}.tar.gz"


def keep_content(content: bytes, folder: Path = WORK_DIR) -> str:
    """Leave content where the provider finds it; returns its checksum. Keeps the newest few."""
    sha256 = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{sha256}.tar.gz"
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.replace(path)
    newest = sorted(folder.glob("*.tar.gz"), key=lambda file: file.stat().st_mtime, reverse=True)
    for old in newest[_KEPT_FILES:]:
        old.unlink(missing_ok=True)
    return sha256


class BundleObjectProvider(ConfiguredProvider):
    """Put, find and hide one object."""

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Another bundle is another object."""
        return replace_on(changed(olds, news, ("endpoint", "region", "bucket", "sha256")))

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Put the object, unless the very same is there from an interrupted run."""
        s3, sha256, bucket = self._client(props), props["sha256"], props["bucket"]
        key = object_key(sha256)
        try:
            if not _is_there(s3, bucket, sha256):
                content = _content(sha256)
                s3.put_object(
                    Bucket=bucket,
                    Key=key,
                    Body=content,
                    ContentMD5=content_md5(content),
                    ContentType="application/gzip",
                    Metadata={"sha256": sha256},
                )
        except S3Error:
            raise
        except Exception as error:
            raise explain(error, f"bundle {key} in bucket {bucket}") from None
        return CreateResult(f"{bucket}/{key}", _outputs(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Whether the object is still there; one that is gone is put again."""
        try:
            there = _is_there(self._client(props), props["bucket"], props["sha256"])
        except Exception as error:
            raise explain(error, f"bundle {id_}") from None
        return ReadResult(id_, _outputs(props)) if there else ReadResult(None, {})

    def delete(self, id_: str, props: dict[str, Any]) -> None:
        """Hide the object. Its version stays for as long as the lock and the lifecycle say."""
        key = object_key(props["sha256"])
        hide_object(self._client(props), props["bucket"], key, f"bundle {id_}")

    def _client(self, props: Mapping[str, Any]) -> Any:
        return s3_client(props["endpoint"], props["region"], self.setting)


class BundleObject(DynamicResource, name="BundleObject"):
    """One bundle in the bundles bucket."""

    sha256: pulumi.Output[str]

    def __init__(
        self,
        resource_name: str,
        *,
        endpoint: str,
        region: str,
        bucket: pulumi.Input[str],
        sha256: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            BundleObjectProvider(),
            resource_name,
            {"endpoint": endpoint, "region": region, "bucket": bucket, "sha256": sha256},
            opts,
        )


def _outputs(props: Mapping[str, Any]) -> dict[str, Any]:
    return {name: props[name] for name in ("endpoint", "region", "bucket", "sha256")}


def _content(sha256: str) -> bytes:
    path = WORK_DIR / f"{sha256}.tar.gz"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise S3Error(f"{path} is missing: run pulumi up again, which packs it anew") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise S3Error(f"{path} was changed: delete it and run pulumi up again")
    return content


def _is_there(s3: Any, bucket: str, sha256: str) -> bool:
    try:
        head = s3.head_object(Bucket=bucket, Key=object_key(sha256))
    except Exception as error:
        if error_code(error) in {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}:
            return False
        raise
    return bool(head.get("Metadata", {}).get("sha256") == sha256)
