"""A node of its own for a service that runs where the database takes writes.

Its rendered files in this machine's places, a database, and a node agent that says who leads.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from dashboard.migrate import MigrationSettings, migrate
from tests.support.ports import free_port
from tests.support.postgres import running_postgres
from tests.support.programs import running

USER = "nobody"


@dataclass
class LeaderNode:
    """A node's service, and what a test changes around it.

    Args:
        folder: below it `conf`, `secrets`, `tmp`, `data` and the service's `log`.
        port: of the service.
        password: every secret of the service.
        agent: port of the node agent.
        database: folder of the database's socket.
        leads: what the node agent answers.
        epoch: of its right to write.
    """

    folder: Path
    port: int
    password: str
    agent: int
    database: Path
    leads: bool = True
    epoch: int = 1

    def get(self, path: str) -> str:
        """What the service answers; nothing while it does not."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=5)
        except httpx.HTTPError:
            return ""
        return answer.text if answer.status_code == 200 else ""

    def healthy(self) -> bool:
        """What the container's health check says."""
        check = ["sh", str(self.folder / "conf/healthy.sh")]
        return subprocess.run(check, check=False, capture_output=True).returncode == 0

    def until(self, what: str, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait for a condition; fail with the end of the log after the deadline."""
        deadline = time.monotonic() + seconds
        while not condition():
            log = (self.folder / "log").read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s\n{log}"
            time.sleep(0.3)

    def place(
        self, service: str, files: Mapping[str, bytes], secret: Sequence[str], **changes: str
    ) -> None:
        """Put the service's rendered files into this machine's places.

        Args:
            service: its folder in the stack.
            files: the rendered stack.
            secret: names of its secrets.
            changes: what else to replace in its files, under any name: "old -> new".
        """
        for name in ("conf", "secrets", "tmp", "data"):
            (self.folder / name).mkdir()
        for name in secret:
            (self.folder / "secrets" / name).write_text(self.password)
        replaced = {
            "/tmp/": f"{self.folder}/tmp/",
            f"/etc/overlord/{service}": f"{self.folder}/conf",
            "/run/secrets": f"{self.folder}/secrets",
            f"/var/lib/{service}": f"{self.folder}/data",
            "/var/run/postgresql": str(self.database),
            "127.0.0.1:9600": f"127.0.0.1:{self.agent}",
            "round=5 ": "round=1 ",
            **dict(change.split(" -> ") for change in changes.values()),
        }
        for path, content in files.items():
            if path.startswith(f"{service}/"):
                text = content.decode()
                for old, new in replaced.items():
                    text = text.replace(old, new)
                (self.folder / "conf" / Path(path).name).write_text(text)

    @contextmanager
    def runs(self, **environment: str) -> Iterator[None]:
        """Run the service as another user for as long as the block; it must end well."""
        for file in (self.folder, *self.folder.rglob("*")):
            if file != self.folder:
                shutil.chown(file, USER, "nogroup")
        variables = [f"{name}={value}" for name, value in environment.items()]
        line = ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups"]
        line += ["env", f"HOME={self.folder}/data", *variables]
        line += ["sh", str(self.folder / "conf/run.sh")]
        with running(line, self.folder / "log") as process:
            yield
            process.terminate()
            assert process.wait(timeout=30) == 0


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[int]:
    """A web server on loopback; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def leader_node(service: str) -> Iterator[LeaderNode]:
    """A node that leads, with a database that is migrated. Skips without root."""
    if os.geteuid():
        pytest.skip(f"only root can become the user that {service} wants")
    nodes: list[LeaderNode] = []

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            leads = bool(nodes) and nodes[0].leads
            self.send_response(200 if leads else 503)
            self.end_headers()
            body = {"leader": leads} | ({"epoch": nodes[0].epoch} if leads else {})
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with (
        tempfile.TemporaryDirectory(prefix=f"{service}-", dir="/tmp") as name,
        running_postgres() as server,
        serving(Agent) as agent,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        server.socket.chmod(0o755)
        password = secrets.token_hex(16)
        # One password for all: superuser, API, replication, monitor, Gitea and OpenBao.
        migrate(MigrationSettings(str(server.socket), *[password] * 6))  # type: ignore[arg-type]
        nodes.append(LeaderNode(folder, free_port(), password, agent, server.socket))
        yield nodes[0]
