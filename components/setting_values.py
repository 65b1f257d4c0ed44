"""Checks of single settings: each says what is wrong with a value, in words."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from components.setting_base import LABEL, is_loopback, wrong

FLEET_SIZES = (50, 100, 250, 500)

_HEX_ID = re.compile(r"^[0-9a-f]{32}$")
_IMAGE = re.compile(r"^(ubuntu|debian)-\d+(\.\d+)?$")
_REGISTRY = re.compile(r"^[a-z0-9.-]+(:\d{1,5})?(/[a-z0-9._-]+)*$")
_SERVER_TYPE = re.compile(r"^[a-z]{2,4}\d{2,3}[a-z]?$")
_KEY_KINDS = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)

# Users and groups that exist on a fresh Ubuntu or Debian, and the deploy user. A new user also gets
# a group of its name, so a taken group (such as operator) is as bad as a taken user.
# fmt: off
_TAKEN_NAMES = frozenset({
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy",
    "www-data", "backup", "list", "irc", "gnats", "nobody", "_apt", "adm", "tty", "disk", "kmem",
    "dialout", "fax", "voice", "cdrom", "floppy", "tape", "sudo", "audio", "dip", "operator",
    "src", "shadow", "utmp", "video", "sasl", "plugdev", "staff", "users", "nogroup", "messagebus",
    "syslog", "systemd-network", "systemd-resolve", "systemd-timesync", "sshd", "docker", "ubuntu",
    "debian", "overlord-deploy",
})
# fmt: on


def _hex_id(value: str) -> str:
    if not _HEX_ID.match(value):
        raise wrong(f"{value!r} is not 32 hexadecimal digits")
    return value


def _plain_name(value: str) -> str:
    if not re.fullmatch(LABEL, value) or len(value) > 32:
        raise wrong(f"{value!r} is no plain name")
    return value


def _user_name(value: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", value):
        raise wrong(f"{value!r} is no Linux user name")
    if value in _TAKEN_NAMES:
        raise wrong(f"{value!r} is taken on every server")
    return value


def _admin_cidr(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise wrong(f"{value!r} is no network: {error}") from None
    if network.prefixlen == 0:
        raise wrong(f"{value} opens SSH to the whole internet")
    if network.prefixlen < (8 if network.version == 4 else 16):
        raise wrong(f"{value} opens SSH to {network.num_addresses:,} addresses")
    return str(network)


def at_least(count: int) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Checks a list's length after its items: a wrong item is not also a missing one."""

    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        if len(values) < count:
            raise wrong(f"{len(values)} given, at least {count} needed")
        return values

    return check


def _ssh_key(value: str) -> str:
    parts = value.split()
    if "PRIVATE" in value:
        raise wrong("this is a private key; it must stay where it is (and counts as leaked now)")
    if "\n" in value.strip() or len(parts) < 2:
        raise wrong(f"{value[:20]!r}… is no SSH public key on one line")
    if parts[0] not in _KEY_KINDS:
        raise wrong(f"key type {parts[0][:40]!r} is not accepted")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    if not parts[0].startswith("sk-"):
        try:
            key = load_ssh_public_key(" ".join(parts[:2]).encode())
        except (ValueError, UnsupportedAlgorithm):
            raise wrong(f"the {parts[0]} key is damaged or cut short") from None
        if isinstance(key, RSAPublicKey) and key.key_size < 3072:
            raise wrong(f"an RSA key of {key.key_size} bits is too short")
    return " ".join(parts)


def _image(value: str) -> str:
    if not _IMAGE.match(value):
        raise wrong(f"{value!r} is no image that the first boot knows")
    return value


def _registry(value: str) -> str:
    if not _REGISTRY.match(value):
        raise wrong(f"{value!r} is no registry")
    return value


def _server_type(value: str) -> str:
    if not _SERVER_TYPE.match(value):
        raise wrong(f"{value!r} does not look like a Hetzner server type")
    return value


def _location(value: str) -> str:
    if re.fullmatch(r"[a-z]{3}\d?-dc\d+", value):
        raise wrong(f"{value!r} is a data centre; Hetzner removed those from its API")
    if not re.fullmatch(r"[a-z]{3}\d?", value):
        raise wrong(f"{value!r} is no Hetzner location")
    return value


def _login_server(value: str) -> str:
    """A tailnet control server. Its protocol encrypts by itself, so http may do inside a LAN."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise wrong(f"{value!r} is no http or https address")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        try:
            public = ipaddress.ip_address(parts.hostname).is_global
        except ValueError:
            public = True
        if public:
            raise wrong(f"{value} is http across the internet")
    return value.rstrip("/")


def _bucket_prefix(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{4,50}", value) or value.startswith("b2-"):
        raise wrong(f"{value!r} cannot begin a bucket name")
    return value


def _fleet_size(value: int) -> int:
    if value not in FLEET_SIZES:
        raise wrong(f"there is no size for {value} devices")
    return value


HexId = Annotated[str, AfterValidator(_hex_id)]
PlainName = Annotated[str, AfterValidator(_plain_name)]
UserName = Annotated[str, AfterValidator(_user_name)]
AdminCidr = Annotated[str, AfterValidator(_admin_cidr)]
SshKey = Annotated[str, AfterValidator(_ssh_key)]
Image = Annotated[str, AfterValidator(_image)]
Registry = Annotated[str, AfterValidator(_registry)]
ServerType = Annotated[str, AfterValidator(_server_type)]
Location = Annotated[str, AfterValidator(_location)]
LoginServer = Annotated[str, AfterValidator(_login_server)]
BucketPrefix = Annotated[str, AfterValidator(_bucket_prefix)]
FleetSize = Annotated[int, AfterValidator(_fleet_size)]
Days = Annotated[int, Field(ge=1, le=3650)]
LogDays = Annotated[int, Field(ge=30, le=3650)]
