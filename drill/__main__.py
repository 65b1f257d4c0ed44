"""Loses both servers while devices post, brings them back with `pulumi up`, and says what it cost.

Run with `make drill`: 1 GB of data by default, `make drill ARGS="--megabytes 64"` for less. It uses
the sandbox that is up or brings one up, and leaves it up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from drill.disaster import Outcome, rehearse
from tests.e2e.sandbox_world import SandboxWorld, command

RESULT = Path("test-artefacts/drill.json")
MOST_SECONDS = 300.0
"""From the destruction to the first status that is acknowledged again."""
MOST_LOST_SECONDS = 90.0
"""Of acknowledged statuses: a segment of the log is archived every minute, and takes a moment."""


def table(outcome: Outcome) -> Table:
    """Each step with its time, and the floors of the same run."""
    shown = Table("step", "seconds", "since", box=None, padding=(0, 2, 0, 0))
    for step in outcome.steps:
        shown.add_row(step.name, f"{step.seconds:.1f}", f"{step.since:.1f}")
    shown.add_section()
    for name, seconds in outcome.floors.items():
        shown.add_row(f"floor: {name}", f"{seconds:.1f}", "")
    return shown


@click.command()
@click.option("--megabytes", default=1000, show_default=True, help="Of data in the database.")
@click.option("--devices", default=20, show_default=True, help="That post meanwhile.")
@click.option("--account", is_flag=True, help="All else at Hetzner is lost too.")
def main(megabytes: int, devices: int, account: bool) -> None:
    """Rehearse the loss of both servers."""
    command(["make", "--no-print-directory", "up", "ARGS="], timeout=2400).must()
    outcome = rehearse(
        SandboxWorld(), megabytes=megabytes, devices=devices, say=click.echo, account=account
    )
    Console().print(table(outcome))
    click.echo(f"recovery time   {outcome.recovery_seconds:.0f} s to the first acknowledged status")
    click.echo(f"recovery point  {outcome.lost_seconds:.0f} s of acknowledged statuses lost")
    click.echo(f"data            {outcome.bytes / 1000**2:.0f} MB, every row as it was")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(outcome.as_json(), indent=1) + "\n")
    if outcome.recovery_seconds > MOST_SECONDS or outcome.lost_seconds > MOST_LOST_SECONDS:
        click.echo(f"too much: allowed are {MOST_SECONDS:.0f} s and {MOST_LOST_SECONDS:.0f} s")
        sys.exit(1)


if __name__ == "__main__":
    main()
