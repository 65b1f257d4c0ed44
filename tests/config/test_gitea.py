"""The mirror, run as a node runs it: Gitea itself, a database, a node agent and an origin."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from dashboard.migrate import MigrationSettings, migrate
from sandbox.world import World
from stack.mirrors import GitMirror
from stack.render import render_stack
from tests.support.ports import free_port
from tests.support.postgres import running_postgres
from tests.support.programs import command, running
from tests.support.stack import context

USER = "nobody"
FILE = "/overlord/fleet-config/raw/branch/main/manifest.json"


@dataclass
class Node:
    """A node's Gitea, and what a test changes around it."""

    folder: Path
    port: int
    leads: bool = True

    def get(self, path: str) -> str:
        """What Gitea answers; nothing while it does not."""
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
        deadline = time.monotonic() + seconds
        while not condition():
            log = (self.folder / "log").read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s\n{log}"
            time.sleep(0.3)


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def make_origin(folder: Path) -> None:
    """A repository that any web server can serve."""
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    work, bare = folder / "work", folder / "origin" / "config.git"
    work.mkdir()
    for arguments in (
        ["init", "--quiet", "--initial-branch=main", str(work)],
        ["-C", str(work), "add", "."],
        [*author, "-C", str(work), "commit", "--quiet", "--message=first"],
        ["clone", "--quiet", "--bare", str(work), str(bare)],
        ["-C", str(bare), "update-server-info"],
    ):
        (work / "manifest.json").write_text('{"serial": 1}')
        subprocess.run(["git", *arguments], check=True, capture_output=True)


@pytest.fixture
def node() -> Iterator[Node]:
    """A node that may write, with one mirror in its settings."""
    if os.geteuid():
        pytest.skip("only root can become the user that Gitea wants")

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if found.leads else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with tempfile.TemporaryDirectory(prefix="gitea-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_origin(folder)
        found = Node(folder, free_port())
        origin = functools.partial(Quiet, directory=str(folder / "origin"))
        with running_postgres() as server, serving(Agent) as agent, serving(origin) as http:
            server.socket.chmod(0o755)
            password = secrets.token_hex(16)
            migrate(MigrationSettings(str(server.socket), *[password] * 5))  # type: ignore[arg-type]
            mirror = GitMirror("fleet-config", f"http://127.0.0.1:{http}/config.git")
            prepare(found, render_stack(context(git_mirrors=(mirror,))), {
                "/tmp/": f"{folder}/tmp/",
                "/etc/overlord/gitea": f"{folder}/conf",
                "/run/secrets": f"{folder}/secrets",
                "/var/lib/gitea": f"{folder}/data",
                "/usr/local/bin/gitea": f"{folder}/gitea",
                "/var/run/postgresql": str(server.socket),
                "127.0.0.1:9600": f"127.0.0.1:{agent}",
                "3001": str(found.port),
                "round=5 ": "round=1 ",
                # The origin of the test is this machine.
                "[migrations]\n": "[migrations]\nALLOW_LOCALNETWORKS = true\n",
            }, password)  # fmt: skip
            line = ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups"]
            line += ["env", f"HOME={folder}/data", f"GITEA_CUSTOM={folder}/custom"]
            with running([*line, "sh", str(folder / "conf/run.sh")], folder / "log") as process:
                yield found
                process.terminate()
                assert process.wait(timeout=30) == 0


def prepare(node: Node, files: dict[str, bytes], changes: dict[str, str], password: str) -> None:
    """The rendered files in this machine's places, with Gitea beside them."""
    folder = node.folder
    for name in ("conf", "secrets", "tmp", "data"):
        (folder / name).mkdir()
    for secret in ("postgres_gitea_password", "gitea_secret_key"):
        (folder / "secrets" / secret).write_text(password)
    for path, content in files.items():
        if path.startswith("gitea/"):
            text = content.decode()
            for old, new in changes.items():
                text = text.replace(old, new)
            (folder / "conf" / Path(path).name).write_text(text)
    [gitea] = command("gitea")
    shutil.copy2(gitea, folder / "gitea")
    shutil.copytree(World.here().bin / "gitea-files", folder / "custom")
    for name in ("conf", "secrets", "tmp", "data", "custom"):
        for file in (folder / name, *(folder / name).rglob("*")):
            shutil.chown(file, USER, "nogroup")


def test_a_node_mirrors_while_it_may_write_and_makes_up_for_a_disk_without_repositories(
    node: Node,
) -> None:
    def mirrored() -> bool:
        return '"serial": 1' in node.get(FILE)

    node.until("mirrored", mirrored)
    assert node.healthy()

    node.leads = False
    node.until("stopped", lambda: (node.folder / "tmp/waiting").exists())
    node.until("silent", lambda: not node.get("/api/healthz"))
    assert node.healthy()

    # As after a failover: the database knows the repository, the disk does not.
    shutil.rmtree(node.folder / "data/repositories")
    node.leads = True
    node.until("mirrored again", mirrored, 90)
    text = (node.folder / "log").read_text(errors="replace")
    assert text.count("fleet-config mirrors") == 2
