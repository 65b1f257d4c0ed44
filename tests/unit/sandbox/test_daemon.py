"""Our Docker daemon keeps to itself and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.commands import SandboxError
from sandbox.machines.daemon import Daemon, daemon_command, mounts_below
from sandbox.world import World

MOUNTS = r"""22 1 8:1 / / rw - ext4 /dev/sda rw
30 22 0:5 / /cache/docker/overlay2/x/merged rw - overlay overlay rw
31 30 0:6 / /cache/docker/overlay2/x/merged/proc rw - proc proc rw
32 22 0:7 / /cache/docker2/y rw - tmpfs tmpfs rw
33 22 0:8 / /cache/docker/with\040space rw - tmpfs tmpfs rw
"""


def test_the_daemon_touches_nothing_of_another_one(tmp_path: Path) -> None:
    words = daemon_command(World(tmp_path))
    for flag in ("--bridge=none", "--iptables=false", "--ip-masq=false"):
        assert flag in words
    own = ("--config-file=", "--data-root=", "--exec-root=", "--pidfile=")
    for flag in own:
        assert any(word.startswith(f"{flag}{tmp_path}") for word in words)


def test_leftover_mounts_are_taken_away_from_the_inside_out() -> None:
    assert mounts_below([Path("/cache/docker")], MOUNTS) == [
        Path("/cache/docker/overlay2/x/merged/proc"),
        Path("/cache/docker/overlay2/x/merged"),
        Path("/cache/docker/with space"),
    ]


def test_a_cache_too_deep_for_a_socket_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SandboxError) as error:
        Daemon(World(tmp_path / ("x" * 120))).start()
    assert "OVERLORD_CACHE" in error.value.remedy
