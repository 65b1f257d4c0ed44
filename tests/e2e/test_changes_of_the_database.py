"""`pulumi up` with another setting of PostgreSQL, while a device posts all the time."""

from __future__ import annotations

import re
import time
import uuid
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e.posting import doubled, in_sync, missing, posting, promotions, roles
from tests.e2e.sandbox_world import Run, SandboxWorld, eventually, project_copy
from tests.e2e.test_pair import NODES, enrol

DEVICE = f"pi-changes-{uuid.uuid4().hex[:6]}"
SETTINGS = Path("stack/postgres/postgresql.conf.j2")
SIZE = "show track_activity_query_size"
"""Takes effect with a restart alone, and may differ between primary and standby."""


@pytest.fixture(scope="module")
def token(pair: SandboxWorld) -> str:
    return enrol(pair, DEVICE)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that differs by one setting of PostgreSQL."""
    project = project_copy(tmp_path_factory.mktemp("changed"))
    with (project / SETTINGS).open("a") as file:
        file.write("\ntrack_activity_query_size = 2kB\n")
    return project


def leader(pair: SandboxWorld) -> str:
    """The node that is primary."""
    return next(node for node in NODES if roles(pair, node).get("state") == "primary")


def follower_of(node: str) -> str:
    return next(other for other in NODES if other != node)


def container_made(pair: SandboxWorld, node: str) -> float:
    """When PostgreSQL's container on a node was made, in seconds since the epoch."""
    text = pair.on_node(
        node, "docker", "inspect", "--format", "{{.Created}}", "overlord-postgres-1"
    ).text.strip()
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", text)).timestamp()


def leader_at(pair: SandboxWorld, moment: float) -> str:
    """The node that was promoted last before a moment."""
    made = [(when, node) for node in NODES for when in promotions(pair, node) if when <= moment]
    return max(made)[1]


def change_under_load(pair: SandboxWorld, token: str, project: Path | None, size: str) -> Run:
    """`pulumi up`; asserts that both nodes have the setting, that each got it while it followed,
    and that nothing acknowledged is missing or there twice."""
    first = leader(pair)
    eventually("a pair in sync", lambda: in_sync(pair, first, follower_of(first)), 90)
    began = time.time()
    with posting(pair, DEVICE, token) as device:
        run = (pair.up(project) if project else pair.up()).must()
        ended = time.time()
        eventually("posts accepted again", lambda: device.latest > ended + 1, 120)
    now = leader(pair)
    posted = [when for when in device.accepted.values() if when > began]
    print(
        f"\na changed setting of PostgreSQL, {first} led: pulumi up {run.seconds:.0f} s, "
        f"{len(posted)} statuses accepted, longest time without one {device.gap(began):.1f} s",
        flush=True,
    )
    for line in run.text.splitlines():
        if any(word in line for word in ("handing over", "leads after", "waiting for at most")):
            print(f"  {line.strip()}", flush=True)
    for node in NODES:
        made = container_made(pair, node)
        assert made > began, f"{node} has PostgreSQL's old container"
        assert leader_at(pair, made) != node, f"{node} led while its PostgreSQL was changed"
        assert pair.query(node, SIZE) == size
    eventually("a pair in sync", lambda: in_sync(pair, now, follower_of(now)), 90)
    for node in NODES:
        assert missing(pair, node, device) == set()
        assert doubled(pair, node, device) == 0
    return run


def test_the_primary_hands_over_before_its_postgresql_restarts(
    pair: SandboxWorld, token: str, changed: Path
) -> None:
    if leader(pair) != "vps-01":
        pair.on_node("vps-02", "overlordctl", "switchover", timeout=120)
    run = change_under_load(pair, token, changed, "2kB")
    assert run.text.count("handing over to") == 1
    assert leader(pair) == "vps-02"


def test_it_does_so_too_when_the_other_node_leads_at_first(
    pair: SandboxWorld, token: str, changed: Path
) -> None:
    assert leader(pair) == "vps-02"
    run = change_under_load(pair, token, None, "1kB")
    assert run.text.count("handing over to") == 2
    assert leader(pair) == "vps-02"


def test_a_switchover_puts_the_roles_back(pair: SandboxWorld) -> None:
    pair.on_node("vps-02", "overlordctl", "switchover", timeout=120)
    eventually("a pair in sync", lambda: in_sync(pair, "vps-01", "vps-02"), 90)
