"""headscale: the coordination server of the sandbox's tailnet."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from sandbox.cloud.tailnet import TailnetError, TailnetNode
from sandbox.commands import SandboxError, run
from sandbox.machines.processes import Processes
from sandbox.machines.registry import accepts
from sandbox.world import GATEWAY, HEADSCALE_PORT, HEADSCALE_URL, World

PROCESS = "headscale"
USER = "overlord"
BASE_DOMAIN = "tailnet.internal"
START_SECONDS = 30
# What a new tailnet has at Tailscale: everybody reaches everything.
FIRST_POLICY = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'
# headscale wants at least one relay to be named. There is none: servers reach each other directly,
# and with no relay a cut wire is really cut.
NO_RELAY = {
    "regions": {
        900: {
            "regionid": 900,
            "regioncode": "none",
            "regionname": "no relay in the sandbox",
            "nodes": [
                {
                    "name": "900a",
                    "regionid": 900,
                    "hostname": "relay.invalid",
                    "ipv4": GATEWAY,
                    "stunport": -1,
                }
            ],
        }
    }
}


def configuration(folder: Path, socket: Path) -> str:
    """Render headscale's configuration; everything it keeps is below the folder."""
    return yaml.safe_dump(
        {
            "server_url": HEADSCALE_URL,
            "listen_addr": f"{GATEWAY}:{HEADSCALE_PORT}",
            "metrics_listen_addr": "127.0.0.1:0",
            "grpc_listen_addr": "127.0.0.1:0",
            "noise": {"private_key_path": str(folder / "noise.key")},
            "prefixes": {
                "v4": "100.64.0.0/10",
                "v6": "fd7a:115c:a1e0::/48",
                "allocation": "sequential",
            },
            "derp": {
                "server": {"enabled": False},
                "urls": [],
                "paths": [str(folder / "relays.yaml")],
                "auto_update_enabled": False,
            },
            "disable_check_updates": True,
            "database": {"type": "sqlite", "sqlite": {"path": str(folder / "headscale.sqlite")}},
            "log": {"format": "text", "level": "info"},
            "policy": {"mode": "database"},
            "dns": {
                "magic_dns": True,
                "base_domain": BASE_DOMAIN,
                "override_local_dns": True,
                "nameservers": {"global": [GATEWAY]},
            },
            "unix_socket": str(socket),
            "unix_socket_permission": "0700",
            "logtail": {"enabled": False},
        }
    )


class Headscale:
    """Starts headscale and speaks to it. See `sandbox.cloud.tailnet.Tailnet`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = world.headscale
        self.program = world.bin / "headscale"

    @classmethod
    def of_state(cls, state: Path) -> Headscale:
        """Return the headscale of the world whose state folder this is."""
        return cls(World(state.absolute().parent))

    def start(self) -> None:
        """Start the server unless it runs; the first time with a user and an open policy."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "relays.yaml").write_text(yaml.safe_dump(NO_RELAY))
        config = configuration(self.folder, self.folder / "headscale.sock")
        (self.folder / "config.yaml").write_text(config)
        processes = Processes(self.world)
        processes.start(PROCESS, [self.program, "serve", "-c", self.folder / "config.yaml"])
        processes.wait(PROCESS, lambda: accepts(GATEWAY, HEADSCALE_PORT), START_SECONDS)
        if not self._users():
            self._call("users", "create", USER)
            self.set_policy(FIRST_POLICY)

    def create_preauth_key(
        self, tags: Sequence[str], reusable: bool, ephemeral: bool, expiry_seconds: int
    ) -> tuple[str, str]:
        """Make a key; return (id, key)."""
        flags = [flag for flag, on in (("--reusable", reusable), ("--ephemeral", ephemeral)) if on]
        made = self._json(
            *("preauthkeys", "create", "--user", self._user()),
            *("--expiration", f"{expiry_seconds}s", "--tags", ",".join(tags), *flags),
        )
        return str(made["id"]), str(made["key"])

    def expire_key(self, key_id: str) -> None:
        """End a key. One that is gone already is no error."""
        user = self._user()
        for key in self._json("preauthkeys", "list", "--user", user) or []:
            if str(key["id"]) == key_id and _time(key.get("expiration")) > _now():
                self._call("preauthkeys", "expire", "--user", user, str(key["key"]))

    def set_policy(self, hujson: str) -> None:
        """Put a policy in force, or raise TailnetError with what is wrong with it."""
        self._call("policy", "set", "--file", "/dev/stdin", stdin=hujson)

    def get_policy(self) -> str:
        """Return the policy in force."""
        return self._call("policy", "get")

    def nodes(self) -> list[TailnetNode]:
        """List the machines that joined."""
        return [node_of(entry) for entry in self._json("nodes", "list") or []]

    def delete_node(self, node_id: str) -> None:
        """Remove a machine from the tailnet."""
        self._call("nodes", "delete", "--identifier", node_id, "--force")

    def _users(self) -> list[dict[str, Any]]:
        users: list[dict[str, Any]] = self._json("users", "list") or []
        return users

    def _user(self) -> str:
        for user in self._users():
            if user["name"] == USER:
                return str(user["id"])
        raise TailnetError(f"headscale has no user {USER}; run `make destroy` and `make up`")

    def _call(self, *arguments: str, stdin: str | None = None) -> str:
        try:
            return run(
                [self.program, "--config", self.folder / "config.yaml", *arguments], stdin=stdin
            )
        except SandboxError as error:
            raise TailnetError(reason(str(error))) from error

    def _json(self, *arguments: str) -> Any:
        return json.loads(self._call(*arguments, "--output", "json"))


def reason(output: str) -> str:
    """Take what is of use to a client from headscale's output."""
    found = re.search(r".*(?:desc = |Error: )(.*)", output)
    return found[1].strip() if found else output


def node_of(entry: dict[str, Any]) -> TailnetNode:
    """Read one entry of `headscale nodes list`."""
    tags = {*entry.get("forced_tags", ()), *entry.get("valid_tags", ())}
    return TailnetNode(
        id=str(entry["id"]),
        name=entry.get("given_name") or entry["name"],
        addresses=tuple(entry.get("ip_addresses", ())),
        tags=tuple(sorted(tags)),
        online=bool(entry.get("online")),
        created=_rfc3339(entry.get("created_at")),
        last_seen=_rfc3339(entry.get("last_seen")),
        user=entry.get("user", {}).get("name", ""),
    )


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _time(stamp: dict[str, int] | None) -> float:
    return float(stamp.get("seconds", 0)) if stamp else 0.0


def _rfc3339(stamp: dict[str, int] | None) -> str:
    if not stamp:
        return ""
    return datetime.fromtimestamp(_time(stamp), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
