"""What is wrong with a node and what to do: a pure function of its facts."""

from dataclasses import dataclass
from typing import Literal

from overlord.facts.observe import Facts

Severity = Literal["critical", "warning"]

DISK_WARNING = 0.80
DISK_CRITICAL = 0.95
MEMORY_WARNING = 0.05
"""Part of the memory that is still available."""
CERTIFICATE_WARNING_DAYS = 14


@dataclass(frozen=True)
class Problem:
    """Something an operator should know."""

    code: str
    severity: Severity
    """critical: the node does not do its work, and /health says so."""
    what: str
    remedy: str


def find_problems(facts: Facts) -> tuple[Problem, ...]:
    """All of them, critical ones first."""
    found = [
        *_boot(facts),
        *_services(facts),
        *_resources(facts),
        *_connections(facts),
        *_intruders(facts),
    ]
    return tuple(sorted(found, key=lambda one: (one.severity != "critical", one.code)))


def _boot(facts: Facts) -> list[Problem]:
    found = []
    failed = facts.boot.failed
    if failed:
        found.append(
            Problem(
                "first-boot",
                "critical",
                f"first boot stopped at step {failed.name}: {failed.error}",
                failed.remedy,
            )
        )
    elif facts.boot.state != "done":
        found.append(
            Problem(
                "first-boot",
                "critical",
                "first boot has not ended",
                "follow it with `sudo overlord-launch wait`",
            )
        )
    if facts.cut_short:
        found.append(
            Problem(
                "apply",
                "warning",
                f"apply of release {facts.cut_short} is running, or was cut short",
                "if nothing runs any more, run `pulumi up`, or `sudo overlordctl rollback`",
            )
        )
    elif facts.last_change and facts.last_change.result == "failed":
        found.append(
            Problem(
                "apply",
                "warning",
                f"last {facts.last_change.action} of release {facts.last_change.release} failed: "
                f"{facts.last_change.reason}",
                "mend the stack in the repository and run `pulumi up`",
            )
        )
    return found


def _services(facts: Facts) -> list[Problem]:
    if not facts.docker:
        return [
            Problem(
                "docker",
                "critical",
                "dockerd does not answer",
                "see `journalctl -u docker`; `sudo systemctl restart docker`",
            )
        ]
    return [
        Problem(
            f"service-{name}",
            "critical",
            f"service {name} {text}",
            f"`sudo overlordctl logs {name}`",
        )
        for name, text in facts.service_trouble.items()
    ]


def _resources(facts: Facts) -> list[Problem]:
    found = []
    used = facts.disk.used_ratio
    if used >= DISK_WARNING:
        found.append(
            Problem(
                "disk",
                "critical" if used >= DISK_CRITICAL else "warning",
                f"disk of {facts.disk.path} is {used:.0%} full",
                "`docker image prune --all`, less retention, or a larger server type",
            )
        )
    memory = facts.memory
    if memory.total and memory.available / memory.total < MEMORY_WARNING:
        found.append(
            Problem(
                "memory",
                "warning",
                f"{memory.available / 1024**2:.0f} MiB of memory left",
                "see `docker stats`; raise overlord:fleetSize or the server type",
            )
        )
    if facts.reboot_required:
        found.append(
            Problem(
                "reboot",
                "warning",
                "updates wait for a reboot",
                "reboot the standby, see it healthy, then the primary",
            )
        )
    return found


def _connections(facts: Facts) -> list[Problem]:
    found = []
    if not facts.tailnet.up:
        found.append(
            Problem(
                "tailnet",
                "warning",
                f"not in the tailnet ({facts.tailnet.state or 'tailscaled does not answer'})",
                "see `tailscale status` and `journalctl -u tailscaled`",
            )
        )
    if facts.clock_synchronised is False and not facts.container:
        found.append(
            Problem(
                "clock", "warning", "the clock follows no time server", "see `chronyc sources -v`"
            )
        )
    found += _certificate(facts)
    if not facts.firewall:
        found.append(Problem("firewall", "warning", "ufw is off", "`sudo systemctl restart ufw`"))
    if not facts.metadata_guarded:
        found.append(
            Problem(
                "metadata",
                "warning",
                "containers can reach the metadata address",
                "`sudo systemctl restart overlord-metadata-guard`",
            )
        )
    return found


def _intruders(facts: Facts) -> list[Problem]:
    found = []
    remedy = "unless it was you: docs/runbooks/compromised.md"
    if facts.processes_out_of_place:
        named = ", ".join(facts.processes_out_of_place[:3])
        found.append(
            Problem(
                "process-out-of-place",
                "warning",
                f"processes that run from where anybody may write, "
                f"{len(facts.processes_out_of_place)} of them: {named}",
                remedy,
            )
        )
    if facts.file_check and facts.file_check.changed:
        named = ", ".join(facts.file_check.files[:3])
        found.append(
            Problem(
                "files",
                "warning",
                f"installed files that are not as they were, {facts.file_check.changed} of them: "
                f"{named}",
                f"{remedy}; `sudo overlordctl files` looks again",
            )
        )
    return found


def _certificate(facts: Facts) -> list[Problem]:
    found = []
    days, source = facts.certificate_days, facts.certificate_source
    renew = "`sudo overlordctl certificate renew` says why"
    if days is None:
        remedy = "`sudo overlordctl certificate renew`"
        found.append(
            Problem("certificate", "critical", "nginx has no readable certificate", remedy)
        )
    elif days < CERTIFICATE_WARNING_DAYS:
        found.append(
            Problem(
                "certificate",
                "critical" if days < 0 else "warning",
                f"the {source} certificate "
                + (f"ended {-days:.0f} days ago" if days < 0 else f"ends in {days:.0f} days"),
                "run `pulumi up`: it renews the certificate" if source == "origin" else renew,
            )
        )
    if source == "self-signed":
        found.append(
            Problem(
                "certificate-fallback",
                "warning",
                "nginx shows a self-signed certificate, which nobody trusts",
                f"run `pulumi up`: it brings one; or {renew}",
            )
        )
    if facts.certificate_error:
        found.append(
            Problem(
                "certificate-renewal",
                "warning",
                f"the last renewal of the certificate failed: {facts.certificate_error}",
                "check overlord:acme and overlord:acmeDnsToken; it is tried again twice a day",
            )
        )
    return found
