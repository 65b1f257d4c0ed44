"""First boot from the bundle on: the steps that make a bare server a node.

The launcher has done the steps before (packages, secrets, host-key, bundle). Each step here
changes nothing when it is run a second time, so a reboot half-way only costs time.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from overlord.actions import database as database_actions
from overlord.actions import host as host_actions
from overlord.actions import stack as stack_actions
from overlord.actions.secrets import read_shared_secrets, share
from overlord.actions.tls import Tls
from overlord.arbiter import Arbiter, ArbiterSilentError, ArbiterState, https
from overlord.backup.causes import failure
from overlord.backup.restore import recovery_notes
from overlord.backup.source import Look, Source, backups_word, choose, look_at
from overlord.commands.accounts import Accounts
from overlord.commands.backup import BackupTool
from overlord.commands.systemd import Systemd
from overlord.commands.tailscale import Tailscale
from overlord.errors import OverlordError
from overlord.facts.peer import Peer, read_peer
from overlord.facts.system import is_container, read_disk
from overlord.facts.tailnet import read_tailnet
from overlord.files import read_json, write, write_json
from overlord.host import (
    AGENT_UNIT,
    BACKUP_TIMERS,
    BACKUP_UNITS,
    CERTIFICATE_TIMER,
    CERTIFICATE_UNIT,
    DOCKER_FILE,
    FILES_TIMER,
    FILES_UNIT,
    GUARD_UNIT,
    LOGS_UNIT,
    STACK_UNIT,
    Area,
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
from overlord.journal import Journal, read_boot_state, uptime_id
from overlord.layout import stack_of
from overlord.node import BootSettings, Node, read_backup_terms, read_boot_settings, read_node
from overlord.paths import Paths
from overlord.releases import Releases
from overlord.roles.origin import (
    Clone,
    Init,
    Keep,
    OriginFacts,
    Restore,
    Stop,
    Wait,
    decide_origin,
)
from overlord.runner import CommandFailedError, Runner, SystemRunner, check
from overlord.software import missing, needs, parse_os_release

SECRETS_GROUP = "overlord-secrets"
IMAGES_NEED_BYTES = 4 * 1024**3
"""Images of the stack, unpacked, with room for what services write at once."""
ADDRESS_TIMEOUT = 120.0
HEALTHY_TIMEOUT = 420.0
ORIGIN_PAUSE = 2.0
RESTORE_PAUSES = (10.0, 30.0, 0.0)
KEY_REFUSED = ("expired", "invalid key", "not valid", "authkey", "already used", "been used")
"""What Tailscale and headscale say of a key that no longer opens the door."""
AGAIN = "then run `sudo overlord-launch run`"


@dataclass(frozen=True)
class Context:
    """What a step works with."""

    paths: Paths
    runner: Runner
    boot: BootSettings
    node: Node
    download: Callable[[str], bytes]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    ask_peer: Callable[[str], Peer | None] = read_peer
    ask_arbiter: "Callable[[Context], ArbiterState]" = lambda context: _ask_arbiter(context)


Notes = Sequence[str]
StepFunction = Callable[[Context], Notes]


def tool(context: Context) -> Notes:
    """overlordctl, first of all: whoever comes to look at a failed boot needs it."""
    return _converge(context, tool_area())


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
    return _converge(context, ssh_area(context.node, context.boot))


def clock(context: Context) -> Notes:
    """Time from several servers."""
    if is_container(context.runner):
        return ["the clock belongs to the container's host"]
    return _converge(context, time_area(context.node))


def firewall(context: Context) -> Notes:
    """The inner firewall."""
    ipv6 = (context.paths.root / "proc/net/if_inet6").exists()
    rules = firewall_rules(context.node, ipv6)
    host_actions.open_firewall(rules, context.runner)
    return [f"{len(rules)} ways in"]


def fail2ban(context: Context) -> Notes:
    """Bans for failed logins."""
    return _converge(context, fail2ban_area(context.node))


def updates(context: Context) -> Notes:
    """Security updates, and the check that nothing else changes what is installed."""
    notes = _converge(context, updates_area())
    _converge(context, unit_area(FILES_UNIT, FILES_TIMER))
    host_actions.ensure_running(
        FILES_TIMER, context.runner, f"see `systemctl status {FILES_TIMER}`"
    )
    return notes


def certificate(context: Context) -> Notes:
    """A certificate for nginx to start with, and the timer that renews it."""
    _converge(context, unit_area(CERTIFICATE_UNIT, CERTIFICATE_TIMER))
    remedy = f"see `systemctl status {CERTIFICATE_TIMER}`, {AGAIN}"
    host_actions.ensure_running(CERTIFICATE_TIMER, context.runner, remedy)
    tls = Tls(context.paths, context.runner, context.node)
    outcome = tls.install()
    if outcome.changed and read_boot_state(context.paths).state == "done":
        tls.reload()
    return [outcome.certificate.source]


def journal(context: Context) -> Notes:
    """Logs: kept in the journal, and sent to Loki as soon as there is one."""
    notes = _converge(context, journal_area())
    _converge(context, unit_area(LOGS_UNIT))
    host_actions.ensure_running(LOGS_UNIT, context.runner, f"see `journalctl -u {LOGS_UNIT}`")
    return notes


def guard(context: Context) -> Notes:
    """The metadata address is not for containers. Before dockerd starts with our settings."""
    _converge(context, unit_area(GUARD_UNIT, AGENT_UNIT, STACK_UNIT, *BACKUP_UNITS))
    host_actions.ensure_running(GUARD_UNIT, context.runner, f"see `iptables -S`, {AGAIN}")
    return []


def docker(context: Context) -> Notes:
    """dockerd with our settings."""
    existing = read_json(context.paths.root / DOCKER_FILE)
    with _unit_log(context, "docker.service"):
        return _converge(context, docker_area(existing))


def tailnet(context: Context) -> Notes:
    """Join the tailnet once, then forget the key."""
    runner, paths = context.runner, context.paths
    with _unit_log(context, "tailscaled.service"):
        remedy = "see `journalctl -u tailscaled`"
        host_actions.ensure_running("tailscaled.service", runner, remedy)
    state = _settled_tailnet(context)
    if state not in ("Running", "Starting"):
        _join(context)
    forget_boot_secrets(paths, "tailscale_auth_key")
    address = stack_actions.prepare_environment(runner, paths, ADDRESS_TIMEOUT, context.sleep)
    return [address]


def _settled_tailnet(context: Context) -> str:
    # Right after its start tailscaled says NoState for a moment.
    for _ in range(20):
        state = read_tailnet(context.runner).state
        if state not in ("", "NoState"):
            return state
        context.sleep(0.5)
    return state


def _join(context: Context) -> None:
    key = context.boot.tailscale_auth_key
    rebuild = f"a key works once and for one hour: set `overlord:rebuild: {context.node.name}`"
    if key is None:
        raise OverlordError(
            "not in the tailnet, and the key is used up", f"{rebuild} and run `pulumi up`"
        )
    file = context.paths.run / "tailscale.key"
    try:
        write(file, key.encode(), 0o600)
        command = Tailscale().up(file, context.node.name, context.boot.tailscale_login_server)
        result = context.runner.run(command)
    finally:
        file.unlink(missing_ok=True)
    if result.code == 0:
        return
    said = (result.errors + result.output).lower()
    if any(words in said for words in KEY_REFUSED):
        raise CommandFailedError(command, result, f"{rebuild} and run `pulumi up`")
    raise CommandFailedError(
        command, result, f"is the control server reachable? see `journalctl -u tailscaled`, {AGAIN}"
    )


def agent(context: Context) -> Notes:
    """The node agent, and the timers of the backups: they ask it who leads."""
    with _unit_log(context, AGENT_UNIT):
        remedy = f"see `journalctl -u {AGENT_UNIT}`"
        host_actions.ensure_running(AGENT_UNIT, context.runner, remedy)
    for timer in BACKUP_TIMERS:
        host_actions.ensure_running(timer, context.runner, f"see `systemctl status {timer}`")
    return []


def images(context: Context) -> Notes:
    """Fetch the images of the stack."""
    disk = read_disk(context.paths.root / "var/lib/docker")
    if disk.free < IMAGES_NEED_BYTES:
        raise OverlordError(
            f"{disk.path} has {disk.free / 1024**3:.1f} GiB free, "
            f"the images need {IMAGES_NEED_BYTES / 1024**3:.0f} GiB",
            f"free space or choose a larger server type (overlord:serverTypes), {AGAIN}",
        )
    command = stack_of(context.paths, context.node.name).pull()
    for pause in (5, 20, 60):
        result = context.runner.run(command)
        if result.code == 0:
            return []
        context.sleep(pause)
    raise CommandFailedError(
        command, result, f"is the registry reachable and does it have the image? {AGAIN}"
    )


def database(context: Context) -> Notes:
    """The database: kept, copied from the peer, restored, or made where there never was any."""
    _share_secrets(context)
    compose = stack_of(context.paths, context.node.name)
    tool = "database-tool"
    began = context.clock()
    said = ""
    while True:
        origin = decide_origin(_origin_facts(context, context.clock() - began))
        match origin:
            case Keep():
                return ["kept what is there"]
            case Init():
                check(context.runner, compose.run(tool, "init"), f"free space?, {AGAIN}")
                return ["made an empty one"]
            case Clone(peer):
                command = compose.run(tool, "clone", peer)
                if context.runner.run(command).code == 0:
                    return [f"copied from {peer}"]
                # The peer may have gone meanwhile: what it says now decides.
                reason = f"copying from {peer} failed"
            case Restore():
                return _restore(context)
            case Wait(reason):
                pass
            case Stop(what, remedy):
                raise OverlordError(what, f"{remedy}, {AGAIN}")
        if reason != said:
            said = reason
            print(f"first boot: database: waiting: {reason}", flush=True)
        context.sleep(ORIGIN_PAUSE)


def _restore(context: Context) -> Notes:
    source = _source(context)
    tool = BackupTool(
        stack_of(context.paths, context.node.name), which=source.which if source else ""
    )
    last_segment = source.last_segment if source else ""
    second = " of the second repository" if source and source.number == 2 else ""
    for pause in RESTORE_PAUSES:
        result = context.runner.run(tool.restore(None))
        if result.code == 0:
            notes = recovery_notes(result.output, last_segment)
            return [f"restored the newest backup{second}", *notes]
        context.sleep(pause)
    error = failure("the restore", tool.restore(None), result, "see the runbook of backups")
    raise OverlordError(
        error.what,
        f"the backups are as they were; {error.remedy}; see "
        f"docs/operations/disaster-recovery.md, {AGAIN}",
    )


def _origin_facts(context: Context, waited: float) -> OriginFacts:
    facts = OriginFacts(
        data=database_actions.has_database(context.paths),
        role=context.node.role,
        peer_name=context.node.peer,
        peer=context.ask_peer(context.node.peer),
        arbiter=_arbiters_word(context),
        waited=waited,
    )
    if not facts.asks_for_backup:
        return facts
    return replace(facts, backup=backups_word(_looks(context)))


def _looks(context: Context) -> list[Look]:
    tool = BackupTool(stack_of(context.paths, context.node.name))
    count = len(read_backup_terms(context.paths, context.boot).repositories)
    return look_at(context.runner, tool.of_each(count))


def _source(context: Context) -> Source | None:
    """Where a restore starts; None where that is not clear any more: then from the first alone."""
    looks = _looks(context)
    return choose(looks, None) if backups_word(looks) == "exists" else None


def _arbiters_word(context: Context) -> Literal["none", "silent", "empty", "known"]:
    if context.node.arbiter is None:
        return "none"
    try:
        state = context.ask_arbiter(context)
    except (ArbiterSilentError, OSError):
        return "silent"
    return "known" if state.cluster else "empty"


def _ask_arbiter(context: Context) -> ArbiterState:
    secret = context.paths.secrets / "arbiter_token"
    send = https(context.node.arbiter or "", lambda: secret.read_text().strip())
    return Arbiter(context.node.name, send).state()


def _share_secrets(context: Context) -> None:
    """Containers may read the secrets that they mount."""
    shared = read_shared_secrets(context.paths.current / "nodes" / context.node.name)
    if shared.names:
        group = Accounts().add_group(SECRETS_GROUP, shared.gid)
        check(context.runner, group, f"is group id {shared.gid} taken?")
    share(shared, context.paths)


def stack(context: Context) -> Notes:
    """Start the services."""
    _share_secrets(context)
    compose = stack_of(context.paths, context.node.name)
    with _service_logs(context):
        stack_actions.start(compose, context.runner, context.paths.docker_socket)
    return []


def healthy(context: Context) -> Notes:
    """Every service is healthy."""
    paths, name = context.paths, context.node.name
    with _service_logs(context):
        count = stack_actions.wait_healthy(
            paths, name, HEALTHY_TIMEOUT, context.sleep, context.clock
        )
    return [f"{count} services"]


@contextmanager
def _service_logs(context: Context) -> Iterator[None]:
    """Put what failing services said last into the step's log."""
    try:
        yield
    except stack_actions.UnhealthyError as error:
        compose = stack_of(context.paths, context.node.name)
        for service in sorted(error.services):
            context.runner.run(compose.logs(service, lines=12))
        raise


