"""overlordctl's commands about the role: role, switchover, promote, maintenance."""

import json

import click

from overlord.console import or_stop, stop
from overlord.errors import OverlordError
from overlord.paths import Paths
from overlord.roles import requests
from overlord.roles.switchover import switch_over
from overlord.roles.words import ask_agent, role_lines

PATHS = Paths()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def role(as_json: bool) -> None:
    """What this node is: primary or standby, why, how replication stands, and what happened."""
    document = or_stop(ask_agent)
    if as_json:
        click.echo(json.dumps(document["roles"], indent=1))
    else:
        for line in role_lines(document):
            click.echo(line)


@click.command()
@click.option("--dry-run", is_flag=True, help="Say whether it could be done, and do nothing.")
def switchover(dry_run: bool) -> None:
    """Give the primary's role to the other node. Run on the primary; nothing is lost."""
    roles = or_stop(ask_agent)["roles"]
    if dry_run:
        obstacle = roles.get("switchover_obstacle")
        if obstacle:
            stop(OverlordError(f"switchover would be refused: {obstacle}", "see above"))
        click.echo(
            "could be done now: writes stop for a few seconds, then the other node is primary"
        )
        return
    click.echo("handing over to the other node")
    seconds = or_stop(lambda: switch_over(PATHS))
    click.echo(f"the other node is primary after {seconds:.1f} s")


@click.command()
@click.option("--i-know", is_flag=True, help="The other node is down for good, or fenced.")
@click.option("--dry-run", is_flag=True, help="Say whether it could be done, and do nothing.")
def promote(i_know: bool, dry_run: bool) -> None:
    """Make this node primary by hand: where no arbiter is, or for the day it is gone."""
    roles = or_stop(ask_agent)["roles"]
    if dry_run:
        obstacle = roles.get("promote_obstacle")
        if obstacle:
            stop(OverlordError(f"promote would be refused: {obstacle}", "see above"))
        click.echo("could be done now, with --i-know")
        return
    if not i_know:
        stop(
            OverlordError(
                "nobody but you can say that the other node is not primary any more",
                "power it off at Hetzner first, then say so with --i-know. Writes that it "
                "acknowledged while replication was asynchronous stay on it alone",
            )
        )
    click.echo(or_stop(lambda: requests.send("promote", PATHS)))


@click.command()
@click.argument("state", type=click.Choice(["on", "off"]))
@click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
def maintenance(state: str, dry_run: bool) -> None:
    """Keep this node from becoming primary by itself. A primary stays primary."""
    if dry_run:
        click.echo(f"would set maintenance {state} on this node")
        return
    verb: requests.Verb = "maintenance on" if state == "on" else "maintenance off"
    click.echo(or_stop(lambda: requests.send(verb, PATHS)))


def add_to(group: click.Group) -> None:
    """Make the commands part of overlordctl."""
    for command in (role, switchover, promote, maintenance):
        group.add_command(command)
