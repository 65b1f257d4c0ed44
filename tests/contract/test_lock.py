"""The nodes' own key sees whether the data bucket locks what goes into it, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from overlord.agent.metrics import render
from overlord.agent.state import State
from overlord.backup.manager import Manager
from overlord.backup.objects import Bucket, open_bucket, second_bucket
from overlord.backup.state import forget_second
from overlord.commands.backup import BackupTool
from overlord.commands.compose import Compose
from overlord.errors import OverlordError
from overlord.files import write_json
from overlord.node import BundleStore
from overlord.paths import Paths
from tests.contract.conftest import RunningCloud
from tests.contract.test_s3 import md5, with_md5
from tests.unit.overlord.fakes import FakeRunner


def node_bucket(cloud: RunningCloud, name: str, key: str | None = None) -> Bucket:
    store = BundleStore(cloud.url("s3"), "eu-central-003", "")
    tokens = cloud.tokens
    return open_bucket(
        store, name, tokens.b2_node_key_id, key or tokens.b2_node_key, trust=cloud.ca
    )


def lock(cloud: RunningCloud, name: str, **period: int) -> None:
    retention = {"Mode": "GOVERNANCE", **period}
    with_md5(cloud.s3()).put_object_lock_configuration(
        Bucket=name,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": retention},
        },
    )


def test_the_days_of_a_bucket_s_lock_are_read_with_the_nodes_key(cloud: RunningCloud) -> None:
    cloud.s3().create_bucket(Bucket="overlord-data", ObjectLockEnabledForBucket=True)
    bucket = node_bucket(cloud, "overlord-data")
    assert bucket.lock_days() == 0
    lock(cloud, "overlord-data", Days=14)
    assert bucket.lock_days() == 14
    lock(cloud, "overlord-data", Years=1)
    assert bucket.lock_days() == 365


def test_a_bucket_without_a_lock_locks_for_no_day(cloud: RunningCloud) -> None:
    cloud.s3().create_bucket(Bucket="overlord-open")
    assert node_bucket(cloud, "overlord-open").lock_days() == 0


def test_the_nodes_key_sees_no_object_s_lock_and_changes_none(cloud: RunningCloud) -> None:
    """It has readBucketRetentions, and neither readFileRetentions nor a right to write them."""
    cloud.s3().create_bucket(Bucket="overlord-data", ObjectLockEnabledForBucket=True)
    node = with_md5(cloud.node_s3())
    node.put_object(Bucket="overlord-data", Key="wal/1", Body=b"x", ContentMD5=md5(b"x"))
    configuration = {"ObjectLockEnabled": "Enabled"}
    refused: tuple[Callable[[], object], ...] = (
        lambda: node.get_object_retention(Bucket="overlord-data", Key="wal/1"),
        lambda: node.get_object_legal_hold(Bucket="overlord-data", Key="wal/1"),
        lambda: node.put_object_lock_configuration(
            Bucket="overlord-data", ObjectLockConfiguration=configuration
        ),
    )
    for call in refused:
        with pytest.raises(ClientError, match="AccessDenied"):
            call()


def test_a_lock_that_was_taken_away_is_in_the_metrics_within_the_hour(
    cloud: RunningCloud, tmp_path: Path
) -> None:
    cloud.s3().create_bucket(Bucket="overlord-data", ObjectLockEnabledForBucket=True)
    lock(cloud, "overlord-data", Days=14)
    paths, now = Paths(tmp_path), [10_000.0]
    said: list[str] = []
    tool = BackupTool(Compose(Path("/compose.yaml"), Path("/compose.env")))
    manager = Manager(paths, FakeRunner(), tool, lambda: True, said.append, lambda: now[0])

    def look(bucket: Bucket) -> str:
        manager.tend_lock(bucket.lock_days, 14)
        return render(State(), paths).decode()

    good, refused = (node_bucket(cloud, "overlord-data", key) for key in (None, "revoked"))
    metrics = look(good)
    assert 'overlord_backup_lock_days{repository="1"} 14.0' in metrics
    assert 'overlord_backup_lock_wanted_days{repository="1"} 14.0' in metrics
    lock(cloud, "overlord-data", Days=1)
    assert 'overlord_backup_lock_days{repository="1"} 14.0' in look(good)
    now[0] += 3600
    assert 'overlord_backup_lock_days{repository="1"} 1.0' in look(good)
    now[0] += 3600
    # What was seen last stays, with its age; that nobody could look is said.
    assert 'overlord_backup_lock_seen_timestamp_seconds{repository="1"} 13600.0' in look(refused)
    assert "B2 refuses the node's key" in said[0]


def test_the_second_repository_s_lock_is_seen_by_itself_with_its_own_key(
    cloud: RunningCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.s3().create_bucket(Bucket="elsewhere-data", ObjectLockEnabledForBucket=True)
    lock(cloud, "elsewhere-data", Days=3)
    paths = Paths(tmp_path)
    second = {"endpoint": cloud.url("s3"), "region": "eu-central-003"}
    backup = {"buckets": {"data": "a", "second": "elsewhere-data"}, "second": second}
    write_json(paths.boot_settings, {"node": "vps-01", "admin_user": "a", "deploy_user": "d"})
    write_json(paths.current / "nodes/vps-01/node.json", {"backup": backup})
    paths.secrets.mkdir(parents=True)
    (paths.secrets / "second_b2_key_id").write_text(cloud.tokens.b2_node_key_id)
    (paths.secrets / "second_b2_key").write_text(cloud.tokens.b2_node_key)
    # Where the machine's own authorities are, which do not know the emulated one.
    monkeypatch.setattr("overlord.backup.objects.open_bucket", partial(open_bucket, trust=cloud.ca))

    tool = BackupTool(Compose(Path("/compose.yaml"), Path("/compose.env")))
    first, other = (
        Manager(paths, FakeRunner(), one, lambda: True, number=number)
        for number, one in enumerate(tool.of_each(2), 1)
    )
    first.tend_lock(lambda: 14, 14)
    other.tend_lock(lambda: second_bucket(paths).lock_days(), 14)
    metrics = render(State(), paths).decode()
    assert 'overlord_backup_lock_days{repository="1"} 14.0' in metrics
    assert 'overlord_backup_lock_days{repository="2"} 3.0' in metrics
    forget_second(paths)
    metrics = render(State(), paths).decode()
    assert 'overlord_backup_lock_days{repository="1"} 14.0' in metrics
    assert 'repository="2"' not in metrics


def test_a_lock_that_was_never_seen_has_no_days(cloud: RunningCloud, tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    tool = BackupTool(Compose(Path("/compose.yaml"), Path("/compose.env")))
    manager = Manager(paths, FakeRunner(), tool, lambda: True, lambda _: None)

    def denied() -> int:
        raise OverlordError("the lock could not be read", "give the key the right")

    manager.tend_lock(denied, 14)
    metrics = render(State(), paths).decode()
    assert 'overlord_backup_lock_wanted_days{repository="1"} 14.0' in metrics
    assert "overlord_backup_lock_days" not in metrics
