"""How the programs of the sandbox are built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox.toolchain.tools import TOOLS, Tool, at_least, build_command, is_ready, official_on_path
from sandbox.world import World


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_module_pins_the_version_that_the_tool_names(tool: Tool) -> None:
    module = (tool.folder / "go.mod").read_text()
    version = tool.version if tool.version.startswith("v") else f"v{tool.version}"
    for package in tool.binaries.values():
        required = re.findall(r"^\s+(?:require )?(\S+) (v\S+)", module, re.MULTILINE)
        if package.startswith("overlord/"):  # a program of ours around a library
            assert any(name.endswith(tool.name) and found == version for name, found in required)
        else:
            assert any(package.startswith(name) and found == version for name, found in required)
    assert (tool.folder / "go.sum").exists()


def test_a_program_holds_no_path_of_the_machine_that_built_it() -> None:
    words = build_command(TOOLS[0], "tailscaled", Path("/cache/bin/tailscaled"))
    assert "-trimpath" in words
    assert words[:3] == ["nice", "-n", "10"]
    assert words[-1] == "tailscale.com/cmd/tailscaled"


def test_the_reported_version_is_linked_in() -> None:
    prometheus = next(tool for tool in TOOLS if tool.name == "prometheus")
    words = build_command(prometheus, "promtool", Path("/x"))
    flags = words[words.index("-ldflags") + 1]
    assert "-X github.com/prometheus/common/version.Version=3.5.0" in flags


@pytest.mark.parametrize(
    ("found", "enough"),
    [("v3.250.0", True), ("v3.272.1", True), ("v3.99.9", False), ("v4.0.0", False), ("dev", False)],
)
def test_an_official_program_counts_from_the_pinned_version_on(found: str, enough: bool) -> None:
    assert at_least(found, "v3.250.0") is enough


def script(folder: Path, name: str, output: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {output}\n")
    (folder / name).chmod(0o755)


def test_an_official_program_on_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi = next(tool for tool in TOOLS if tool.name == "pulumi")
    world = World(tmp_path / "cache")
    script(tmp_path / "official", "pulumi", "v3.260.0")
    monkeypatch.setenv("PATH", str(tmp_path / "official"))
    assert official_on_path(pulumi, world) == tmp_path / "official" / "pulumi"
    assert is_ready(pulumi, world)


def test_our_own_build_on_path_is_not_taken_for_official(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulumi = next(tool for tool in TOOLS if tool.name == "pulumi")
    world = World(tmp_path)
    script(world.bin, "pulumi", "v3.250.0")
    monkeypatch.setenv("PATH", str(world.bin))
    assert official_on_path(pulumi, world) is None
    assert not is_ready(pulumi, world)
