"""What `overlordctl status` shows, for people and for programs."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from overlord.facts.observe import Facts
from overlord.facts.services import Container
from overlord.problems import Problem

SEVERITY_STYLE = {"critical": "red", "warning": "yellow"}


def status_document(
    facts: Facts, problems: tuple[Problem, ...], agent: dict[str, Any]
) -> dict[str, Any]:
    """`overlordctl status --json`. Who may write only the agent knows."""
    return {
        **facts.as_json(),
        "healthy": not any(problem.severity == "critical" for problem in problems),
        "leader": bool(agent.get("leader")),
        "roles": agent.get("roles"),
        "problems": [vars(problem) for problem in problems],
    }


def print_status(facts: Facts, problems: tuple[Problem, ...], agent: dict[str, Any]) -> None:
    """`overlordctl status`: node, services, and what is wrong with its remedy."""
    console = Console()
    state = (agent.get("roles") or {}).get("state", "unknown")
    console.print(
        f"[bold]{facts.node}[/] {state}, {'takes writes' if agent.get('leader') else 'no writes'}"
        f"  ({facts.environment}, {facts.public_name})"
    )
    overview = Table.grid(padding=(0, 2))
    for name, value in overview_rows(facts):
        overview.add_row(name, value)
    console.print(overview)
    table = Table("service", "state", "since", "image", box=None, padding=(0, 2, 0, 0))
    wrong = facts.service_trouble
    found: dict[str, Container] = {one.service: one for one in facts.containers}
    for service in facts.expected:
        container = found.get(service.name)
        state = wrong.get(service.name)
        table.add_row(
            service.name,
            f"[red]{state}[/]" if state else "[green]ok[/]",
            container.since if container else "",
            container.image if container else "",
        )
    console.print(table)
    for problem in problems:
        console.print(f"[{SEVERITY_STYLE[problem.severity]}]{problem.severity}[/]: {problem.what}")
        console.print(f"  {problem.remedy}", style="dim")


def overview_rows(facts: Facts) -> list[tuple[str, str]]:
    """Name and value of each line about the machine."""
    gib = 1024**3
    clock = {True: "synchronised", False: "not synchronised", None: "unknown"}
    steps = facts.boot.steps
    done = sum(1 for step in steps if step.state == "done")
    seconds = sum(step.seconds for step in steps)
    boot = f"{facts.boot.state}, {done} of {len(steps)} steps, {seconds:.0f} s"
    if facts.boot.failed:
        boot += f", failed at {facts.boot.failed.name}"
    change = facts.last_change
    last = "none"
    if change:
        when = datetime.fromtimestamp(change.time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        last = f"{change.action} of {change.release} {change.result}, {when}"
    days = facts.certificate_days
    return [
        ("release", facts.release or "none"),
        ("last change", last),
        ("first boot", boot),
        (
            "disk",
            f"{facts.disk.used_ratio:.0%} used, {facts.disk.free / gib:.1f} GiB free",
        ),
        (
            "memory",
            f"{facts.memory.available / gib:.1f} of {facts.memory.total / gib:.1f} GiB available",
        ),
        ("clock", "the host's" if facts.container else clock[facts.clock_synchronised]),
        (
            "certificate",
            "none" if days is None else f"{facts.certificate_source}, {days:.0f} days left",
        ),
        (
            "tailnet",
            f"{facts.tailnet.state or 'off'} {facts.tailnet.address or ''}, "
            f"{facts.tailnet.peers_online} of {facts.tailnet.peers} peers online",
        ),
        ("postgres", "answers" if facts.postgres else "does not answer"),
    ]
