"""A recovery kit opens with its passphrase by the command that stands on it, and not otherwise."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recovery.__main__ import make
from recovery.kit import SHORTEST, KitError, seal

PASSPHRASE = "correct horse battery"
NOW = datetime(2026, 11, 27, 5, tzinfo=UTC)
SECRET = "the-key-of-the-backups"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a stack, and a Pulumi that answers."""
    programs = tmp_path / "bin"
    programs.mkdir()
    pulumi = programs / "pulumi"
    export = json.dumps({"deployment": {"secret": SECRET}})
    pulumi.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"'stack export --show-secrets --stack prod') echo '{export}' ;;\n"
        "'whoami --json') echo '{\"url\": \"s3://states\"}' ;;\n"
        "*) echo 'error: no stack named so' >&2; exit 1 ;;\n"
        "esac\n"
    )
    pulumi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    (tmp_path / "Pulumi.prod.yaml").write_text("config: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(kit: Path, folder: Path, passphrase: str) -> subprocess.CompletedProcess[str]:
    """Do what the kit says."""
    line = next(line for line in kit.read_text().splitlines() if line.startswith("  sed "))
    secret = folder / "passphrase"
    secret.write_text(passphrase)
    line = line.replace("openssl enc", f"openssl enc -pass file:{secret}").replace(
        kit.name, str(kit)
    )
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_opens_by_the_command_that_stands_on_it(clone: Path, tmp_path: Path) -> None:
    kit = make("prod", clone, PASSPHRASE, NOW)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    assert opened(kit, folder, PASSPHRASE).returncode == 0
    export = json.loads((folder / "recovery-kit/stack.json").read_text())
    assert export["deployment"]["secret"] == SECRET
    assert (folder / "recovery-kit/Pulumi.prod.yaml").read_text() == "config: {}\n"


def test_it_says_where_things_are_and_nothing_secret(clone: Path) -> None:
    kit = make("prod", clone, PASSPHRASE, NOW)
    text = kit.read_text()
    assert "s3://states" in text
    assert SECRET not in text
    assert PASSPHRASE not in text
    assert kit.stat().st_mode & 0o077 == 0


def test_another_passphrase_does_not_open_it(clone: Path, tmp_path: Path) -> None:
    kit = make("prod", clone, PASSPHRASE, NOW)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    assert opened(kit, folder, "a wrong horse battery").returncode != 0
    assert not (folder / "recovery-kit").exists()


def test_a_kit_is_never_overwritten(clone: Path) -> None:
    make("prod", clone, PASSPHRASE, NOW)
    with pytest.raises(KitError, match="is there already"):
        make("prod", clone, PASSPHRASE, NOW)


def test_a_stack_that_cannot_be_exported_leaves_no_file(clone: Path) -> None:
    with pytest.raises(KitError, match="no stack named so"):
        make("elsewhere", clone, PASSPHRASE, NOW)
    assert not list(clone.glob("recovery-kit-*"))


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(KitError, match="too short"):
        seal(b"", "x" * (SHORTEST - 1))
