"""What the end-to-end tests hold: the sandbox, its Pulumi, its nodes, the vendors' clients."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import requests
import yaml
from botocore.config import Config
from hcloud import Client
from hcloud.servers.domain import CreateServerResponse

from sandbox import world as fixed
from sandbox.machines.daemon import Docker
from sandbox.world import World

REPOSITORY = Path(__file__).resolve().parents[2]
STACK = "sandbox"
CLOUDFLARE = fixed.CLOUDFLARE_URL
ZONE = fixed.vendor_id("zone")


@dataclass(frozen=True)
class Run:
    """A command that ended.

    Args:
        code: exit code.
        text: both outputs, in the order in which they came.
        seconds: wall time.
    """

    code: int
    text: str
    seconds: float

    def must(self) -> Run:
        """This run, or a failure that shows the end of its output."""
        assert self.code == 0, f"exit code {self.code}\n{self.text[-6000:]}"
        return self


def command(
    argv: list[str], *, env: Mapping[str, str] | None = None, cwd: Path = REPOSITORY, timeout: float
) -> Run:
    """Run a command to its end."""
    started = time.monotonic()
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    return Run(done.returncode, done.stdout, time.monotonic() - started)


def eventually(
    what: str, condition: Callable[[], Any], seconds: float, *, pause: float = 0.5
) -> Any:
    """Wait until a condition gives something true; fail with its last answer after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s; last: {answer!r}"
        time.sleep(pause)


@contextmanager
def public_connection(tls: ssl.SSLContext, seconds: float) -> Iterator[http.client.HTTPConnection]:
    """A connection to the public name, at the edge's address: Python resolves no names below
    localhost. Raises OSError, as does what is asked over it and takes longer."""
    name = urlsplit(fixed.PUBLIC_URL)
    # The name's port goes into the Host header; the wire is TLS already.
    connection = http.client.HTTPConnection(str(name.hostname), name.port)
    try:
        plain = socket.create_connection(("127.0.0.1", name.port or 443), timeout=seconds)
        connection.sock = tls.wrap_socket(plain, server_hostname=name.hostname)
        yield connection
    finally:
        connection.close()


