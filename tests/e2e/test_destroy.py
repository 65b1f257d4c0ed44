"""`make destroy` leaves nothing but the cache."""

from __future__ import annotations

from pathlib import Path

import psutil

from sandbox.world import BRIDGE, SUBNET, World
from tests.e2e.sandbox_world import SandboxWorld, command

DESTROY = ["make", "--no-print-directory", "destroy", "ARGS=--all-buckets"]


def test_pulumi_destroy_refuses_to_take_protected_servers_down(pair: SandboxWorld) -> None:
    run = pair.pulumi("destroy", "--yes", "--skip-preview")
    assert run.code != 0
    assert "protect" in run.text
    assert len(pair.hetzner.servers.get_all()) == 2


def test_destroy_leaves_no_container_network_mount_process_rule_or_file(
    pair: SandboxWorld,
) -> None:
    world = World.here()
    run = command(DESTROY, timeout=300).must()
    print(f"\nmake destroy: {run.seconds:.1f} s", flush=True)

    assert not world.state.exists()
    assert not world.kept.exists()
    assert command(["ip", "link", "show", BRIDGE], timeout=5).code != 0
    assert SUBNET not in command(["ip", "route", "show", "table", "all"], timeout=5).text
    for program in ("iptables-save", "ip6tables-save"):
        assert BRIDGE not in command([program], timeout=10).text
    assert str(world.cache) not in Path("/proc/self/mounts").read_text()
    assert not [
        name for name in command(["ip", "netns"], timeout=5).text.split() if "overlord" in name
    ]
    ours = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if str(world.cache) in " ".join(process.info["cmdline"] or [])
    ]
    assert ours == []
    containers = world.docker_data / "containers"
    assert not containers.exists() or not list(containers.iterdir())
    volumes = world.docker_data / "volumes"
    assert not volumes.exists() or not [v for v in volumes.iterdir() if v.is_dir()]


def test_a_second_destroy_finds_nothing_to_do(pair: SandboxWorld) -> None:
    assert not pair.world.state.exists()
    command(DESTROY, timeout=60).must()
    assert not pair.world.state.exists()
