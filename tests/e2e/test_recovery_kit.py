"""The laptop is lost, and the state with its passphrase: the kit brings the stack back."""

from __future__ import annotations

import sys
from pathlib import Path

from sandbox.lifecycle import state_backend
from tests.e2e.sandbox_world import STACK, SandboxWorld, command, project_copy

PASSPHRASE = "a passphrase for the kit alone"
SETTING, VARIABLE = "overlord:alertSlackUrl", "OVERLORD_ALERT_SLACK_URL"


def test_a_stack_comes_back_from_its_kit_on_a_new_state_with_another_passphrase(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    """By the commands that stand on the kit. One secret is a setting, as it may be anywhere."""
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    environment = pair.env
    lost = project_copy(tmp_path / "lost")
    pair.pulumi("config", "set", "--secret", SETTING, environment[VARIABLE], project=lost).must()
    kit = [sys.executable, "-m", "recovery", STACK, "--passphrase-file", "../passphrase"]
    command(kit, env=environment, cwd=lost, timeout=120).must()
    [sealed] = lost.glob("recovery-kit-*.txt")

    found = project_copy(tmp_path / "found")
    (tmp_path / "state").mkdir()
    environment |= {
        "PULUMI_BACKEND_URL": state_backend(tmp_path / "state"),
        "PULUMI_CONFIG_PASSPHRASE": "another passphrase",
        VARIABLE: "",
    }
    steps = [line.strip() for line in sealed.read_text().splitlines() if line.startswith("  ")]
    assert steps[-1] == f"pulumi up --stack {STACK}"
    steps[-1] = f"pulumi preview --stack {STACK} --non-interactive --expect-no-changes"
    for step in steps:
        line = (
            step.replace("openssl enc", "openssl enc -pass file:../passphrase")
            .replace(sealed.name, str(sealed))
            .replace("make venv && ", "")
        )
        run = command(["bash", "-euo", "pipefail", "-c", line], env=environment, cwd=found,
                      timeout=300)  # fmt: skip
        assert run.code == 0, f"{step}\n{run.text[-4000:]}"
