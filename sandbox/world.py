"""Where everything of the sandbox lives: addresses, ports, names and folders.

The cache outlives the sandbox and holds what takes minutes to make, and buckets with data. The
state folder is one run of the world; ``destroy`` removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# The network of the emulated data centres: documentation ranges, so that no real host is shadowed.
NETWORK = "overlord-sandbox"
BRIDGE = "overlord0"
SUBNET = "198.51.100.0/24"
SUBNET_V6 = "2001:db8::/32"
GATEWAY = "198.51.100.1"
GATEWAY_V6 = "2001:db8::1"
EDGE_ADDRESS = "198.51.100.2"
"""Source address of connections from the edge to an origin."""
FIRST_SERVER_ADDRESS = "198.51.100.10"

# On loopback: what the operator's machine reaches over the internet in production.
LOOPBACK = "127.0.0.1"
CONTROL_PORT = 8800
HETZNER_PORT = 8801
CLOUDFLARE_PORT = 8802
TAILSCALE_PORT = 8803
EDGE_HTTPS_PORT = 8443
EDGE_HTTP_PORT = 8480
# On the gateway: what servers reach over the internet in production.
S3_PORT = 8804
REGISTRY_PORT = 8805
HEADSCALE_PORT = 8806
WORKERS_PORT = 8807
INBOX_PORT = 8808
DNS_PORT = 53

HETZNER_URL = f"http://{LOOPBACK}:{HETZNER_PORT}/v1"
CLOUDFLARE_URL = f"http://{LOOPBACK}:{CLOUDFLARE_PORT}/client/v4"
TAILSCALE_URL = f"http://{LOOPBACK}:{TAILSCALE_PORT}"
CONTROL_URL = f"http://{LOOPBACK}:{CONTROL_PORT}"
S3_URL = f"https://{GATEWAY}:{S3_PORT}"
REGISTRY = f"{GATEWAY}:{REGISTRY_PORT}"
WORKERS_URL = f"https://{GATEWAY}:{WORKERS_PORT}"
HEADSCALE_URL = f"http://{GATEWAY}:{HEADSCALE_PORT}"
INBOX_URL = f"http://{GATEWAY}:{INBOX_PORT}"
"""What people would get: messages of alert channels and dead man's switches."""

SAVED_BUCKET = ".bucket"
"""How the name of a bucket's file ends."""
DOMAIN = "overlord.localhost"
"""Browsers and curl resolve every name under .localhost to loopback (RFC 6761)."""
PUBLIC_NAME = f"fleet.{DOMAIN}"
PUBLIC_URL = f"https://{PUBLIC_NAME}:{EDGE_HTTPS_PORT}/"


def vendor_id(kind: str) -> str:
    """Return the 32 hex digits that name the sandbox's zone or account: ``vendor_id("zone")``."""
    return hashlib.sha256(f"{kind}:{DOMAIN}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class World:
    """The folders of one sandbox. Nothing is created by looking at them."""

    cache: Path

    @classmethod
    def here(cls) -> World:
        """Return the world of this user: $OVERLORD_CACHE, else overlord/ in the XDG cache."""
        own = os.environ.get("OVERLORD_CACHE")
        shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(Path(own).absolute() if own else shared / "overlord")

    @property
    def bin(self) -> Path:
        """Programs that were built or fetched."""
        return self.cache / "bin"

    @property
    def stamps(self) -> Path:
        """What each built program and image was made from."""
        return self.cache / "stamps"

    @property
    def logs_of_install(self) -> Path:
        """Output of builds; kept, since a failed build is looked at later."""
        return self.cache / "log"

    @property
    def ca(self) -> Path:
        """The certificate authority: ca.pem and ca.key."""
        return self.cache / "ca"

    @property
    def registry(self) -> Path:
        """Storage of the image registry."""
        return self.cache / "registry"

    @property
    def pulumi_cache(self) -> Path:
        """Home of the Pulumi CLI during installation: official plugins are kept here."""
        return self.cache / "pulumi"

    @property
    def docker_data(self) -> Path:
        """Data root of our Docker daemon: images stay, servers do not."""
        return self.cache / "docker"

    @property
    def state(self) -> Path:
        """Everything that is gone after ``destroy``."""
        return self.cache / "sandbox"

    @property
    def kept(self) -> Path:
        """What outlives ``destroy`` while a bucket holds data: Pulumi's state, with the key that
        the backups are encrypted with, the tokens, and the buckets."""
        return self.cache / "kept"

    @property
    def kept_buckets(self) -> Path:
        """One file a bucket, its name and SAVED_BUCKET."""
        return self.kept / "buckets"

    @property
    def pulumi_state(self) -> Path:
        """Pulumi's state backend."""
        return self.state / "pulumi"

    @property
    def docker_runtime(self) -> Path:
        """Exec root and socket of our Docker daemon."""
        return self.state / "docker"

    @property
    def docker_socket(self) -> Path:
        """The daemon's socket. Its path must fit in the 107 bytes that the kernel allows."""
        return self.docker_runtime / "docker.sock"

    @property
    def processes(self) -> Path:
        """One file a process that ``up`` started."""
        return self.state / "processes"

    @property
    def log(self) -> Path:
        """One file a process, and one a server's console."""
        return self.state / "log"

    @property
    def seeds(self) -> Path:
        """The cloud-init seed of each server."""
        return self.state / "seeds"

    @property
    def headscale(self) -> Path:
        """Configuration, keys and database of headscale."""
        return self.state / "headscale"

    @property
    def tokens(self) -> Path:
        """Secrets that the emulated vendors accept, mode 0600."""
        return self.state / "tokens.json"

    @property
    def ca_bundle(self) -> Path:
        """What this machine trusts anyway, and the sandbox's authority."""
        return self.state / "ca-bundle.pem"


def ensure_tokens(path: Path) -> dict[str, str]:
    """Return the tokens of this world; make random ones in the vendors' shapes at first."""
    if path.exists():
        tokens: dict[str, str] = json.loads(path.read_text())
        return tokens
    alphabet = string.ascii_letters + string.digits

    def word(length: int) -> str:
        return "".join(secrets.choice(alphabet) for _ in range(length))

    tokens = {
        "hcloud": word(64),
        "hcloud_read": word(64),
        "cloudflare": word(40),
        "cloudflare_dns": word(40),
        "tailscale": f"tskey-api-{word(16)}-{word(32)}",
        "b2_key_id": f"00{secrets.token_hex(11)}1",
        "b2_key": f"K00{word(28)}",
        "b2_node_key_id": f"00{secrets.token_hex(11)}2",
        "b2_node_key": f"K00{word(28)}",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(tokens, file, indent=2)
    return tokens
