"""A database with its backups for a test: the rendered configuration, PostgreSQL and pgBackRest of
the sandbox's image, and a locked bucket at an emulated B2, by the nodes' own key."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from overlord.backup.examination import Found, faults, parse_found
from overlord.backup.repository import Repository, parse_info
from overlord.runner import Command, Result
from sandbox.cloud.certificates import ensure_ca
from sandbox.machines.daemon import Daemon
from sandbox.world import World
from stack.render import BackupRepository, render_stack
from tests.contract.conftest import RunningCloud, new_setup
from tests.contract.fakes import FakeDriver, FakeTailnet
from tests.contract.test_s3 import md5, with_md5
from tests.support.memory_disk import memory_disk
from tests.support.programs import docker_daemon
from tests.support.stack import VPS_01

IMAGE = "overlord-sandbox/rootfs-services:latest"
IMAGE_FOLDER = Path("stack/images/postgres").absolute()
TOOL = "/etc/overlord/postgres/pgbackrest-tool"
DATA = "/var/lib/postgresql/data"
POSTGRES = 999
SERVICES = ("postgres", "database-tool")


def _docker() -> tuple[str, ...]:
    return "docker", f"--host=unix://{World.here().docker_socket}"


@dataclass(frozen=True)
class Second:
    """A second repository, at a service of its own."""

    cloud: RunningCloud
    bucket: str


@dataclass(frozen=True)
class Site:
    """A database that archives to a bucket.

    Args:
        data: the volume of the database, as this machine sees it.
        socket: the folder of PostgreSQL's socket, likewise.
        line: the command that starts the container.
    """

    container: str
    line: tuple[str, ...]
    cloud: RunningCloud
    bucket: str
    data: Path
    socket: Path
    second: Second | None = None

    def try_(
        self, *args: str, user: int = POSTGRES, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the container."""
        return subprocess.run(
            [*_docker(), "exec", f"--user={user}", self.container, *args],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
        )

    def run(self, *args: str, user: int = POSTGRES, timeout: float = 120) -> str:
        """Run a program that has to end well."""
        result = self.try_(*args, user=user, timeout=timeout)
        assert result.returncode == 0, f"{args}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def tool(self, *args: str, timeout: float = 120) -> str:
        return self.run(TOOL, *args, timeout=timeout)

    def sql(self, query: str, timeout: float = 120) -> str:
        line = ("psql", "-XqAt", "-U", "postgres", "-d", "overlord", "-c", query)
        return self.run(*line, timeout=timeout).strip()

    def processes(self, words: str) -> list[int]:
        """Of the container, those whose command line matches; their ids on this machine."""
        top = subprocess.run(
            [*_docker(), "top", self.container, "-eo", "pid,args"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        lines = (line.split(maxsplit=1) for line in top.stdout.splitlines()[1:])
        return [int(line[0]) for line in lines if len(line) == 2 and re.search(words, line[1])]

    def start(
        self, folder: str = "pgdata", *environment: str, settings: Sequence[str] = ()
    ) -> None:
        """Start the server.

        Args:
            settings: each such as `wal_level=minimal`, over those of the node.
        """
        hba = f"{DATA}/hba"
        lines = "local all all trust\\nlocal replication all trust\\n"
        self.run("sh", "-c", f"printf '{lines}' > {hba}")
        given = (
            *("config_file=/etc/overlord/postgres/postgresql.conf", "listen_addresses="),
            *(f"hba_file={hba}", "shared_buffers=64MB", *settings),
        )
        options = " ".join(f"-c {one}" for one in given)
        self.run(
            *("env", *environment, "pg_ctl", "-D", f"{DATA}/{folder}", "-s", "-w"),
            *("-l", f"{DATA}/log", "-o", options, "start"),
        )

    def stop(self, folder: str = "pgdata") -> None:
        self.run("pg_ctl", "-D", f"{DATA}/{folder}", "-s", "-w", "-m", "fast", "stop")

    def repository(self) -> Repository:
        return parse_info(self.tool("--output=json", "info"))

    def back_up(self, kind: str = "full") -> None:
        self.tool("mark", secrets.token_hex(8))
        self.tool(f"--type={kind}", "backup")

    def flush(self) -> None:
        """Put all of the log into the archive."""
        self.sql("SELECT pg_switch_wal()")
        self.tool("check")

    def examine(self) -> tuple[str, ...]:
        """What the nightly restore test says."""
        before = self.repository()
        return faults(self.restored(), before, {})

    def restored(self) -> Found:
        """What is in the database that the nightly restore test restores. Fails where there is
        damage or the restore did not end well."""
        self.run("rm", "-rf", f"{DATA}/restore-test")
        return parse_found(self.tool("examine", f"{DATA}/restore-test"))

    def lose_node(self) -> None:
        """Kill everything in the container at once; its volume stays."""
        subprocess.run(
            [*_docker(), "kill", "--signal=KILL", self.container],
            capture_output=True,
            check=True,
            timeout=60,
        )
        wait_for(lambda: not _exists(self.container), "the container is still there", 30)

    def new_node(self) -> None:
        """A new container on the same volume. What was in memory is gone; no server runs yet."""
        for file in self.socket.iterdir():
            file.unlink()
        # On a node PostgreSQL is always process 1, and so knows this file for its own.
        (self.data / "pgdata" / "postmaster.pid").unlink(missing_ok=True)
        subprocess.run(self.line, check=True, capture_output=True, timeout=60)


class SiteRunner:
    """Runs the manager's commands in the site's container, whichever service they are for."""

    def __init__(self, here: Site, environment: Mapping[str, str] | None = None) -> None:
        self._here, self.environment = here, dict(environment or {})

    def run(self, command: Command) -> Result:
        """Run to the end, as SystemRunner does."""
        if "--entrypoint" in command.args:
            at = command.args.index("--entrypoint")
            words = (command.args[at + 1], *command.args[at + 3 :])
            for word, volume in pairwise(command.args[:at]):
                if word == "--volume":
                    self._mount(*volume.split(":")[:2])
        else:
            service = next(i for i, word in enumerate(command.args) if word in SERVICES)
            words = command.args[service + 1 :]
        line = " ".join((*(f"{k}={v}" for k, v in self.environment.items()), shlex.join(words)))
        done = self._here.try_("sh", "-c", line, timeout=command.timeout)
        return Result(done.returncode, done.stdout, done.stderr)

    def _mount(self, source: str, target: str) -> None:
        """Show a folder below the site's data, as a volume would."""
        inside = Path(DATA) / Path(source).relative_to(self._here.data)
        self._here.run("ln", "-sfn", str(inside), target, user=0)


@contextmanager
def site(
    environment: Mapping[str, str] | None = None,
    disk: str = "",
    second: bool = False,
    seconds: int = 600,
    durable: bool = False,
) -> Iterator[Site]:
    """A bucket, an empty database, and a stanza for it.

    Args:
        environment: of all programs in the database's container.
        disk: size of a disk of its own for the database, in memory, such as 300m.
        second: whether there is a second repository; its stanza is not made.
        seconds: how long it lives at the most.
        durable: whether it is on this machine's disk, as where the disk is what is measured. Else
            it is in memory, which outlives whatever is killed here and has no wait for a sync.
    """
    folder = Path(tempfile.mkdtemp(prefix="backup-", dir="/tmp"))
    try:
        with docker_daemon(), nullcontext() if durable else memory_disk(folder, "50%"):
            yield from _site(folder, environment or {}, disk, second, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _site(
    folder: Path, environment: Mapping[str, str], disk: str, with_second: bool, seconds: int
) -> Iterator[Site]:
    folder.chmod(0o755)
    ca = folder / "ca"
    ca.mkdir()
    ensure_ca(ca)
    with _bucket(folder / "state", ca) as (cloud, bucket), ExitStack() as more:
        second = None
        if with_second:
            second = Second(*more.enter_context(_bucket(folder / "second", ca)))
        _write_settings(folder, cloud, bucket, second)
        with _container(folder, environment, disk, seconds) as (container, line):
            volume, socket = folder / "data", folder / "socket"
            here = Site(container, line, cloud, bucket, volume, socket, second)
            here.run("chown", "999:999", DATA, user=0)
            kind = ("--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums")
            here.run("initdb", "-D", f"{DATA}/pgdata", "-U", "postgres", *kind)
            here.start()
            here.run("createdb", "-U", "postgres", "overlord")
            here.tool("stanza-create")
            yield here


@contextmanager
def _bucket(state: Path, ca: Path) -> Iterator[tuple[RunningCloud, str]]:
    state.mkdir()
    cloud = RunningCloud(new_setup(state, ca), FakeDriver(), FakeTailnet())
    # moto keeps its buckets in the process, whatever cloud made them.
    bucket = f"overlord-test-{secrets.token_hex(4)}"
    try:
        owner = with_md5(cloud.s3())
        owner.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 14}}
        owner.put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
        yield cloud, bucket
    finally:
        cloud.stop()


def _write_settings(folder: Path, cloud: RunningCloud, bucket: str, second: Second | None) -> None:
    backup = BackupRepository(cloud.url("s3"), "eu-central-003", bucket, retention_days=30)
    more = None
    if second:
        url = second.cloud.url("s3")
        more = BackupRepository(url, "us-west-004", second.bucket, retention_days=30)
    settings, keys, data = folder / "postgres", folder / "secrets", folder / "data"
    socket = folder / "socket"
    for one in (settings, keys, data, socket):
        one.mkdir()
    for path, content in render_stack(replace(VPS_01, backup=backup, second_backup=more)).items():
        if path.startswith("postgres/"):
            file = folder / path
            file.write_bytes(content)
            file.chmod(0o755 if content.startswith(b"#!") else 0o644)
    (keys / "b2_key_id").write_text(cloud.tokens.b2_node_key_id)
    (keys / "b2_key").write_text(cloud.tokens.b2_node_key)
    if second:
        (keys / "second_b2_key_id").write_text(second.cloud.tokens.b2_node_key_id)
        (keys / "second_b2_key").write_text(second.cloud.tokens.b2_node_key)
    (keys / "backup_cipher_key").write_text(secrets.token_hex(20))
    (keys / "postgres_replication_password").write_text(secrets.token_hex(20))
    for one in (data, socket):
        os.chown(one, POSTGRES, POSTGRES)


@contextmanager
def _container(
    folder: Path, environment: Mapping[str, str], disk: str, seconds: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    assert Daemon(World.here()).answers()
    name = f"test-backup-{secrets.token_hex(4)}"
    mounts = {
        **{
            f"{IMAGE_FOLDER}/{name}": f"/usr/local/bin/{name}:ro"
            for name in ("database-tool", "overlord-postgres")
        },
        "postgres": "/etc/overlord/postgres:ro",
        "secrets": "/run/secrets:ro",
        "ca/ca.pem": "/etc/overlord/ca-certificates.crt:ro",
        "socket": "/var/run/postgresql",
        **({} if disk else {"data": DATA}),
    }
    line = (
        *(*_docker(), "run", "--detach", "--rm", "--network=host", f"--name={name}"),
        *(f"--volume={folder / source}:{target}" for source, target in mounts.items()),
        "--tmpfs=/tmp:mode=1777",
        *((f"--tmpfs={DATA}:size={disk},exec",) if disk else ()),
        *(f"--env={name}={value}" for name, value in environment.items()),
        "--env=PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        # A shell takes leave of the dead, which a plain sleep does not.
        *("--entrypoint=sh", IMAGE, "-c"),
        f"i=0; while [ $i -lt {seconds} ]; do sleep 1; i=$((i+1)); done",
    )
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    try:
        yield name, line
    finally:
        subprocess.run([*_docker(), "rm", "--force", name], capture_output=True, check=False)


def _exists(container: str) -> bool:
    line = [*_docker(), "container", "inspect", container]
    return subprocess.run(line, capture_output=True, check=False, timeout=30).returncode == 0


def wait_for(condition: Callable[[], bool], otherwise: str, seconds: float) -> None:
    """Wait until something holds. Raises AssertionError with what it is otherwise."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def objects(here: Site, part: str) -> list[str]:
    pages = here.cloud.s3().get_paginator("list_objects_v2").paginate(Bucket=here.bucket)
    return [o["Key"] for page in pages for o in page.get("Contents", ()) if part in o["Key"]]


def put(here: Site, key: str, body: bytes) -> None:
    here.cloud.s3().put_object(Bucket=here.bucket, Key=key, Body=body, ContentMD5=md5(body))
