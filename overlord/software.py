"""Which programs a node needs, and the packages they come from on Debian 12 and Ubuntu 24.04."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Distribution = Literal["debian", "ubuntu"]


@dataclass(frozen=True)
class Repository:
    """A package repository beside the distribution's own."""

    name: str
    key_url: str
    """Binary OpenPGP key ring."""
    key_fingerprint: str
    """Of the primary key, from the vendor's installation page."""
    line: str
    """For sources.list, with {keyring} and {architecture}."""


def tailscale_repository(distribution: Distribution, codename: str) -> Repository:
    """https://tailscale.com/kb/1031/install-linux"""
    base = f"https://pkgs.tailscale.com/stable/{distribution}"
    return Repository(
        name="tailscale",
        key_url=f"{base}/{codename}.noarmor.gpg",
        key_fingerprint="2596A99EAAB33821893C0A79458CA832957F5868",
        line=f"deb [signed-by={{keyring}}] {base} {codename} main",
    )


def docker_repository(distribution: Distribution, codename: str) -> Repository:
    """https://docs.docker.com/engine/install/debian/"""
    base = f"https://download.docker.com/linux/{distribution}"
    return Repository(
        name="docker",
        key_url=f"{base}/gpg",
        key_fingerprint="9DC858229FC7DD38854AE2D88D81803C0EBFCD88",
        line=f"deb [arch={{architecture}} signed-by={{keyring}}] {base} {codename} stable",
    )


@dataclass(frozen=True)
class Need:
    """A program, how to see that it is there, and where it comes from if not."""

    program: str
    packages: tuple[str, ...]
    repository: Repository | None = None
    only_on_real_machine: bool = False
    """Not needed where the host of a container does it."""
    module: bool = False
    """A module of the distribution's Python and not a program on PATH."""


def needs(distribution: Distribution, codename: str) -> tuple[Need, ...]:
    """All that the distribution's cloud image may lack."""
    if distribution == "ubuntu":
        # From the archive: security updates then come by the usual way.
        docker = Need("docker", ("docker.io", "docker-compose-v2"))
        compose = Need("docker-compose", ("docker-compose-v2",))
    else:
        # Debian 12 has no version 2 of docker compose.
        repository = docker_repository(distribution, codename)
        docker = Need("docker", ("docker-ce", "docker-ce-cli", "containerd.io"), repository)
        compose = Need("docker-compose", ("docker-compose-plugin",), repository)
    return (
        docker,
        compose,
        Need("tailscale", ("tailscale",), tailscale_repository(distribution, codename)),
        Need("iptables", ("iptables",)),
        Need("ufw", ("ufw",)),
        Need("certbot", ("certbot",)),
        Need("fail2ban-server", ("fail2ban", "python3-systemd")),
        Need("unattended-upgrade", ("unattended-upgrades",)),
        Need("chronyd", ("chrony",), only_on_real_machine=True),
        # The role manager's way to PostgreSQL.
        Need("psycopg", ("python3-psycopg",), module=True),
    )


def missing(
    wanted: tuple[Need, ...], present: Callable[[Need], bool], container: bool
) -> tuple[Need, ...]:
    """What has to be installed."""
    return tuple(
        need
        for need in wanted
        if not (need.only_on_real_machine and container) and not present(need)
    )


def parse_os_release(content: str) -> tuple[str, str]:
    """ID and VERSION_CODENAME of /etc/os-release."""
    fields = {
        key: value.strip('"')
        for key, separator, value in (line.partition("=") for line in content.splitlines())
        if separator
    }
    return fields.get("ID", ""), fields.get("VERSION_CODENAME", "")
