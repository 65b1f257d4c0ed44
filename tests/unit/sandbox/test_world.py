"""Folders, tokens and the environment of a sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from sandbox.commands import SandboxError
from sandbox.lifecycle import environment
from sandbox.machines.headscale import configuration, node_of, reason
from sandbox.world import World, ensure_tokens, vendor_id


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("OVERLORD_CACHE", raising=False)
    assert World.here().cache == tmp_path / "overlord"
    monkeypatch.setenv("OVERLORD_CACHE", str(tmp_path / "own"))
    assert World.here().state == tmp_path / "own" / "sandbox"


def test_tokens_are_random_kept_and_private(tmp_path: Path) -> None:
    first = ensure_tokens(tmp_path / "a" / "tokens.json")
    assert ensure_tokens(tmp_path / "a" / "tokens.json") == first
    assert ensure_tokens(tmp_path / "b" / "tokens.json") != first
    assert (tmp_path / "a" / "tokens.json").stat().st_mode & 0o777 == 0o600
    assert len(set(first.values())) == len(first)


def test_vendor_ids_look_like_the_vendors() -> None:
    assert len(vendor_id("zone")) == 32
    assert vendor_id("zone") != vendor_id("account")


def test_without_a_world_there_is_no_environment(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="not up"):
        environment(World(tmp_path))


def test_the_environment_points_pulumi_into_the_state_folder(tmp_path: Path) -> None:
    world = World(tmp_path)
    ensure_tokens(world.tokens)
    variables = environment(world)
    assert variables["PULUMI_BACKEND_URL"] == f"file://{world.state}/pulumi?metadata=skip"
    assert variables["PATH"].startswith(f"{world.bin}:")
    assert variables["HCLOUD_TOKEN"] == json.loads(world.tokens.read_text())["hcloud"]


def test_headscale_keeps_everything_in_its_folder(tmp_path: Path) -> None:
    document = yaml.safe_load(configuration(tmp_path, tmp_path / "socket"))
    assert document["database"]["sqlite"]["path"].startswith(str(tmp_path))
    assert document["policy"] == {"mode": "database"}
    assert document["derp"]["urls"] == []
    assert document["disable_check_updates"] is True


def test_headscales_errors_lose_what_only_it_understands() -> None:
    text = "Failed: rpc error: code = Unknown desc = setting policy: invalid action"
    assert reason(text) == "setting policy: invalid action"
    assert reason("something else") == "something else"


def test_a_node_of_headscale_is_read_with_both_kinds_of_tags() -> None:
    node = node_of(
        {
            "id": 3,
            "name": "vps-01.x",
            "given_name": "vps-01",
            "ip_addresses": ["100.64.0.1"],
            "forced_tags": ["tag:b"],
            "valid_tags": ["tag:a", "tag:b"],
            "online": True,
            "created_at": {"seconds": 0},
            "user": {"name": "overlord"},
        }
    )
    assert node.name == "vps-01"
    assert node.tags == ("tag:a", "tag:b")
    assert node.created == "1970-01-01T00:00:00Z"
    assert node.last_seen == ""
