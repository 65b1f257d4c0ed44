"""A database with its backups for a test: the rendered configuration, PostgreSQL and pgBackRest of
the sandbox's image, and a locked bucket at an emulated B2, by the nodes' own key."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from overlord.backup.examination import faults, parse_found
from overlord.backup.repository import Repository, parse_info
from overlord.runner import Command, Result
from sandbox.cloud.certificates import ensure_ca
from sandbox.machines.daemon import Daemon
from sandbox.world import World
from stack.render import BackupRepository, render_stack
from tests.contract.conftest import RunningCloud, new_setup
from tests.contract.fakes import FakeDriver, FakeTailnet
from tests.contract.test_s3 import md5, with_md5
from tests.support.programs import docker_daemon
from tests.support.stack import VPS_01

IMAGE = "overlord-sandbox/rootfs-services:latest"
IMAGE_FOLDER = Path("stack/images/postgres").absolute()
TOOL = "/etc/overlord/postgres/pgbackrest-tool"
DATA = "/var/lib/postgresql/data"
POSTGRES = 999
SERVICES = ("postgres", "database-tool")


@dataclass(frozen=True)
class Second:
    """A second repository, at a service of its own."""

    cloud: RunningCloud
    bucket: str


@dataclass(frozen=True)
class Site:
    """A database that archives to a bucket."""

    container: str
    cloud: RunningCloud
    bucket: str
    data: Path
    second: Second | None = None

    def try_(self, *args: str, user: int = POSTGRES) -> subprocess.CompletedProcess[str]:
        """Run a program in the container."""
        world = World.here()
        line = ["docker", f"--host=unix://{world.docker_socket}", "exec", f"--user={user}"]
        return subprocess.run(
            [*line, self.container, *args],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=120,
        )

    def run(self, *args: str, user: int = POSTGRES) -> str:
        """Run a program that has to end well."""
        result = self.try_(*args, user=user)
        assert result.returncode == 0, f"{args}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def tool(self, *args: str) -> str:
        return self.run(TOOL, *args)

    def sql(self, query: str) -> str:
        return self.run("psql", "-XqAt", "-U", "postgres", "-d", "overlord", "-c", query).strip()

    def start(self, folder: str = "pgdata", *environment: str) -> None:
        options = "-c config_file=/etc/overlord/postgres/postgresql.conf -c listen_addresses="
        hba = f"{DATA}/hba"
        self.run("sh", "-c", f"echo 'local all all trust' > {hba}")
        options += f" -c hba_file={hba} -c shared_buffers=64MB"
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
        self.run("rm", "-rf", f"{DATA}/restore-test")
        output = self.tool("examine", f"{DATA}/restore-test")
        return faults(parse_found(output), before, {})


class SiteRunner:
    """Runs the manager's commands in the site's container, whichever service they are for."""

    def __init__(self, here: Site, environment: Mapping[str, str] | None = None) -> None:
        self._here, self.environment = here, dict(environment or {})

    def run(self, command: Command) -> Result:
        """Run to the end, as SystemRunner does."""
        service = min(i for i, word in enumerate(command.args) if word in SERVICES)
        words = command.args[service + 1 :]
        if "--entrypoint" in command.args:
            words = (command.args[command.args.index("--entrypoint") + 1], *words)
        line = " ".join((*(f"{k}={v}" for k, v in self.environment.items()), shlex.join(words)))
        done = self._here.try_("sh", "-c", line)
        return Result(done.returncode, done.stdout, done.stderr)


@contextmanager
def site(
    environment: Mapping[str, str] | None = None, disk: str = "", second: bool = False
) -> Iterator[Site]:
    """A bucket, an empty database, and a stanza for it.

    Args:
        environment: of all programs in the database's container.
        disk: size of a disk of its own for the database, in memory, such as 300m.
        second: whether there is a second repository; its stanza is not made.
    """
    folder = Path(tempfile.mkdtemp(prefix="backup-", dir="/tmp"))
    try:
        with docker_daemon():
            yield from _site(folder, environment or {}, disk, second)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _site(
    folder: Path, environment: Mapping[str, str], disk: str, with_second: bool
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
        with _container(folder, environment, disk) as container:
            here = Site(container, cloud, bucket, folder / "data", second)
            here.run("chown", "999:999", DATA, user=0)
            here.run("initdb", "-D", f"{DATA}/pgdata", "-U", "postgres", "--data-checksums")
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
    for one in (settings, keys, data):
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
    os.chown(data, POSTGRES, POSTGRES)


@contextmanager
def _container(folder: Path, environment: Mapping[str, str], disk: str) -> Iterator[str]:
    world = World.here()
    assert Daemon(world).answers()
    docker = ["docker", f"--host=unix://{world.docker_socket}"]
    name = f"test-backup-{secrets.token_hex(4)}"
    mounts = {
        **{
            f"{IMAGE_FOLDER}/{name}": f"/usr/local/bin/{name}:ro"
            for name in ("database-tool", "overlord-postgres")
        },
        "postgres": "/etc/overlord/postgres:ro",
        "secrets": "/run/secrets:ro",
        "ca/ca.pem": "/etc/overlord/ca-certificates.crt:ro",
        **({} if disk else {"data": DATA}),
    }
    subprocess.run(
        [
            *(*docker, "run", "--detach", "--rm", "--network=host", f"--name={name}"),
            *(f"--volume={folder / source}:{target}" for source, target in mounts.items()),
            *("--tmpfs=/tmp:mode=1777", "--tmpfs=/var/run/postgresql:mode=1777"),
            *((f"--tmpfs={DATA}:size={disk},exec",) if disk else ()),
            *(f"--env={name}={value}" for name, value in environment.items()),
            "--env=PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            # A shell takes leave of the dead, which a plain sleep does not.
            *(
                "--entrypoint=sh",
                IMAGE,
                "-c",
                "i=0; while [ $i -lt 600 ]; do sleep 1; i=$((i+1)); done",
            ),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    try:
        yield name
    finally:
        subprocess.run([*docker, "rm", "--force", name], capture_output=True, check=False)


def objects(here: Site, part: str) -> list[str]:
    pages = here.cloud.s3().get_paginator("list_objects_v2").paginate(Bucket=here.bucket)
    return [o["Key"] for page in pages for o in page.get("Contents", ()) if part in o["Key"]]


def put(here: Site, key: str, body: bytes) -> None:
    here.cloud.s3().put_object(Bucket=here.bucket, Key=key, Body=body, ContentMD5=md5(body))
