"""Two role managers, two real PostgreSQL servers, one arbiter, in seconds instead of minutes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from overlord.actions import database as database_actions
from overlord.arbiter import ArbiterSilentError
from overlord.facts.database import Database, Postgres
from overlord.facts.peer import Peer, parse_peer
from overlord.releases import Releases
from overlord.roles import act, decide, handover, lease, manager, requests
from overlord.roles.decide import Decision
from overlord.roles.view import RoleState, peer_document
from overlord.runner import Command, Result
from tests.support.postgres import postgres_binaries, reachable
from tests.unit.overlord import pair_model
from tests.unit.overlord.fakes import COMPOSE, FakeRunner, tar, write_boot

NODES = ("vps-01", "vps-02")
USER = "nobody" if os.geteuid() == 0 else None


class Server:
    """A PostgreSQL that always starts as a standby, as its container does."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port
        self.binaries = reachable(postgres_binaries()[0], folder)
        self.lock = threading.Lock()

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.binaries / program), *arguments], user=USER, cwd="/",
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}{self.log()}"

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text()[-3000:] if file.exists() else ""

    def initdb(self) -> None:
        self.run(
            "initdb", f"--pgdata={self.data}", "--username=postgres", "--no-sync", "-A", "trust"
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"fsync=off\nport={self.port}\nlisten_addresses='127.0.0.1'\n"
                f"unix_socket_directories='{self.folder}'\nwal_log_hints=on\n"
                "wal_retrieve_retry_interval=200ms\nwal_receiver_status_interval=1\n"
                "wal_sender_timeout=2s\nrestart_after_crash=off\n"
            )

    def start(self) -> None:
        (self.data / "standby.signal").touch()
        self.run(
            "pg_ctl", f"--pgdata={self.data}", "--wait", f"--log={self.folder / 'log'}", "start"
        )

    def stop(self, mode: str = "immediate") -> None:
        with suppress(AssertionError):
            self.run("pg_ctl", f"--pgdata={self.data}", f"--mode={mode}", "stop")

    def restart(self, mode: str) -> None:
        with self.lock:
            self.stop(mode)
            self.start()

    def clone(self, port: int) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self.run("pg_basebackup", f"--dbname=host=127.0.0.1 port={port} user=postgres",
                 f"--pgdata={self.data}", "--checkpoint=fast", "--no-sync")  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"port={self.port}\nunix_socket_directories='{self.folder}'\n")


class LocalNode:
    """A role manager and its server."""

    def __init__(self, pair: LocalPair, name: str, server: Server, root: Path) -> None:
        self.pair, self.name, self.server = pair, name, server
        self.peer_name = next(one for one in NODES if one != name)
        self.paths = write_boot(root, node=name)
        role = "primary" if name == "vps-01" else "standby"
        document = {
            "node": name, "peer": self.peer_name, "role": role, "arbiter": {"url": "model"},
        }  # fmt: skip
        data = tar(
            {
                f"nodes/{name}/node.json": json.dumps(document).encode(),
                f"nodes/{name}/compose.yaml": COMPOSE.encode(),
            }
        )
        releases = Releases(self.paths)
        releases.switch(releases.unpack(data, hashlib.sha256(data).hexdigest()))
        self.paths.run.mkdir(parents=True, exist_ok=True)
        self.state = RoleState()
        self.stop = threading.Event()
        self.cut = False

    def start(self) -> None:
        self.stop = threading.Event()
        self.state = RoleState()
        runner = FakeRunner({"migrate": self._migrate, "clone": self._clone})
        self.manager = manager.RoleManager(self.paths, runner, self.state, self._connect)
        self.manager._postgres = LocalPostgres(self.server)
        threading.Thread(target=self.manager.run, args=(self.stop,), daemon=True).start()

    def power_off(self) -> None:
        self.stop.set()
        self.server.stop()
        self.paths.lease.unlink(missing_ok=True)

    def power_on(self) -> None:
        self.server.start()
        self.start()

    def _connect(self, _url: str, _token: Callable[[], str]) -> Any:
        def send(_method: str, path: str, body: dict[str, Any] | None) -> Any:
            if self.cut or self.stop.is_set():
                raise ArbiterSilentError("cut")
            with self.pair.arbiter_lock:
                return self.pair.arbiter.answer(path, body)

        return send

    def _migrate(self, _: Command) -> Result:
        with psycopg.connect(self.dsn, autocommit=True) as sql:
            sql.execute("CREATE TABLE IF NOT EXISTS writes (id int PRIMARY KEY)")
            with suppress(psycopg.errors.DuplicateObject):
                sql.execute("CREATE ROLE overlord_owner")
            sql.execute("COMMENT ON ROLE overlord_owner IS ''")
            sql.execute("COMMENT ON ROLE overlord_owner IS 'mark'")
        return Result(0)

    def _clone(self, _: Command) -> Result:
        with self.server.lock:
            self.server.stop("fast")
            self.server.clone(self.pair.nodes[self.peer_name].server.port)
            self.server.start()
        return Result(0)

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.server.port} user=postgres dbname=postgres"

    def answer_peer(self) -> Peer | None:
        if self.stop.is_set():
            return None
        return parse_peer(peer_document(self.state.fresh(), time.monotonic()))

    def decision(self) -> Decision | None:
        view = self.state.last()
        return view.decision if view else None

    def decision_state(self) -> str:
        decision = self.decision()
        return decision.state if decision else "none"


