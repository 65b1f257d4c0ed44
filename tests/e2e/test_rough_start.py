"""A pair that comes up through every kind of weather: bad input, refusals, kills.

The world starts empty. Each refusal must name the resource and the remedy and leave nothing
half-made unseen; ten kills later one more `pulumi up` completes and the vendors hold nothing that
the state does not know.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from components.sizing import SIZES
from tests.e2e.sandbox_world import REPOSITORY, STACK, SandboxWorld, command, project_copy

KILLS = 10


@pytest.fixture(scope="module")
def empty() -> SandboxWorld:
    """An empty cloud with a fresh stack."""
    everything = ["make", "--no-print-directory", "destroy", "ARGS=--all-buckets"]
    command(everything, timeout=300).must()
    command(["make", "--no-print-directory", "world"], timeout=600).must()
    return SandboxWorld()


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"overlord:locations": ["fsn1", "fsn1"]}, ("overlord:locations", "fsn1", "two different")),
        ({"overlord:adminCidrs": ["0.0.0.0/0"]}, ("overlord:adminCidrs", "whole internet")),
        ({"overlord:serverTypes": ["cx999"]}, ("cx999", "vps-0")),
        ({"overlord:publicName": None}, ("publicName", "missing configuration value")),
        ({"overlord:fleetsize": 50}, ("overlord:fleetsize", "fleetSize")),
    ],
    ids=["same location twice", "open ssh", "unknown server type", "missing", "misspelt"],
)
def test_a_bad_setting_is_named_with_its_remedy_and_nothing_is_made(
    empty: SandboxWorld, tmp_path: Path, config: Mapping[str, Any], names: tuple[str, ...]
) -> None:
    run = empty.up(project_copy(tmp_path, config=config))
    assert run.code != 0
    for name in names:
        assert name in run.text, run.text[-3000:]
    assert "Traceback" not in run.text
    assert empty.hetzner.servers.get_all() == []
    assert empty.hetzner.primary_ips.get_all() == []


def test_a_missing_token_is_named_before_anything_is_made(empty: SandboxWorld) -> None:
    env = {**empty.env, "HCLOUD_TOKEN": ""}
    run = command(
        [str(empty.world.bin / "pulumi"), "up", "--yes", "--skip-preview", "-s", STACK,
         "--non-interactive"],
        env=env,
        timeout=300,
    )  # fmt: skip
    assert run.code != 0
    assert "HCLOUD_TOKEN" in run.text


def test_a_wrong_token_is_refused_with_the_way_to_set_it(empty: SandboxWorld) -> None:
    env = {**empty.env, "HCLOUD_TOKEN": "x" * 64}
    run = command(
        [str(empty.world.bin / "pulumi"), "up", "--yes", "--skip-preview", "-s", STACK,
         "--non-interactive"],
        env=env,
        timeout=300,
    )  # fmt: skip
    assert run.code != 0
    assert "401" in run.text or "token" in run.text
    assert "HCLOUD_TOKEN" in run.text
    assert empty.hetzner.servers.get_all() == []


def test_a_sold_out_location_lists_what_was_tried(empty: SandboxWorld) -> None:
    for server_type in SIZES[50].server_types:
        sold_out = {"type": server_type, "location": "hel1"}
        empty.fault(vendor="hetzner", sold_out=sold_out, count=None)
    try:
        run = empty.up()
    finally:
        empty.fair_weather()
    assert run.code != 0
    assert "hel1" in run.text
    assert "cpx32" in run.text


def test_a_server_name_that_is_taken_is_never_touched(empty: SandboxWorld) -> None:
    # The standby's name: without a primary the standby would wait for one for minutes.
    stranger = empty.order_server("vps-02", start_after_create=False).server
    try:
        run = empty.up()
        assert run.code != 0
        assert "vps-02" in run.text
        assert "exists already" in run.text
        assert empty.servers()["vps-02"]["id"] == stranger.id
    finally:
        stranger.delete().wait_until_finished()


def test_a_quota_that_is_used_up_is_named_with_the_server(empty: SandboxWorld) -> None:
    empty.fault(vendor="hetzner", quota={"resource": "servers", "limit": 0}, count=None)
    try:
        run = empty.up()
    finally:
        empty.fair_weather()
    assert run.code != 0
    assert "limit" in run.text
    assert "vps-0" in run.text


def _writes(world: SandboxWorld) -> int:
    log = world.world.log / "cloud.log"
    return sum(
        any(f" {method} " in f" {line} " for method in ("POST", "PUT", "PATCH"))
        for line in log.read_text(errors="replace").splitlines()
    )


def test_ten_kills_later_the_next_up_completes_and_nothing_is_orphaned(
    empty: SandboxWorld,
) -> None:
    pulumi = shutil.which("pulumi", path=empty.env["PATH"]) or "pulumi"
    for kill in range(KILLS):
        # Half of the moments are counted in requests that change something, so that they fall
        # between a vendor's answer and the engine's record; the others are counted in seconds,
        # so that they fall into the first boots.
        before = _writes(empty)
        process = subprocess.Popen(
            [pulumi, "up", "--yes", "--skip-preview", "-s", STACK, "--non-interactive"],
            cwd=REPOSITORY,
            env={**os.environ, **empty.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started = time.monotonic()
        limit = 8.0 + 2.0 * kill
        while process.poll() is None:
            if _writes(empty) - before >= 1 + kill or time.monotonic() - started > limit:
                break
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        print(
            f"\nkill {kill + 1}: after {time.monotonic() - started:.1f} s "
            f"and {_writes(empty) - before} writes",
            flush=True,
        )
        # As `make up` does first: the lock of a killed Pulumi outlives it and is released.
        command([sys.executable, "-m", "sandbox", "up"], timeout=300).must()
    run = empty.up().must()
    print(run.text[-3000:], flush=True)
    empty.pulumi("preview", "--expect-no-changes").must()
    assert empty.fetch("/health").code == 200
    assert orphans(empty) == {}


def orphans(world: SandboxWorld) -> dict[str, list[str]]:
    """What the vendors hold and the state does not know."""
    state = json.loads(world.pulumi("stack", "export").must().text)
    known = {str(resource.get("id")) for resource in state["deployment"]["resources"]}
    live = {
        "servers": [str(s.id) for s in world.hetzner.servers.get_all()],
        "primary IPs": [str(p.id) for p in world.hetzner.primary_ips.get_all()],
        "firewalls": [str(f.id) for f in world.hetzner.firewalls.get_all()],
        "SSH keys": [str(k.id) for k in world.hetzner.ssh_keys.get_all()],
        "buckets": [b["Name"] for b in world.s3.list_buckets()["Buckets"]],
    }
    found = {
        kind: [one for one in ids if one not in known and not any(one in k for k in known)]
        for kind, ids in live.items()
    }
    assert len(live["servers"]) == 2
    assert len(live["buckets"]) == 3
    return {kind: ids for kind, ids in found.items() if ids}
