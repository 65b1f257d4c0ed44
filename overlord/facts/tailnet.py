"""This node's place in the tailnet."""

import ipaddress
import json
from dataclasses import dataclass

from overlord.commands.tailscale import Tailscale
from overlord.runner import Runner


@dataclass(frozen=True)
class Tailnet:
    """What tailscaled says."""

    state: str
    """Tailscale's word: Running, NeedsLogin, NoState, Stopped, Starting; "" without tailscaled."""
    address: str | None = None
    """IPv4 address on the tailnet."""
    peers_online: int = 0
    peers: int = 0

    @property
    def up(self) -> bool:
        """Whether this node can be reached over the tailnet."""
        return self.state == "Running" and self.address is not None


def read_tailnet(runner: Runner) -> Tailnet:
    """State of the tailnet; never raises."""
    result = runner.run(Tailscale().status())
    try:
        return parse_tailnet(result.output)
    except (ValueError, AttributeError):
        return Tailnet(state="")


def parse_tailnet(text: str) -> Tailnet:
    """From the output of `tailscale status --json`. Raises ValueError."""
    data = json.loads(text)
    own = data.get("TailscaleIPs") or (data.get("Self") or {}).get("TailscaleIPs") or []
    peers = (data.get("Peer") or {}).values()
    return Tailnet(
        state=data.get("BackendState", ""),
        address=next((ip for ip in own if ipaddress.ip_address(ip).version == 4), None),
        peers_online=sum(1 for peer in peers if peer.get("Online")),
        peers=len(peers),
    )
