"""Makes, copies and upgrades the database of a node by the stack's own tools."""

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

import yaml

from overlord.commands.compose import Compose
from overlord.layout import stack_of
from overlord.paths import Paths
from overlord.runner import Command, Runner, check

MARK_VARIABLE = "OVERLORD_MIGRATION_MARK"
SERVICE = "postgres"
TOOL = "database-tool"
"""The service, and the program in it."""


def has_database(paths: Paths) -> bool:
    """Whether there is a database on disk."""
    return (paths.database_volume / "pgdata/PG_VERSION").exists()


def wanted_mark(paths: Paths, node: str) -> str:
    """What the schema should be brought up to: changes with the API's image and with the secrets
    that the tool is given, the passwords of all roles that the release needs."""
    try:
        image, names = _tool(stack_of(paths, node).file.resolve())
        secrets = tuple(paths.secrets / name for name in names)
        return _mark(image, secrets, tuple(secret.stat().st_mtime_ns for secret in secrets))
    except OSError:
        return ""


@functools.lru_cache(maxsize=4)
def _tool(file: Path) -> tuple[str, tuple[str, ...]]:
    """Image and secrets of the tool that brings the schema up; a release's file never changes."""
    tool = yaml.safe_load(file.read_text())["services"]["migrate"]
    return str(tool["image"]), tuple(sorted(tool["secrets"]))


@functools.lru_cache(maxsize=4)
def _mark(image: str, secrets: tuple[Path, ...], _times: tuple[int, ...]) -> str:
    digest = hashlib.sha256(image.encode())
    for secret in secrets:
        digest.update(b"\0" + secret.name.encode() + b"\0" + secret.read_bytes())
    return f"{image.rpartition('/')[2]} {digest.hexdigest()[:16]}"


def migrate_command(compose: Compose, mark: str) -> Command:
    """Bring roles, passwords and schema up to date on a server that takes writes."""
    program = ("python", "-m", "dashboard.migrate")
    command = compose.run("migrate", *program, env=(MARK_VARIABLE,), timeout=600)
    return replace(command, env=((MARK_VARIABLE, mark),))


def init_command(compose: Compose) -> Command:
    """Make a new, empty database on this node."""
    return compose.run(TOOL, TOOL, "init", timeout=3600)


def clone_command(compose: Compose, peer: str) -> Command:
    """Put a copy of the peer's database in place while no server runs; what was here is kept
    aside."""
    return compose.run(TOOL, TOOL, "clone", peer, timeout=3600)


def copy_from_peer(compose: Compose, runner: Runner, peer: str) -> None:
    """Replace the database by a copy of the peer's; what was here is kept aside.

    The server runs again afterwards, whether or not the copy could be made. Raises
    CommandFailedError.
    """
    check(runner, compose.stop_service(SERVICE), f"see `docker ps`, `overlordctl logs {SERVICE}`")
    try:
        check(
            runner,
            clone_command(compose, peer),
            f"is {peer} reachable over the tailnet? see `overlordctl role` there",
        )
    finally:
        check(runner, compose.start(SERVICE), f"see `overlordctl logs {SERVICE}`")


def conninfo(peer: str, node: str) -> str:
    """How this node's server reaches the peer's. The password is in a file of the container."""
    return (
        f"host={peer} port=5432 user=overlord_replication application_name={node} "
        "sslmode=verify-full sslrootcert=/run/secrets/postgres_tls_cert "
        "passfile=/tmp/replication.pgpass connect_timeout=5 "
        "keepalives_idle=5 keepalives_interval=2 keepalives_count=3"
    )
