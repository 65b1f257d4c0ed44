"""The step that joins the tailnet."""

from overlord.actions import host as host_actions
from overlord.actions import stack as stack_actions
from overlord.commands.tailscale import Tailscale
from overlord.errors import OverlordError
from overlord.facts.tailnet import read_tailnet
from overlord.files import write
from overlord.firstboot.context import AGAIN, Context, Notes, forget_boot_secrets, unit_log
from overlord.runner import CommandFailedError

ADDRESS_TIMEOUT = 120.0
KEY_REFUSED = ("expired", "invalid key", "not valid", "authkey", "already used", "been used")
"""What Tailscale and headscale say of a key that no longer opens the door."""


def tailnet(context: Context) -> Notes:
    """Join the tailnet once, then forget the key."""
    runner, paths = context.runner, context.paths
    with unit_log(context, "tailscaled.service"):
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