def finish(context: Context) -> Notes:
    """Let systemd start the stack from now on, forget what user_data brought and is used up, and
    write down the release."""
    with _unit_log(context, STACK_UNIT):
        remedy = f"see `journalctl -u {STACK_UNIT}`"
        host_actions.ensure_running(STACK_UNIT, context.runner, remedy)
    names = ("secrets_key", "secrets_url", "bundle_url", "tailscale_auth_key")
    forget_boot_secrets(context.paths, *names)
    releases = Releases(context.paths)
    current = releases.current() or ""
    releases.record("first-boot", current, "ok")
    return [f"release {current}"]


STEPS: tuple[tuple[str, StepFunction], ...] = (
    ("tool", tool),
    ("software", software),
    ("admin", admin),
    ("sysctl", sysctl),
    ("ssh", ssh),
    ("clock", clock),
    ("firewall", firewall),
    ("fail2ban", fail2ban),
    ("updates", updates),
    ("certificate", certificate),
    ("journal", journal),
    ("guard", guard),
    ("docker", docker),
    ("tailnet", tailnet),
    ("agent", agent),
    ("images", images),
    ("database", database),
    ("stack", stack),
    ("healthy", healthy),
    ("finish", finish),
)


VOLATILE = frozenset({"tailnet", "stack"})
"""Steps whose work a reboot undoes: compose.env is in memory, and services have to start again."""


