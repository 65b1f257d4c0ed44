"""Times of the main jobs in the sandbox, each as a ratio to a floor measured in the same run.

Floors: Pulumi running an empty program, and a server that boots with an empty user_data. A ratio
says what this project adds to what it stands on; it holds on a slow machine too.

Run with `make bench`. It takes the sandbox down first and leaves it down.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.e2e.sandbox_world import SandboxWorld, command, eventually, project_copy

PREVIEWS = 5
EMPTY_STACK = "empty"


def make(target: str) -> float:
    """Run a target of the Makefile; returns its wall time in seconds."""
    return command(["make", "--no-print-directory", target], timeout=2400).must().seconds


def empty_program(sandbox: SandboxWorld, folder: Path) -> tuple[float, float]:
    """Median preview and one up of a program that makes nothing, in seconds."""
    project = folder / "empty"
    project.mkdir()
    (project / "Pulumi.yaml").write_text(
        "name: empty\nruntime: {name: python, options: {virtualenv: .venv}}\n"
    )
    (project / "__main__.py").write_text("import pulumi\n")
    (project / ".venv").symlink_to(Path(".venv").absolute())
    env = {**sandbox.env, "PULUMI_STACK": EMPTY_STACK}
    pulumi = str(sandbox.world.bin / "pulumi")

    def run(*arguments: str) -> float:
        return command([pulumi, *arguments], env=env, cwd=project, timeout=120).must().seconds

    run("stack", "init", EMPTY_STACK)
    up = run("up", "--yes", "--skip-preview", "--non-interactive")
    preview = statistics.median(run("preview", "--non-interactive") for _ in range(PREVIEWS))
    run("stack", "rm", EMPTY_STACK, "--yes")
    return preview, up


def bare_boot(sandbox: SandboxWorld) -> float:
    """Time from the order of a server with an empty user_data to the end of its cloud-init."""
    started = time.monotonic()
    order = sandbox.order_server("bare", user_data="#cloud-config\n{}\n")
    eventually(
        "cloud-init of the bare server",
        lambda: "status: done" in sandbox.on_node("bare", "cloud-init", "status", check=False).text,
        300,
        pause=0.2,
    )
    seconds = time.monotonic() - started
    order.server.delete().wait_until_finished()
    return seconds


def main() -> None:
    """Measure and print."""
    console = Console()
    make("destroy")
    make("world")
    sandbox = SandboxWorld()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty_preview, empty_up = empty_program(sandbox, folder)
        boot = bare_boot(sandbox)
        up = sandbox.up()
        up.must()
        preview = statistics.median(
            sandbox.pulumi("preview", "--expect-no-changes").must().seconds for _ in range(PREVIEWS)
        )
        asked = project_copy(folder / "rebuild", config={"overlord:rebuild": "vps-02"})
        rebuild = sandbox.up(asked)
        rebuild.must()
    make("destroy")

    table = Table(title="Seconds, and ratios to floors of the same run")
    for column in ("job", "seconds", "floor", "seconds", "ratio"):
        table.add_column(column, justify="left" if column in ("job", "floor") else "right")
    floors = (
        ("up of the pair", up.seconds, "empty up + bare boot", empty_up + boot),
        ("preview without a change", preview, "empty preview", empty_preview),
        ("rebuild of one node", rebuild.seconds, "empty up + bare boot", empty_up + boot),
    )
    for job, seconds, floor, base in floors:
        table.add_row(job, f"{seconds:.1f}", floor, f"{base:.1f}", f"{seconds / base:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
