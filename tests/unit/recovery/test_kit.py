"""A recovery kit opens with its passphrase by the command that stands on it, and not otherwise."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recovery.__main__ import make
from recovery.kit import (
    SHORTEST,
    KitError,
    export_for_new_keys,
    prepare,
    seal,
    settings_without_keys,
)

PASSPHRASE = "correct horse battery"
NOW = datetime(2026, 11, 27, 5, tzinfo=UTC)
SECRET = "the-key-of-the-backups"
TOKEN = "it's a token"
SETTINGS = {
    "overlord:domain": {"value": "example.com", "secret": False},
    "hcloud:token": {"value": "a token", "secret": True},
}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a stack, and a Pulumi that answers."""
    programs = tmp_path / "bin"
    programs.mkdir()
    pulumi = programs / "pulumi"
    export = json.dumps({"deployment": {"secret": SECRET, "secrets_providers": {"type": "x"}}})
    pulumi.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"'stack export --show-secrets --stack prod') echo '{export}' ;;\n"
        f"'config --json --show-secrets --stack prod') echo '{json.dumps(SETTINGS)}' ;;\n"
        "'whoami --json') echo '{\"url\": \"s3://states\"}' ;;\n"
        "*) echo 'error: no stack named so' >&2; exit 1 ;;\n"
        "esac\n"
    )
    pulumi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    (tmp_path / "Pulumi.prod.yaml").write_text(
        "encryptionsalt: v1:salt\n"
        "config:\n  overlord:domain: example.com\n  hcloud:token:\n    secure: v1:token\n"
    )
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
    settings = (folder / "recovery-kit/Pulumi.prod.yaml").read_text()
    assert settings == "config:\n  overlord:domain: example.com\n"


def test_what_is_secret_goes_through_the_input_of_pulumi_and_the_export_gets_the_new_key(
    tmp_path: Path,
) -> None:
    pulumi = tmp_path / "pulumi"
    pulumi.write_text(f'#!/bin/sh\necho "$*: $(cat)" >> {tmp_path}/said\n')
    pulumi.chmod(0o755)
    (tmp_path / "recovery-kit").mkdir()
    export = tmp_path / "recovery-kit/stack.json"
    export.write_text(export_for_new_keys('{"deployment": {"secrets_providers": {"type": "x"}}}'))
    (tmp_path / "Pulumi.prod.yaml").write_text("encryptionsalt: v1:new/salt=:v1:a+b\n")
    settings: dict[str, dict[str, object]] = {
        "hcloud:token": {"value": TOKEN, "secret": True},
        "a:b": {"value": "c"},
    }
    subprocess.run(
        ["sh", "-c", prepare(settings, "prod")],
        cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True,
    )  # fmt: skip
    said = (tmp_path / "said").read_text()
    assert said == f"config set --secret hcloud:token --stack prod: {TOKEN}\n"
    assert json.loads(export.read_text())["deployment"]["secrets_providers"] == {
        "type": "passphrase",
        "state": {"salt": "v1:new/salt=:v1:a+b"},
    }


def test_a_secret_inside_of_a_larger_setting_is_refused() -> None:
    with pytest.raises(KitError, match="overlord:alerts holds a secret"):
        settings_without_keys("config: {'overlord:alerts': {slack: [{secure: v1:url}]}}")


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
