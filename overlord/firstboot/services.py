"""Steps that start what runs on the node, and the end of the boot."""

from collections.abc import Iterator
from contextlib import contextmanager

from overlord.actions import host as host_actions
from overlord.actions import stack as stack_actions
from overlord.actions.secrets import read_shared_secrets, share
from overlord.baseline import keep_baseline
from overlord.commands.accounts import Accounts
from overlord.errors import OverlordError
from overlord.facts.system import read_disk
from overlord.firstboot.context import AGAIN, Context, Notes, forget_boot_secrets, unit_log
from overlord.host import AGENT_UNIT, BACKUP_TIMERS, STACK_UNIT
from overlord.layout import stack_of
from overlord.releases import Releases
from overlord.runner import CommandFailedError, check

SECRETS_GROUP = "overlord-secrets"
IMAGES_NEED_BYTES = 4 * 1024**3
"""Images of the stack, unpacked, with room for what services write at once."""
HEALTHY_TIMEOUT = 420.0


def agent(context: Context) -> Notes:
    """The node agent, and the timers of the backups: they ask it who leads."""
    with unit_log(context, AGENT_UNIT):
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


def share_secrets(context: Context) -> None:
    """Containers may read the secrets that they mount."""
    shared = read_shared_secrets(context.paths.current / "nodes" / context.node.name)
    if shared.names:
        group = Accounts().add_group(SECRETS_GROUP, shared.gid)
        check(context.runner, group, f"is group id {shared.gid} taken?")
    share(shared, context.paths)


def stack(context: Context) -> Notes:
    """Start the services."""
    share_secrets(context)
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
    write down the settings as they are, and the release."""
    with unit_log(context, STACK_UNIT):
        remedy = f"see `journalctl -u {STACK_UNIT}`"
        host_actions.ensure_running(STACK_UNIT, context.runner, remedy)
    names = ("secrets_key", "secrets_url", "bundle_url", "tailscale_auth_key")
    forget_boot_secrets(context.paths, *names)
    keep_baseline(context.paths, context.runner)
    releases = Releases(context.paths)
    current = releases.current() or ""
    releases.record("first-boot", current, "ok")
    return [f"release {current}"]