@dataclass(frozen=True)
class SandboxWorld:
    """A sandbox that is up."""

    world: World = field(default_factory=World.here)

    @property
    def env(self) -> dict[str, str]:
        """What `python -m sandbox env` exports."""
        shown = command([sys.executable, "-m", "sandbox", "env"], timeout=60).must().text
        pairs = [shlex.split(line)[1] for line in shown.splitlines() if line.startswith("export ")]
        return {
            key: value.replace("$PATH", os.environ["PATH"])
            for key, _, value in (pair.partition("=") for pair in pairs)
        }

    # Pulumi

    def pulumi(self, *arguments: str, project: Path = REPOSITORY, timeout: float = 1500) -> Run:
        """Run Pulumi on the sandbox's stack."""
        words = ["pulumi", *arguments, "--stack", STACK, "--non-interactive"]
        return command(
            [shutil.which("pulumi", path=self.env["PATH"]) or "pulumi", *words[1:]],
            env=self.env,
            cwd=project,
            timeout=timeout,
        )

    def up(self, project: Path = REPOSITORY, timeout: float = 1500) -> Run:
        """`pulumi up`."""
        return self.pulumi("up", "--yes", "--skip-preview", project=project, timeout=timeout)

    def planned(self, project: Path = REPOSITORY) -> dict[str, str]:
        """What a preview would do: the operation by resource name, unchanged ones left out."""
        run = self.pulumi("preview", "--json", project=project).must()
        document = json.loads(run.text[run.text.index("{") :])
        return {
            step["urn"].rsplit("::", 1)[-1]: step["op"]
            for step in document["steps"]
            if step["op"] not in {"same", "read", "refresh"}
        }

    def output(self, name: str) -> Any:
        """A stack output, secrets shown."""
        run = self.pulumi("stack", "output", name, "--json", "--show-secrets").must()
        return json.loads(run.text)

    # Nodes

    def on_node(self, node: str, *argv: str, check: bool = True, timeout: float = 120) -> Run:
        """Run a command as root on a node, past its SSH."""
        container = self.docker(
            "ps", "--quiet", "--filter", f"label=overlord.server.name={node}"
        ).strip()
        assert container, f"no running server is named {node}"
        env = Docker(self.world).env
        run = command(["docker", "exec", container, *argv], env=env, timeout=timeout)
        return run.must() if check else run

    def status_of(self, node: str) -> dict[str, Any]:
        """What a node says of itself: `overlordctl status --json`."""
        return dict(json.loads(self.on_node(node, "overlordctl", "status", "--json").text))

    def query(self, node: str, sql: str, *, timeout: float = 120) -> str:
        """Ask a node's database as its superuser; rows in lines, columns between bars."""
        return self.on_node(
            node, "docker", "exec", "overlord-postgres-1",
            "psql", "-U", "postgres", "-d", "overlord", "-XAtc", sql, timeout=timeout,
        ).text.strip()  # fmt: skip

    def ask_prometheus(self, node: str, expression: str) -> list[tuple[dict[str, str], str]]:
        """Ask a node's Prometheus; labels and value of each series."""
        text = self.on_node(
            node, "curl", "-s", "--data-urlencode", f"query={expression}",
            "http://127.0.0.1:9090/api/v1/query",
        ).text  # fmt: skip
        answer = json.loads(text)
        assert answer["status"] == "success", answer
        return [(one["metric"], one["value"][1]) for one in answer["data"]["result"]]

    def docker(self, *arguments: str) -> str:
        """Docker of the sandbox itself, which runs the servers."""
        return Docker(self.world)(*arguments)

    # The public name

    def fetch(self, path: str, *, method: str = "GET", token: str = "", body: Any = None) -> Run:
        """Ask the public name over HTTPS, as a person would; the text is the body."""
        argv = ["curl", "-sS", "--max-time", "20", "--cacert", str(self.world.ca / "ca.pem")]
        argv += ["-X", method, "-w", "\n%{http_code}"]
        if token:
            argv += ["-H", f"Authorization: Bearer {token}"]
        if body is not None:
            argv += ["-H", "Content-Type: application/json", "--data", json.dumps(body)]
        run = command([*argv, fixed.PUBLIC_URL.rstrip("/") + path], timeout=30)
        text, _, status = run.text.rpartition("\n")
        return Run(int(status) if status.isdigit() else 0, text, run.seconds)

    # The vendors

    @property
    def hetzner(self) -> Client:
        """Hetzner's own client."""
        return Client(token=self.env["HCLOUD_TOKEN"], api_endpoint=fixed.HETZNER_URL)

    def order_server(self, name: str, **order: Any) -> CreateServerResponse:
        """Order a server by hand, as someone else in the same project would."""
        image = self.hetzner.images.get_by_name_and_architecture("debian-12", "x86")
        assert image is not None
        server_type = self.hetzner.server_types.get_by_name("cpx32")
        assert server_type is not None
        return self.hetzner.servers.create(name=name, server_type=server_type, image=image, **order)

    def servers(self) -> dict[str, dict[str, Any]]:
        """Hetzner's own description of each server, by name."""
        return {server["name"]: server for server in self.vendor_bodies("servers")}

    def vendor_bodies(self, kind: str) -> list[dict[str, Any]]:
        """Raw bodies of a kind of Hetzner's objects."""
        answer = requests.get(
            f"{fixed.HETZNER_URL}/{kind}",
            params={"per_page": "50"},
            headers={"Authorization": f"Bearer {self.env['HCLOUD_TOKEN']}"},
            timeout=20,
        )
        answer.raise_for_status()
        return list(answer.json()[kind])

    def cloudflare(self, method: str, path: str, body: Any = None) -> Any:
        """A call to Cloudflare's API; its result."""
        token = self.env["CLOUDFLARE_API_TOKEN"]
        answer = requests.request(
            method,
            CLOUDFLARE + path,
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
        )
        answer.raise_for_status()
        return answer.json()["result"]

    @property
    def s3(self) -> Any:
        """The S3 client of the operator."""
        env = self.env
        return boto3.client(  # type: ignore[no-untyped-call]
            "s3",
            endpoint_url=fixed.S3_URL,
            region_name="eu-central-003",
            aws_access_key_id=env["OVERLORD_B2_KEY_ID"],
            aws_secret_access_key=env["OVERLORD_B2_KEY"],
            verify=env["AWS_CA_BUNDLE"],
            config=Config(  # type: ignore[no-untyped-call]
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def vendors(self) -> dict[str, Any]:
        """Everything that the emulated vendors hold, from the sandbox's control address."""
        return dict(requests.get(f"{fixed.CONTROL_URL}/status", timeout=10).json())

    def fault(self, **what: Any) -> None:
        """Make a vendor misbehave; see sandbox/cloud."""
        requests.post(f"{fixed.CONTROL_URL}/faults", json=what, timeout=10).raise_for_status()

    def fair_weather(self) -> None:
        """Take every fault back."""
        requests.delete(f"{fixed.CONTROL_URL}/faults", timeout=10).raise_for_status()


def project_copy(folder: Path, *, config: Mapping[str, Any] | None = None) -> Path:
    """A copy of the project as it stands, so that a test may edit it.

    Args:
        folder: where to.
        config: settings of Pulumi.sandbox.yaml to change; None as a value removes one.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = REPOSITORY / name
        if source.is_file() and not name.startswith(("tests/", "docs/", "dashboard/web/")):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    if config:
        file = folder / f"Pulumi.{STACK}.yaml"
        document = yaml.safe_load(file.read_text())
        for key, value in config.items():
            if value is None:
                document["config"].pop(key, None)
            else:
                document["config"][key] = value
        file.write_text(yaml.safe_dump(document))
    return folder