def run_steps(
    context: Context,
    steps: tuple[tuple[str, StepFunction], ...] = STEPS,
    say: Callable[[str], object] = print,
) -> bool:
    """Run the steps that are not done yet; False when one failed, which the journal then names."""
    journal = Journal(context.paths)
    release = Releases(context.paths).current() or ""
    uptime = uptime_id(context.paths)
    for name, function in steps:
        if journal.state.is_done(name, release, uptime if name in VOLATILE else None):
            continue
        say(f"first boot: {name} …")
        try:
            journal.begin(name, release, uptime)
            with _StepLog(context, name) as logged:
                notes = function(logged)
        except OverlordError as error:
            journal.fail(name, error.what, error.remedy)
        except OSError as error:
            journal.fail(name, *_explain_os_error(error, context, name))
        except Exception as error:
            log = context.paths.step_logs / f"{name}.log"
            journal.fail(name, f"{type(error).__name__}: {error}", f"read {log}, {AGAIN}")
        else:
            journal.done(name, notes)
            continue
        failed = journal.state.failed
        if failed:
            say(f"first boot: step {name} failed: {failed.error}\n  what to do: {failed.remedy}")
        return False
    return True


class _StepLog:
    """Runs a step with what its commands say in the step's own log."""

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._file = context.paths.step_logs / f"{name}.log"

    def __enter__(self) -> Context:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._file.open("a", encoding="utf-8")
        if isinstance(self._context.runner, SystemRunner):
            return replace(self._context, runner=SystemRunner(self._log))
        return self._context

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk has been named by then
            self._log.close()