class LocalPostgres(Postgres):
    """The server at its port's own socket."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.folder)
        self._port = server.port

    def _connected(self) -> Any:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                host=str(self._socket), port=self._port, user="postgres", dbname="postgres",
                autocommit=True, connect_timeout=3,
                options="-c statement_timeout=3000 -c synchronous_commit=local",
            )  # fmt: skip
        return self._connection


class LocalPair:
    """Both of them."""

    def __init__(self, folder: Path) -> None:
        self.arbiter = pair_model.ModelArbiter(time.monotonic)
        self.arbiter_lock = threading.Lock()
        self.nodes: dict[str, LocalNode] = {}
        self.written = 0
        self.accepted: list[int] = []
        for number, name in enumerate(NODES):
            place = folder / f"s{number}"
            place.mkdir()
            if USER:
                shutil.chown(place, USER)
            server = Server(place, 54000 + os.getpid() % 1000 * 2 + number)
            self.nodes[name] = LocalNode(self, name, server, folder / name)

    def leaders(self) -> list[str]:
        return [
            name
            for name, node in self.nodes.items()
            if not node.stop.is_set() and node.state.writes()[0]
        ]

    def write(self) -> bool:
        """As the API: on the leader, accepted when the commit comes back."""
        for name in self.leaders():
            self.written += 1
            try:
                with psycopg.connect(
                    self.nodes[name].dsn, autocommit=True, connect_timeout=2,
                    options="-c statement_timeout=3000",
                ) as sql:  # fmt: skip
                    sql.execute("INSERT INTO writes VALUES (%s)", [self.written])
            except psycopg.Error:
                return False
            self.accepted.append(self.written)
            return True
        return False

    def missing(self, name: str) -> set[int]:
        with psycopg.connect(self.nodes[name].dsn) as sql:
            found = {row[0] for row in sql.execute("SELECT id FROM writes").fetchall()}
        return set(self.accepted) - found

    def until(self, what: str, condition: Callable[[], object], seconds: float = 30.0) -> float:
        began = time.monotonic()
        while not condition():
            said = {name: node.decision() for name, node in self.nodes.items()}
            assert time.monotonic() - began < seconds, f"{what}: {said}"
            assert len(self.leaders()) <= 1
            time.sleep(0.05)
        return time.monotonic() - began

    def in_sync(self, primary: str, standby: str) -> bool:
        return (
            self.leaders() == [primary]
            and self.arbiter.replication == "sync"
            and self.nodes[standby].decision_state() == "standby"
        )


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPair]:
    # A tenth of the real times.
    for module, name, value in (
        (pair_model, "TTL", 3.0), (pair_model, "GUARD", 0.3), (lease, "MARGIN_SECONDS", 0.8),
        (lease, "RENEW_SECONDS", 0.5), (lease, "ASK_SECONDS", 0.5), (manager, "ROUND_SECONDS", 0.2),
        (manager, "GUARD_SECONDS", 0.05), (decide, "STANDBY_GRACE", 2.0),
        (handover, "API_CACHE_SECONDS", 0.1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    with tempfile.TemporaryDirectory(prefix="pair-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        pair = LocalPair(folder)

        def conninfo(peer: str, node: str) -> str:
            port = pair.nodes[peer].server.port
            return (
                f"host={peer} hostaddr=127.0.0.1 port={port} user=postgres "
                f"application_name={node} sslmode=disable"
            )

        def of(docker_socket: Path) -> LocalNode:
            return next(n for n in pair.nodes.values() if n.paths.docker_socket == docker_socket)

        def restart(docker_socket: Path, _service: str, grace: int) -> None:
            of(docker_socket).server.restart("fast" if grace > 5 else "immediate")

        def call(host: str, _method: str, path: str, body: Any = None) -> dict[str, Any]:
            node = pair.nodes[host]
            if node.stop.is_set():
                raise OSError("off")
            if path == "/pledge":
                seconds = node.manager.pledge(body["epoch"])
                return {"pledged": seconds is not None, "seconds": seconds}
            node.manager.nudge()
            return {"ok": True}

        monkeypatch.setattr(database_actions, "conninfo", conninfo)
        monkeypatch.setattr(act, "restart_container", restart)
        monkeypatch.setattr(handover, "restart_container", restart)
        monkeypatch.setattr(manager, "restart_container", restart)
        monkeypatch.setattr(manager, "read_peer", lambda host: pair.nodes[host].answer_peer())
        monkeypatch.setattr(manager, "call_peer", call)
        monkeypatch.setattr(manager, "has_database", lambda _: True)
        monkeypatch.setattr(manager, "wanted_mark", lambda *_: "mark")
        server_at = {node.paths.database_socket: node.server for node in pair.nodes.values()}
        monkeypatch.setattr(handover, "Postgres", lambda socket: LocalPostgres(server_at[socket]))
        first, second = (pair.nodes[name] for name in NODES)
        try:
            first.server.initdb()
            first.server.start()
            first.start()
            second.stop.set()
            pair.until("a first primary", lambda: pair.leaders() == ["vps-01"])
            second.server.clone(first.server.port)
            second.power_on()
            pair.until("a pair in sync", lambda: pair.in_sync("vps-01", "vps-02"))
            yield pair
        finally:
            for node in pair.nodes.values():
                node.stop.set()
            time.sleep(0.5)
            for node in pair.nodes.values():
                node.server.stop()


@pytest.mark.timeout(180)
def test_power_off_takeover_return_and_switchover_with_real_servers(pair: LocalPair) -> None:
    first, second = (pair.nodes[name] for name in NODES)
    for _ in range(20):
        assert pair.write()
    first.power_off()
    seconds = pair.until("vps-02 takes over", lambda: pair.leaders() == ["vps-02"] and pair.write())
    print(f"\ntakeover after {seconds:.1f} s with a lease of 3 s")
    assert pair.missing("vps-02") == set()

    first.power_on()
    pair.until("vps-01 is its standby", lambda: pair.in_sync("vps-02", "vps-01"), 60)
    for _ in range(20):
        assert pair.write()

    began = time.monotonic()
    requests.send("switchover", second.paths)
    pair.until("vps-01 is primary again", lambda: pair.leaders() == ["vps-01"] and pair.write())
    print(f"switchover after {time.monotonic() - began:.1f} s")
    pair.until("a pair in sync", lambda: pair.in_sync("vps-01", "vps-02"), 60)
    assert pair.missing("vps-01") == set()
    assert len(pair.accepted) >= 42


@pytest.mark.timeout(180)
def test_a_primary_without_arbiter_and_peer_stops_and_a_standby_behind_is_not_promoted(
    pair: LocalPair,
) -> None:
    first, second = (pair.nodes[name] for name in NODES)
    second.power_off()
    pair.until("asynchronous", lambda: pair.arbiter.replication == "async")
    assert pair.write()
    first.cut = True
    pair.until("vps-01 stops", lambda: pair.leaders() == [])
    pair.until("its server is fenced", lambda: recovering(first))
    second.power_on()
    time.sleep(4)
    assert pair.leaders() == []
    first.cut = False
    pair.until("vps-01 goes on", lambda: pair.in_sync("vps-01", "vps-02"), 60)
    assert pair.missing("vps-01") == set()


def recovering(node: LocalNode) -> bool:
    found: Database | None = None
    with suppress(Exception):
        found = LocalPostgres(node.server).read()
    return found is not None and found.in_recovery
