"""Steps that make the host: software, ways in, time, logs, dockerd."""

from overlord.actions import host as host_actions
from overlord.actions.tls import Tls
from overlord.commands.accounts import Accounts
from overlord.errors import OverlordError
from overlord.facts.system import is_container
from overlord.files import read_json
from overlord.firstboot.context import AGAIN, Context, Notes, converge, unit_log
from overlord.host import (
    AGENT_UNIT,
    BACKUP_UNITS,
    CERTIFICATE_TIMER,
    CERTIFICATE_UNIT,
    DOCKER_FILE,
    FILES_TIMER,
    FILES_UNIT,
    GUARD_UNIT,
    LOGS_UNIT,
    STACK_UNIT,
    docker_area,
    fail2ban_area,
    firewall_rules,
    journal_area,
    ssh_area,
    sysctl_area,
    time_area,
    tool_area,
    unit_area,
    updates_area,
)
from overlord.journal import read_boot_state
from overlord.runner import check
from overlord.software import missing, needs, parse_os_release


def tool(context: Context) -> Notes:
    """overlordctl, first of all: whoever comes to look at a failed boot needs it."""
    return converge(context, tool_area())


def software(context: Context) -> Notes:
    """Programs that the cloud image lacks."""
    distribution, codename = parse_os_release((context.paths.root / "etc/os-release").read_text())
    if distribution not in ("debian", "ubuntu"):
        raise OverlordError(
            f"this is {distribution or 'an unknown distribution'}, not Ubuntu 24.04 or Debian 12",
            "set overlord:image in the Pulumi config and rebuild the node",
        )
    wanted = needs("ubuntu" if distribution == "ubuntu" else "debian", codename)
    container = is_container(context.runner)
    lacking = missing(wanted, host_actions.present, container)
    installed = host_actions.install(lacking, context.paths, context.runner, context.download)
    return [f"installed {' '.join(installed)}"] if installed else ["nothing missing"]


def admin(context: Context) -> Notes:
    """The administrator's password, which sudo asks for; sshd never takes it."""
    password_hash = (context.paths.secrets / "admin_password_hash").read_text().strip()
    command = Accounts().set_password_hash(context.node.admin_user, password_hash)
    check(context.runner, command, f"is overlord:adminUser right? {context.node.admin_user} is not")
    return []


def sysctl(context: Context) -> Notes:
    """Kernel settings."""
    area = sysctl_area()
    host_actions.converge(area, context.paths, context.runner)
    refused = host_actions.set_sysctls(area.files[0].content.decode(), context.paths)
    if not refused:
        return []
    if not is_container(context.runner):
        # Not worth stopping for: the file is there, and a kernel may lack a protocol.
        return [f"kernel refused {' '.join(refused)}"]
    return [f"left to the container's host: {len(refused)} settings"]


def ssh(context: Context) -> Notes:
    """Keys only, no root, and the deploy keys of today."""
    host_actions.authorise(context.boot.deploy_user, context.paths)
    (context.paths.root / "run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    return converge(context, ssh_area(context.node, context.boot))


def clock(context: Context) -> Notes:
    """Time from several servers."""
    if is_container(context.runner):
        return ["the clock belongs to the container's host"]
    return converge(context, time_area(context.node))


def firewall(context: Context) -> Notes:
    """The inner firewall."""
    ipv6 = (context.paths.root / "proc/net/if_inet6").exists()
    rules = firewall_rules(context.node, ipv6)
    host_actions.open_firewall(rules, context.runner)
    return [f"{len(rules)} ways in"]


def fail2ban(context: Context) -> Notes:
    """Bans for failed logins."""
    return converge(context, fail2ban_area(context.node))


def updates(context: Context) -> Notes:
    """Security updates, and the check that nothing else changes what is installed."""
    notes = converge(context, updates_area())
    converge(context, unit_area(FILES_UNIT, FILES_TIMER))
    host_actions.ensure_running(
        FILES_TIMER, context.runner, f"see `systemctl status {FILES_TIMER}`"
    )
    return notes


def certificate(context: Context) -> Notes:
    """A certificate for nginx to start with, and the timer that renews it."""
    converge(context, unit_area(CERTIFICATE_UNIT, CERTIFICATE_TIMER))
    remedy = f"see `systemctl status {CERTIFICATE_TIMER}`, {AGAIN}"
    host_actions.ensure_running(CERTIFICATE_TIMER, context.runner, remedy)
    tls = Tls(context.paths, context.runner, context.node)
    outcome = tls.install()
    if outcome.changed and read_boot_state(context.paths).state == "done":
        tls.reload()
    return [outcome.certificate.source]


def journal(context: Context) -> Notes:
    """Logs: kept in the journal, and sent to Loki as soon as there is one."""
    notes = converge(context, journal_area())
    converge(context, unit_area(LOGS_UNIT))
    host_actions.ensure_running(LOGS_UNIT, context.runner, f"see `journalctl -u {LOGS_UNIT}`")
    return notes


def guard(context: Context) -> Notes:
    """The metadata address is not for containers. Before dockerd starts with our settings."""
    converge(context, unit_area(GUARD_UNIT, AGENT_UNIT, STACK_UNIT, *BACKUP_UNITS))
    host_actions.ensure_running(GUARD_UNIT, context.runner, f"see `iptables -S`, {AGAIN}")
    return []


def docker(context: Context) -> Notes:
    """dockerd with our settings."""
    existing = read_json(context.paths.root / DOCKER_FILE)
    with unit_log(context, "docker.service"):
        return converge(context, docker_area(existing))
