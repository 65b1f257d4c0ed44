"""A snapshot of Prometheus goes into a locked bucket by the nodes' own key, whole or not at all."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from overlord.backup.objects import PART_BYTES, Bucket, open_bucket
from overlord.backup.samples import back_up_samples
from overlord.errors import OverlordError
from overlord.node import BundleStore
from tests.contract.conftest import RunningCloud
from tests.contract.test_s3 import with_md5

NOW = 1795754280.0


@pytest.fixture
def bucket(cloud: RunningCloud) -> Bucket:
    owner = with_md5(cloud.s3())
    owner.create_bucket(Bucket="overlord-data", ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 14}}
    owner.put_object_lock_configuration(
        Bucket="overlord-data",
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
    )
    store = BundleStore(cloud.url("s3"), "eu-central-003", "")
    tokens = cloud.tokens
    return open_bucket(
        store, "overlord-data", tokens.b2_node_key_id, tokens.b2_node_key, trust=cloud.ca
    )


def stored(bucket: Bucket) -> dict[str, bytes]:
    found = bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", ())
    return {
        one["Key"]: bucket.client.get_object(Bucket=bucket.name, Key=one["Key"])["Body"].read()
        for one in found
    }


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "prometheus"


@pytest.fixture
def prometheus(volume: Path) -> Iterator[str]:
    """Makes snapshots as Prometheus does: a folder below `snapshots`, and its name."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            block = volume / "snapshots/20261127-abc/01BLOCK"
            block.mkdir(parents=True)
            (block / "chunks").write_bytes(b"samples" * 1000)
            body = json.dumps({"status": "success", "data": {"name": "20261127-abc"}}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_snapshot_is_stored_and_leaves_nothing_on_the_disk(
    bucket: Bucket, volume: Path, prometheus: str
) -> None:
    key, size = back_up_samples(volume, "vps-01", bucket.upload, NOW, prometheus)
    assert key == "metrics/vps-01/2026-11-27T043800Z.tar"
    content = stored(bucket)[key]
    assert len(content) == size
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile("01BLOCK/chunks")
        assert member is not None
        assert member.read() == b"samples" * 1000
    assert not any((volume / "snapshots").iterdir())


def test_what_is_larger_than_a_part_comes_in_parts(bucket: Bucket) -> None:
    data = bytes(range(256)) * (PART_BYTES // 256) + b"the rest"
    assert bucket.upload("metrics/large", io.BytesIO(data)) == len(data)
    assert stored(bucket)["metrics/large"] == data


def test_nothing_is_stored_of_a_source_that_breaks(bucket: Bucket) -> None:
    class Breaks(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OverlordError("the snapshot could not be read", "look")

    with pytest.raises(OverlordError):
        bucket.upload("metrics/broken", Breaks())
    assert stored(bucket) == {}
    assert not bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads")


def test_a_refused_key_is_named_and_the_snapshot_is_cleared_away(
    cloud: RunningCloud, bucket: Bucket, volume: Path, prometheus: str
) -> None:
    store = BundleStore(cloud.url("s3"), "eu-central-003", "")
    wrong = open_bucket(store, bucket.name, cloud.tokens.b2_node_key_id, "wrong", trust=cloud.ca)
    with pytest.raises(OverlordError, match=r"overlord-data: B2 refuses .*SignatureDoesNotMatch"):
        back_up_samples(volume, "vps-01", wrong.upload, NOW, prometheus)
    assert not any((volume / "snapshots").iterdir())


def test_a_prometheus_that_does_not_answer_is_an_error(bucket: Bucket, volume: Path) -> None:
    with pytest.raises(OverlordError, match="made no snapshot"):
        back_up_samples(volume, "vps-01", bucket.upload, NOW, "http://127.0.0.1:1")
