"""What the sandbox leaves off, in a pair that runs: a second backup repository, and OpenBao.

Both servers burn down with the first repository emptied. Both options go off again at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from drill.disaster import NODES, destroy, leader
from sandbox.world import S3_URL
from tests.e2e.posting import in_sync
from tests.e2e.sandbox_world import REPOSITORY, STACK, SandboxWorld, eventually, project_copy
from tests.support.emptied import empty_bucket

BACKUP = "overlord:backup"
SECOND = {
    "endpoint": S3_URL,
    "region": "us-west-004",
    "bucketPrefix": "overlord-sandbox-second",
}
SECOND_BUCKET = f"{SECOND['bucketPrefix']}-data"
# A pair that was healthy a moment ago; OpenBao's first try may come before its role is there.
HEALTHY_SECONDS = 60
BACKUP_SECONDS = 120
ARCHIVED_SECONDS = 60


@pytest.fixture(scope="module")
def switched_on(pair: SandboxWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project with both options; the second bucket goes with the last test."""
    settings = yaml.safe_load((REPOSITORY / f"Pulumi.{STACK}.yaml").read_text())["config"]
    options = {"overlord:openbao": True, BACKUP: settings[BACKUP] | {"second": SECOND}}
    yield project_copy(tmp_path_factory.mktemp("options"), config=options)
    if any(bucket["Name"] == SECOND_BUCKET for bucket in pair.s3.list_buckets()["Buckets"]):
        empty_bucket(pair.s3, SECOND_BUCKET)
        pair.s3.delete_bucket(Bucket=SECOND_BUCKET)


@pytest.fixture(scope="module")
def administrator(pair: SandboxWorld) -> str:
    """The administrator's password of OpenBao."""
    return str(pair.output("adminSecrets")["openbao_admin_password"])


def bao(pair: SandboxWorld, node: str, *arguments: str, token: str = "") -> str:
    """Run a command of OpenBao on a node; its output."""
    environment = ("-e", "BAO_ADDR=http://127.0.0.1:8200", "-e", f"BAO_TOKEN={token}")
    return pair.on_node(
        node, "docker", "exec", *environment, "overlord-openbao-1", "bao", *arguments
    ).text.strip()


def log_in(pair: SandboxWorld, node: str, password: str) -> str:
    """A token of the administrator, once OpenBao is unsealed on the node."""
    health = ("curl", "-s", "http://127.0.0.1:8200/v1/sys/health")
    eventually(
        f"OpenBao unsealed on {node}",
        lambda: '"sealed":false' in pair.on_node(node, *health, check=False).text,
        HEALTHY_SECONDS,
    )
    login = ("login", "-no-store", "-token-only", "-method=userpass", "username=admin")
    return bao(pair, node, *login, f"password={password}")


def secret(pair: SandboxWorld, node: str, password: str) -> str:
    """What a device's secret says on a node."""
    token = log_in(pair, node, password)
    return bao(pair, node, "kv", "get", "-field=wifi", "secret/pi-17", token=token)


def repositories(pair: SandboxWorld, node: str) -> dict[str, list[str]]:
    """Labels of the backups in each repository, as an operator is shown them."""
    shown = pair.on_node(node, "overlordctl", "backup", "list").text
    found: dict[str, list[str]] = {}
    for part in re.split(r"^repository ", shown, flags=re.M)[1:]:
        found[part[0]] = re.findall(r"^\s*(\d{8}-\d{6}F\S*)", part, re.M)
    return found


def healthy(pair: SandboxWorld) -> bool:
    """Whether both nodes and the public name say so."""
    well: list[Any] = [pair.status_of(node)["healthy"] for node in NODES]
    return all(well) and pair.fetch("/health").code == 200


def filled(pair: SandboxWorld, node: str, repository: str) -> dict[str, list[str]]:
    """All repositories once one has a full backup, by what the timer does every five minutes."""

    def look() -> dict[str, list[str]]:
        pair.on_node(node, "systemctl", "start", "overlord-backup.service", timeout=600)
        found = repositories(pair, node)
        return found if found.get(repository) else {}

    found: dict[str, list[str]] = eventually(
        f"a backup in repository {repository}", look, BACKUP_SECONDS
    )
    assert found[repository][0].endswith("F")
    return found


def archive_the_log(pair: SandboxWorld, node: str) -> None:
    """End the current piece of the log and wait until PostgreSQL has it off its hands: with both
    repositories well that is when it is in both."""
    piece = pair.query(node, "SELECT pg_walfile_name(pg_switch_wal())")
    eventually(
        f"{piece} in the archive",
        lambda: pair.query(node, "SELECT last_archived_wal FROM pg_stat_archiver") >= piece,
        ARCHIVED_SECONDS,
    )


def test_both_options_are_switched_on_in_a_pair_that_runs(
    pair: SandboxWorld, switched_on: Path
) -> None:
    run = pair.up(switched_on).must()
    eventually("a healthy pair", lambda: healthy(pair), HEALTHY_SECONDS)
    print(f"\ntwo options switched on: {run.seconds:.1f} s", flush=True)
    node = leader(pair)
    assert set(filled(pair, node, "2")) == {"1", "2"}


def test_a_secret_that_the_administrator_writes_is_on_the_other_node_after_a_switchover(
    pair: SandboxWorld, administrator: str
) -> None:
    node = leader(pair)
    token = log_in(pair, node, administrator)
    bao(pair, node, "kv", "put", "secret/pi-17", "wifi=hidden", token=token)
    [other] = set(NODES) - {node}
    eventually("a pair in sync", lambda: in_sync(pair, node, other), 90)
    pair.on_node(node, "overlordctl", "switchover", timeout=120)
    assert secret(pair, other, administrator) == "hidden"


def test_both_servers_burn_down_with_the_first_repository_empty_and_the_second_has_it_all(
    pair: SandboxWorld, switched_on: Path, administrator: str
) -> None:
    node = leader(pair)
    backup = repositories(pair, node)["2"][0]
    archive_the_log(pair, node)  # the secret is younger than the backup
    destroy(pair, account=False)
    empty_bucket(pair.s3, pair.output("buckets")["data"], "database/")

    run = pair.up(switched_on).must()
    print(f"\nback from the second repository: {run.seconds:.1f} s", flush=True)
    assert "restored the newest backup of the second repository" in run.text
    assert secret(pair, NODES[0], administrator) == "hidden"
    eventually("a healthy pair", lambda: healthy(pair), HEALTHY_SECONDS)

    assert filled(pair, NODES[0], "1")["2"][0] == backup


def test_switched_off_the_second_bucket_leaves_the_state_and_stays(pair: SandboxWorld) -> None:
    run = pair.up().must()
    print(f"\ntwo options switched off: {run.seconds:.1f} s", flush=True)

    node = leader(pair)
    eventually("a healthy pair", lambda: healthy(pair), HEALTHY_SECONDS)
    assert "openbao" not in pair.on_node(node, "docker", "ps", "--format", "{{.Names}}").text
    assert "repository" not in pair.on_node(node, "overlordctl", "backup", "list").text
    assert pair.s3.list_objects_v2(Bucket=SECOND_BUCKET, Prefix="database/")["KeyCount"]
    # As the tests after this one expect it.
    if node != NODES[0]:
        eventually("a pair in sync", lambda: in_sync(pair, *reversed(NODES)), 90)
        pair.on_node(node, "overlordctl", "switchover", timeout=120)
    eventually("the pair as it was", lambda: in_sync(pair, *NODES), 90)
