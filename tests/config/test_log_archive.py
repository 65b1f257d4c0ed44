"""What one Loki had comes back in another one, by way of a bucket as strict as B2."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import requests

from overlord.backup import logs
from overlord.backup.logs import LOGS, back_up_logs, newest_archives, put_back_logs
from overlord.backup.objects import Bucket, open_bucket
from overlord.errors import OverlordError
from overlord.node import BundleStore
from tests.config.test_log_queries import running_loki
from tests.contract.conftest import RunningCloud
from tests.support.receivers import wait_for

pytestmark = pytest.mark.timeout(180)

NAME = "overlord-logs"
# The compactor joins index files and deletes old lines; on a node it looks every ten minutes.
COMPACTOR = "-compactor.compaction-interval=2s"
HOUR = 3600 * 10**9
AGES = (0, 1, 30, 49, 75, 140)
"""Hours, on more days than one: an index has a table for each."""


@pytest.fixture
def bucket(cloud: RunningCloud, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """By the nodes' own key."""
    cloud.s3().create_bucket(Bucket=NAME)
    monkeypatch.setattr("overlord.backup.objects.KEPT_FREE", 0.0)
    return by_key(cloud, cloud.tokens.b2_node_key)


def by_key(cloud: RunningCloud, key: str) -> Bucket:
    store = BundleStore(cloud.url("s3"), "eu-central-003", "")
    return open_bucket(store, NAME, cloud.tokens.b2_node_key_id, key, trust=cloud.ca)


def push(loki: str, device: str, ages: tuple[int, ...], count: int) -> None:
    now = time.time_ns()
    moments = sorted(now - hours * HOUR + number for hours in ages for number in range(count))
    values = [[str(moment), f"{device} at {moment}"] for moment in moments]
    body = {"streams": [{"stream": {"device": device}, "values": values}]}
    answer = requests.post(f"{loki}/loki/api/v1/push", json=body, timeout=10)
    assert answer.status_code == 204, answer.text


def lines(loki: str) -> list[tuple[str, str]]:
    """All of the last week."""
    now = time.time_ns()
    asked = f'query={{device=~".%2B"}}&start={now - 168 * HOUR}&end={now}&limit=5000'
    answer = requests.get(f"{loki}/loki/api/v1/query_range?{asked}", timeout=30)
    assert answer.ok, answer.text
    streams = answer.json()["data"]["result"]
    return sorted((moment, line) for stream in streams for moment, line in stream["values"])


def flush(loki: str, data: Path, chunks: int) -> None:
    assert requests.post(f"{loki}/flush", timeout=10).ok
    wait_for("chunks on the disk", lambda: len(of_kind(data, "fake/*/*")) == chunks, 20)


def of_kind(data: Path, pattern: str) -> list[Path]:
    return [one for one in (data / "chunks").glob(pattern) if one.is_file()]


class KilledError(BaseException):
    """The process ends here."""


def archive(node: str, data: Path, bucket: Bucket, since: int = 0, dies_after: int = -1) -> int:
    """Up to when all is in the bucket, whatever becomes of the run."""
    done = 0

    def upload(key: str, source: BinaryIO) -> int:
        if done == dies_after:
            raise KilledError
        return bucket.upload(key, source)

    dying: Any = SimpleNamespace(objects=bucket.objects, upload=upload)
    try:
        # All files are old enough by then.
        for step in back_up_logs(data, node, dying, since, time.time() + logs.SETTLED):
            done, since = done + 1, step.until
    except KilledError:
        assert done == dies_after
    return since


def test_lines_of_a_lost_node_are_there_again_in_a_new_one_that_runs(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, third = (tmp_path / name for name in ("old", "new", "third"))
    with running_loki(tmp_path / "old.log", data=old) as loki:
        push(loki, "pi", AGES, 50)
        push(loki, "lamp", AGES[:1], 5)
        flush(loki, old, 2)
        before = lines(loki)
    assert len(before) == 50 * len(AGES) + 5
    # Loki hands over its index when it stops, and every 15 minutes.
    assert len(of_kind(old, "index/index_*/*")) >= 4
    with monkeypatch.context() as patched:
        patched.setattr(logs, "ARCHIVE_BYTES", 1)
        since = archive("vps-01", old, bucket, dies_after=3)
        assert archive("vps-01", old, bucket, since) > since
    sent = bucket.objects(LOGS)
    assert len(sent) >= len(of_kind(old, "fake/*/*"))
    shutil.rmtree(old)

    with running_loki(tmp_path / "new.log", COMPACTOR, data=new) as loki:
        push(loki, "new", (0,), 1)
        put_back_logs(new, bucket, newest_archives(sent))
        after = lines(loki)
        assert [one for one in after if not one[1].startswith("new")] == before
        assert len(after) == len(before) + 1
        flush(loki, new, 3)
        wait_for("restored index joined", lambda: of_kind(new, "index/index_*/fake/*"), 60)
        wait_for("nothing left to join", lambda: not of_kind(new, "index/index_*/*"), 60)
        assert lines(loki) == after

    # What the compactor has written goes the same way.
    archive("vps-02", new, bucket)
    third.mkdir()
    newest = newest_archives(bucket.objects(LOGS))
    assert all(one.key.startswith(f"{LOGS}vps-02/") for one in newest)
    put_back_logs(third, bucket, newest)
    with running_loki(tmp_path / "third.log", data=third) as loki:
        assert lines(loki) == after


@pytest.fixture
def written_once(tmp_path: Path) -> Path:
    chunk = tmp_path / "loki/chunks/fake/a1/MTE6MQ=="
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"chunk")
    return tmp_path / "loki"


def test_a_key_that_is_refused_is_named_and_nothing_counts_as_sent(
    cloud: RunningCloud, bucket: Bucket, written_once: Path
) -> None:
    with pytest.raises(OverlordError, match=r"overlord-logs .*B2 refuses .*SignatureDoesNotMatch"):
        archive("vps-01", written_once, by_key(cloud, "wrong"))
    assert bucket.objects(LOGS) == []
    archive("vps-01", written_once, bucket)
    assert len(bucket.objects(LOGS)) == 1
