"""overlordctl: what an operator asks of a node."""

import json
import os
import sys
import time
from datetime import UTC, datetime

import click

from overlord import fetch, role_commands
from overlord.actions import database as database_actions
from overlord.actions import stack as stack_actions
from overlord.actions.secrets import parse_document
from overlord.actions.tls import Outcome, Tls
from overlord.apply import Deployment, Plan
from overlord.backup.cli import backup
from overlord.backup.restore_cli import restore
from overlord.console import or_stop, stop
from overlord.errors import OverlordError
from overlord.facts.observe import Facts, observe, observe_slow
from overlord.facts.services import (
    DockerUnavailableError,
    read_containers,
    trouble,
)
from overlord.firstboot import steps
from overlord.firstboot.context import Context
from overlord.integrity import check_files
from overlord.layout import expected_of, stack_of
from overlord.node import Node, read_boot_settings, read_node
from overlord.paths import Paths
from overlord.problems import find_problems
from overlord.rehearsal import Severity, rehearse
from overlord.releases import Releases
from overlord.roles.words import ask_agent
from overlord.runner import SystemRunner, check
from overlord.settle import settle as settle_node
from overlord.status import print_status, status_document
from overlord.turn import Pair

PATHS = Paths()
BOOT_WAIT_SECONDS = 120.0


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """One node of the Overlord pair."""
    os.umask(0o022)


role_commands.add_to(main)
main.add_command(backup)
main.add_command(restore)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """One page of truth. Ends with 1 when the node is not healthy."""
    facts = _facts()
    problems = find_problems(facts)
    healthy = not any(problem.severity == "critical" for problem in problems)
    try:
        agent = ask_agent()
    except OverlordError:
        agent = {}
    if as_json:
        click.echo(json.dumps(status_document(facts, problems, agent), indent=1))
    else:
        print_status(facts, problems, agent)
    sys.exit(0 if healthy else 1)


@main.command()
def doctor() -> None:
    """What is wrong and what to do. Ends with 1 when something is."""
    problems = find_problems(_facts())
    if not problems:
        click.echo("nothing is wrong")
    for problem in problems:
        click.echo(f"{problem.severity}: {problem.what}\n  what to do: {problem.remedy}")
    sys.exit(1 if problems else 0)


@main.command()
@click.option("--bundle", "sha256", required=True, help="SHA-256 of the bundle.")
@click.option("--dry-run", is_flag=True, help="Fetch and check, but change nothing.")
def apply(sha256: str, dry_run: bool) -> None:
    """Put a bundle in force; secrets as JSON on stdin, or nothing to keep them.

    When the new release does not become healthy the old one is put back, and the command ends
    with 1.
    """
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        stop(OverlordError("--bundle is not a SHA-256", "give all 64 hexadecimal digits"))
    text = b"" if sys.stdin.isatty() else sys.stdin.buffer.read().strip()
    started = time.monotonic()

    def work() -> Plan:
        return _deployment().apply(sha256, parse_document(text) if text else {}, dry_run)

    plan = or_stop(work)
    if dry_run:
        _say("dry run: nothing was changed")
    else:
        _say(f"release {plan.release} is in force, {time.monotonic() - started:.0f} s")


@main.command()
@click.argument("release", required=False)
def rollback(release: str | None) -> None:
    """Put an older release in force, by default the one before."""
    plan = or_stop(lambda: _deployment().roll_back(release))
    _say(f"release {plan.release} is in force")


