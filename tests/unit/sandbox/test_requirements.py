"""A machine that cannot run the sandbox is told why, and what to do."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from sandbox import requirements
from sandbox.commands import SandboxError
from sandbox.world import World


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(requirements, "own_bounding_set", lambda: 2**40 - 1)


def test_another_system_than_linux_is_refused(
    able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(SandboxError, match="Darwin"):
        requirements.check_machine(World(tmp_path), 0)


def test_an_ordinary_user_is_refused(
    able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxError) as error:
        requirements.check_machine(World(tmp_path), 0)
    assert "sudo" in error.value.remedy


def test_the_capabilities_that_are_missing_are_named(
    able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "own_bounding_set", lambda: 0)
    with pytest.raises(SandboxError, match=r"NET_ADMIN.*SYS_ADMIN"):
        requirements.check_machine(World(tmp_path), 0)


def test_a_full_disk_is_refused_with_the_way_out(
    able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file that every Linux has stands for the device, which a build machine may lack.
    monkeypatch.setattr(requirements, "TUN", Path("/dev/null"))
    with pytest.raises(SandboxError, match="GiB free") as error:
        requirements.check_machine(World(tmp_path), 2**60)
    assert "OVERLORD_CACHE" in error.value.remedy


def test_each_program_says_what_it_is_for() -> None:
    assert all(program.reason for program in requirements.PROGRAMS)
