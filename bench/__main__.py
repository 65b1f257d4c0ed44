"""Times of the main jobs in the sandbox, each as a ratio to a floor measured in the same run.

Floors: Pulumi running an empty program, and a server that boots with an empty user_data. A ratio
says what this project adds to what it stands on; it holds on a slow machine too.

Run with `make bench`. It takes the sandbox down first and leaves it down.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import Cost, cost_of
from drill.floors import bare_boot
from tests.e2e.sandbox_world import (
    REPOSITORY,
    STACK,
    SandboxWorld,
    command,
    project_copy,
)

PREVIEWS = 5
PREVIEW_SECONDS = 5.0
EMPTY_STACK = "empty"


def make(*target: str) -> float:
    """Run a target of the Makefile; returns its wall time in seconds."""
    return command(["make", "--no-print-directory", *target], timeout=2400).must().seconds


@dataclass(frozen=True)
class Floor:
    """What Pulumi takes for a program that makes nothing."""

    preview: Cost
    up: Cost


def pulumi(sandbox: SandboxWorld, project: Path, *arguments: str) -> Cost:
    """What a Pulumi command costs in a project."""
    argv = [str(sandbox.world.bin / "pulumi"), *arguments, "--non-interactive"]
    return cost_of(argv, env=sandbox.env, cwd=project, timeout=1500)


def median_preview(sandbox: SandboxWorld, project: Path, stack: str) -> Cost:
    """The middle one of some previews without a change, by time."""
    arguments = ("preview", "--expect-no-changes", "--stack", stack)
    costs = [pulumi(sandbox, project, *arguments) for _ in range(PREVIEWS)]
    return sorted(costs, key=lambda cost: cost.wall)[PREVIEWS // 2]


def empty_program(sandbox: SandboxWorld, folder: Path) -> Floor:
    """Preview and up of a program that makes nothing."""
    project = folder / "empty"
    project.mkdir()
    (project / "Pulumi.yaml").write_text(
        "name: empty\nruntime: {name: python, options: {virtualenv: .venv}}\n"
    )
    (project / "__main__.py").write_text("import pulumi\n")
    (project / ".venv").symlink_to(Path(".venv").absolute())
    pulumi(sandbox, project, "stack", "init", EMPTY_STACK)
    up = pulumi(sandbox, project, "up", "--yes", "--skip-preview", "--stack", EMPTY_STACK)
    preview = median_preview(sandbox, project, EMPTY_STACK)
    pulumi(sandbox, project, "stack", "rm", "--yes", "--stack", EMPTY_STACK)
    return Floor(preview, up)


def main() -> int:
    """Measure and print. The exit code is 1 when a preview takes longer than promised."""
    console = Console()
    make("destroy", "ARGS=--all-buckets")
    make("world")
    sandbox = SandboxWorld()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = empty_program(sandbox, folder)
        boot = bare_boot(sandbox)
        up = sandbox.up().must().seconds
        preview = median_preview(sandbox, REPOSITORY, STACK)
        asked = project_copy(folder / "rebuild", config={"overlord:rebuild": "vps-02"})
        rebuild = sandbox.up(asked).must().seconds
    make("destroy", "ARGS=--all-buckets")

    table = Table(title="Seconds, and ratios to floors of the same run")
    for column in ("job", "seconds", "floor", "seconds", "ratio"):
        table.add_column(column, justify="left" if column in ("job", "floor") else "right")
    booted = empty.up.wall + boot
    for job, seconds, floor, base in (
        ("up of the pair", up, "empty up + bare boot", booted),
        ("rebuild of one node", rebuild, "empty up + bare boot", booted),
        ("preview without a change", preview.wall, "empty preview", empty.preview.wall),
        ("  its processor time", preview.cpu, "  its processor time", empty.preview.cpu),
    ):
        table.add_row(job, f"{seconds:.1f}", floor, f"{base:.1f}", f"{seconds / base:.1f}")
    console.print(table)
    kept = preview.wall < PREVIEW_SECONDS
    console.print(
        f"A preview without a change takes {preview.wall:.1f} s; "
        f"{'less' if kept else 'not less'} than the {PREVIEW_SECONDS:.0f} s promised. "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}."
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