@main.command()
def releases() -> None:
    """Releases on this node, and what happened to them."""
    store = Releases(PATHS)
    current = store.current()
    for name in store.by_age():
        click.echo(f"{'→' if name == current else ' '} {name}")
    click.echo("")
    for event in store.history()[-20:]:
        when = datetime.fromtimestamp(event.time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        reason = f"  {event.reason}" if event.reason else ""
        click.echo(f"{when}  {event.action:<10} {event.release} {event.result}{reason}")


@main.command()
@click.argument("service")
@click.option("-n", "--lines", default=200, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
def logs(service: str, lines: int, follow: bool) -> None:
    """What a service said last."""
    node = or_stop(lambda: read_boot_settings(PATHS)).node
    known = [one.name for one in expected_of(PATHS, node)]
    if service not in known:
        stop(OverlordError(f"no service {service}", f"there are {', '.join(known) or 'none'}"))
    command = stack_of(PATHS, node).logs(service, lines, follow)
    os.execvp(command.args[0], command.args)  # noqa: S606 (takes over the terminal)


@main.command()
def files() -> None:
    """Compare installed files with their checksums, and settings with those of the last release.
    Ends with 1 when one is not as it was."""
    found = or_stop(lambda: check_files(PATHS, SystemRunner()))
    for file in found.files:
        click.echo(file)
    if found.changed:
        stop(
            OverlordError(
                f"installed files that are not as they were: {found.changed}",
                "unless it was you: docs/runbooks/compromised.md",
            )
        )
    click.echo("packages, the release in force and the settings are as they were installed")


@main.group()
def database() -> None:
    """This node's database."""


@database.command("init")
@click.option("--i-know", is_flag=True, help="Nothing has, or ever will bring back, the old one.")
def database_init(i_know: bool) -> None:
    """Make an empty database on a node that has none, when the pair's is lost for good."""
    if not i_know:
        stop(
            OverlordError(
                "a second database beside a living one would be taken for it one day",
                "if the peer's and every backup are lost, say so with --i-know",
            )
        )

    def work() -> None:
        compose = stack_of(PATHS, read_boot_settings(PATHS).node)
        check(SystemRunner(), database_actions.init_command(compose), "see the line above")

    or_stop(work)
    _say("made an empty database; `sudo overlord-launch run` goes on with the first boot")


@main.group()
def alert() -> None:
    """The channels that alerts go out by."""


@alert.command("test")
@click.option(
    "--severity",
    type=click.Choice(["P1", "P2", "P3"]),
    default="P2",
    show_default=True,
    help="P1 pages people: tell them first.",
)
def alert_test(severity: Severity) -> None:
    """Send a test alert. Ends with 1 when a channel did not take it."""
    boot = or_stop(lambda: read_boot_settings(PATHS))
    node = or_stop(lambda: read_node(PATHS, boot))
    outcomes = or_stop(lambda: rehearse(node.name, node.environment, severity))
    for outcome in outcomes:
        click.echo(outcome.line)
    if any(outcome.state != "sent" for outcome in outcomes):
        stop(
            OverlordError(
                "a channel did not take the test alert",
                "`sudo overlordctl logs alertmanager` has its own words",
            )
        )


@main.group()
def certificate() -> None:
    """The certificate that nginx shows."""


@certificate.command("renew")
@click.option("--force", is_flag=True, help="Even if the one there is good for long.")
def certificate_renew(force: bool) -> None:
    """Get or renew it, and show the best there is. Ends with 1 when the authority gave none."""

    def work() -> Outcome:
        node = read_node(PATHS, read_boot_settings(PATHS))
        return Tls(PATHS, SystemRunner(), node).renew(force)

    outcome = or_stop(work)
    shown = outcome.certificate
    change = "changed" if outcome.changed else "as before"
    _say(f"{shown.source} certificate, valid until {shown.ends:%Y-%m-%d}, {change}")
    if outcome.error:
        stop(
            OverlordError(
                f"the authority gave no certificate: {outcome.error}",
                "check overlord:acme and overlord:acmeDnsToken; it is tried again twice a day",
            )
        )


@main.command("first-boot", hidden=True)
def first_boot() -> None:
    """Steps of the first boot that come with the bundle; run by the launcher."""
    done = or_stop(lambda: steps.main(PATHS, fetch.download))
    sys.exit(0 if done else 1)


@main.command(hidden=True)
@click.option("--recreate", multiple=True, help="Service whose secrets changed.")
def settle(recreate: tuple[str, ...]) -> None:
    """Bring the node to what the release in force wants; run by `apply`."""

    def work() -> None:
        boot = read_boot_settings(PATHS)
        node = read_node(PATHS, boot)
        context = Context(PATHS, SystemRunner(), boot, node, fetch.download)
        try:
            settle_node(context, recreate, _say)
        except stack_actions.UnhealthyError as error:
            # The containers are gone once the old release is back: keep what they said.
            _show_logs(node, sorted(error.services))
            raise

    or_stop(work)


@main.group(hidden=True)
def stack() -> None:
    """What overlord-stack.service runs."""


@stack.command("up")
def stack_up() -> None:
    """Wait for the tailnet address, then start the services."""

    def work() -> None:
        boot = read_boot_settings(PATHS)
        runner = SystemRunner()
        stack_actions.prepare_environment(runner, PATHS, BOOT_WAIT_SECONDS)
        if _stack_healthy():
            return  # `up` would run the one-shot services once more
        stack_actions.start(stack_of(PATHS, boot.node), runner, PATHS.docker_socket)

    or_stop(work)


@stack.command("stop")
def stack_stop() -> None:
    """Stop the services, each in its grace period."""

    def work() -> None:
        boot = read_boot_settings(PATHS)
        check(SystemRunner(), stack_of(PATHS, boot.node).stop(), "see `docker ps`")

    or_stop(work)


def _facts() -> Facts:
    if os.geteuid():
        stop(OverlordError("overlordctl needs root", "run it with sudo"))
    return observe(PATHS, observe_slow(PATHS, SystemRunner()))


def _deployment() -> Deployment:
    boot = read_boot_settings(PATHS)
    return Deployment(
        paths=PATHS,
        runner=SystemRunner(),
        boot=boot,
        releases=Releases(PATHS),
        fetch=_fetch,
        turns=Pair(PATHS, lambda: read_node(PATHS, boot).peer, _say),
        say=_say,
        stack_healthy=_stack_healthy,
        containers=lambda: read_containers(PATHS.docker_socket),
    )


def _stack_healthy() -> bool:
    try:
        expected = expected_of(PATHS, read_boot_settings(PATHS).node)
        return not trouble(expected, read_containers(PATHS.docker_socket))
    except (OverlordError, DockerUnavailableError):
        return False


def _fetch(node: Node, secrets: dict[str, str], sha256: str) -> bytes:
    # A key that was just rotated is in the new document; the one on disk may be gone already.
    def secret(name: str) -> str:
        return secrets.get(name) or (PATHS.secrets / name).read_text().strip()

    return fetch.fetch_bundle(node.bundles, secret("b2_key_id"), secret("b2_key"), sha256)


def _show_logs(node: Node, services: list[str]) -> None:
    compose = stack_of(PATHS, node.name)
    for service in services:
        if service == "docker":
            continue
        result = SystemRunner().run(compose.logs(service, lines=15))
        for line in (result.output + result.errors).splitlines():
            _say(f"{service} | {line}")


def _say(line: str) -> None:
    try:
        click.echo(line)
    except BrokenPipeError:
        # Whoever started this is gone; a change under way must come to its end all the same.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123


if __name__ == "__main__":
    main(prog_name="overlordctl")