@contextmanager
def _unit_log(context: Context, unit: str) -> Iterator[None]:
    """Put what a failing unit said last into the step's log."""
    try:
        yield
    except CommandFailedError:
        context.runner.run(Systemd().journal(unit))
        raise


def _explain_os_error(error: OSError, context: Context, name: str) -> tuple[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        paths = context.paths
        folders = (paths.opt, paths.state, paths.secrets, paths.root / "var/lib/docker")
        full = [disk.path for disk in map(read_disk, folders) if disk.free < 1024**2]
        return (
            f"no space left on the disk of {error.filename or ' and '.join(full) or 'this node'}",
            f"free space or choose a larger server type (overlord:serverTypes), {AGAIN}",
        )
    log = context.paths.step_logs / f"{name}.log"
    return f"{type(error).__name__}: {error}", f"read {log}, {AGAIN}"


def _converge(context: Context, area: Area) -> Notes:
    changed = host_actions.converge(area, context.paths, context.runner)
    return [] if changed else ["as it should be"]


def forget_boot_secrets(paths: Paths, *names: str) -> None:
    """Remove used-up secrets from boot.json."""
    data = read_json(paths.boot_settings)
    left = {key: value for key, value in data.items() if key not in names}
    if left != data:
        write_json(paths.boot_settings, left, 0o600)


def main(paths: Paths, download: Callable[[str], bytes]) -> bool:
    """The whole of it on this machine. Raises OverlordError when not even the node is known."""
    os.umask(0o022)
    boot = read_boot_settings(paths)
    node = read_node(paths, boot)
    return run_steps(Context(paths, SystemRunner(), boot, node, download))


def log_tail(paths: Paths, name: str, lines: int = 15) -> list[str]:
    """What a step said last."""
    file: Path = paths.step_logs / f"{name}.log"
    with suppress(OSError):
        return file.read_text(errors="replace").splitlines()[-lines:]
    return []
