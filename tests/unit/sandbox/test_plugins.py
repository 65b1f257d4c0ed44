"""Official plugins win over stand-ins, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.toolchain import plugins
from sandbox.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path / "cache")
    world.bin.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'official'}:/usr/bin:/bin")
    return world


def program(file: Path, script: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def builder(folder: Path) -> Path:
    """A build.sh that only notes what it was asked for, and installs as the real one does."""
    program(folder / "build.sh", 'bin=$1; shift; echo "$@" > "$bin/asked"; touch "$bin/x"')
    return folder


def test_each_plugin_has_the_version_of_its_python_package() -> None:
    text = "pulumi==3.1\npulumi-hcloud==1.2 \\\npulumi-cloudflare==3\npulumi-tailscale==4\n"
    found = plugins.versions(text + "pulumi-command==5\n")
    assert found == {"hcloud": "1.2", "cloudflare": "3", "tailscale": "4", "command": "5"}


def test_where_nothing_can_be_downloaded_all_are_stood_in_for(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(world.bin / "pulumi", f"echo called >> {tmp_path}/calls; exit 1")
    monkeypatch.setattr(plugins, "STAND_INS", builder(tmp_path / "providers"))
    assert plugins.install(world) == set(plugins.NAMES)
    assert (world.bin / "asked").read_text().split() == sorted(plugins.NAMES)
    assert (tmp_path / "calls").read_text().count("called") == 1, "the first failure is enough"
    assert plugins.are_ready(world)


def test_where_all_can_be_downloaded_no_stand_in_stays_in_the_way(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "official" / "pulumi", "[ $1 = version ] && echo v3.250.0; exit 0")
    (world.bin / "pulumi-resource-hcloud").symlink_to("overlord-providers")
    (world.bin / "pulumi-language-python").touch()
    monkeypatch.setattr(plugins, "STAND_INS", builder(tmp_path / "providers"))
    assert plugins.install(world) == set()
    assert list(world.bin.iterdir()) == []


def test_a_cli_of_our_own_with_official_plugins_gets_its_language_host_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(world.bin / "pulumi", "exit 0")
    monkeypatch.setattr(plugins, "STAND_INS", builder(tmp_path / "providers"))
    links = " ".join(f'"$1/pulumi-resource-{name}"' for name in plugins.NAMES)
    script = f'touch "$1/pulumi-language-python"; for l in {links}; do ln -s x "$l"; done'
    program(tmp_path / "providers" / "build.sh", script)
    assert plugins.install(world) == set()
    assert {file.name for file in world.bin.iterdir()} == {"pulumi", "pulumi-language-python"}


def test_an_official_plugin_on_path_is_neither_fetched_nor_built(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "official" / "pulumi-resource-command", "true")
    program(world.bin / "pulumi", "exit 1")
    monkeypatch.setattr(plugins, "STAND_INS", builder(tmp_path / "providers"))
    assert plugins.install(world) == {"hcloud", "cloudflare", "tailscale"}
