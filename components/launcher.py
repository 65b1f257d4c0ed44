"""Renders the user_data of a node: the launcher in cloud-init/ and what it needs to start."""

import base64
import gzip
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stack.yaml_text import read_yaml

MAX_USER_DATA_BYTES = 32 * 1024
"""Hetzner Cloud refuses longer user_data (API reference, POST /servers)."""

DEPLOY_USER = "overlord-deploy"
LAUNCHER = "/usr/local/sbin/overlord-launch"
CTL = "/usr/local/bin/overlordctl"

_TEMPLATES = Path(__file__).resolve().parent.parent / "cloud-init"


@dataclass(frozen=True)
class BootSettings:
    """What a node must know before it has its bundle.

    Secret fields are worthless an hour later: presigned links, a key that opens one sealed
    document, a single-use tailnet key.
    """

    node: str
    fqdn: str
    bundle_url: str = field(repr=False)
    bundle_sha256: str
    secrets_url: str = field(repr=False)
    secrets_sha256: str
    """Checksum of the sealed document, not of its content."""
    secrets_key: str = field(repr=False)
    """Fernet key of the sealed document."""
    tailscale_auth_key: str = field(repr=False)
    tailscale_tags: tuple[str, ...]
    admin_user: str
    admin_ssh_keys: tuple[str, ...]
    deploy_public_key: str
    admin_cidrs: tuple[str, ...]
    ntp_servers: tuple[str, ...]
    tailscale_login_server: str | None = None
    """Control server other than Tailscale's own."""
    timezone: str = "UTC"


class UserDataTooLongError(ValueError):
    """The rendered user_data is longer than Hetzner takes."""


def render_user_data(boot: BootSettings) -> str:
    """The user_data of one node, the same text for the same settings.

    Raises UserDataTooLongError above MAX_USER_DATA_BYTES.
    """
    config: dict[str, Any] = {
        "hostname": boot.node,
        "fqdn": boot.fqdn,
        "timezone": boot.timezone,
        "users": [_deploy_user(boot), _admin_user(boot)],
        "write_files": _files(boot),
        **read_yaml(_template("cloud-config.yaml")),
    }
    text = "#cloud-config\n" + yaml.dump(
        config, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True
    )
    size = len(text.encode())
    if size > MAX_USER_DATA_BYTES:
        raise UserDataTooLongError(
            f"user_data of {boot.node} has {size} bytes, Hetzner takes {MAX_USER_DATA_BYTES}: "
            f"give fewer of the {len(boot.admin_ssh_keys)} keys in overlord:adminSshKeys, "
            "or Ed25519 keys instead of RSA"
        )
    return text


def _deploy_user(boot: BootSettings) -> dict[str, Any]:
    return {
        "name": DEPLOY_USER,
        "gecos": "Overlord deployment",
        "shell": "/bin/bash",
        "lock_passwd": True,
        # Text and not a list, which cloud-init 22.4 of Debian 12 has no schema for.
        "sudo": f"ALL=(root) NOPASSWD: {LAUNCHER}, {CTL}",
        # A key for two commands needs neither forwarding nor a terminal.
        "ssh_authorized_keys": [f"restrict {boot.deploy_public_key.strip()}"],
    }


def _admin_user(boot: BootSettings) -> dict[str, Any]:
    # Locked until first boot sets the password hash from the secrets; sudo asks for it.
    return {
        "name": boot.admin_user,
        "gecos": "Overlord administrator",
        "groups": ["adm", "sudo"],
        "shell": "/bin/bash",
        "lock_passwd": True,
        "ssh_authorized_keys": [key.strip() for key in boot.admin_ssh_keys],
    }


def _files(boot: BootSettings) -> list[dict[str, str]]:
    units = "/etc/systemd/system"
    return [
        {
            "path": "/etc/overlord/boot.json",
            "permissions": "0600",
            "content": json.dumps(_boot_document(boot), indent=1) + "\n",
        },
        {
            "path": LAUNCHER,
            "permissions": "0755",
            "encoding": "gz+b64",  # leaves room for twenty RSA keys
            "content": _packed(_template("overlord-launch")),
        },
        {
            "path": f"{units}/overlord-boot.service",
            "permissions": "0644",
            "content": _template("overlord-boot.service"),
        },
        {
            "path": f"{units}/multi-user.target.d/overlord-boot.conf",
            "permissions": "0644",
            "content": _template("overlord-boot.conf"),
        },
    ]


def _boot_document(boot: BootSettings) -> dict[str, Any]:
    return {
        "version": 1,
        "node": boot.node,
        "fqdn": boot.fqdn,
        "bundle_url": boot.bundle_url,
        "bundle_sha256": boot.bundle_sha256,
        "secrets_url": boot.secrets_url,
        "secrets_sha256": boot.secrets_sha256,
        "secrets_key": boot.secrets_key,
        "tailscale_auth_key": boot.tailscale_auth_key,
        "tailscale_login_server": boot.tailscale_login_server,
        "tailscale_tags": list(boot.tailscale_tags),
        "admin_user": boot.admin_user,
        "deploy_user": DEPLOY_USER,
        "admin_cidrs": list(boot.admin_cidrs),
        "ntp_servers": list(boot.ntp_servers),
    }


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _packed(text: str) -> str:
    packed = io.BytesIO()
    # No name and no time in the header, so that equal text packs to equal bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as file:
        file.write(text.encode())
    return base64.b64encode(packed.getvalue()).decode()


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a readable block."""


def _block_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block_text)
