"""OpenBao, run as a node runs it: its own program, a database and a node agent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from stack.render import render_stack
from tests.support.leader import LeaderNode, leader_node
from tests.support.ports import free_port
from tests.support.programs import command
from tests.support.stack import context

SECRETS = ("openbao_admin_password", "openbao_seal_key", "postgres_openbao_password")


@pytest.fixture
def node() -> Iterator[LeaderNode]:
    """A node that may write, with OpenBao switched on."""
    [program] = command("bao")
    with leader_node("openbao") as found:
        mesh = free_port()
        found.place(
            "openbao", render_stack(context()), SECRETS,
            loopback=f"127.0.0.1:8200 -> 127.0.0.1:{found.port}",
            mesh=f"TAILNET_ADDRESS:8200 -> TAILNET_ADDRESS:{mesh}",
            program=f"exec bao -> exec {found.folder}/bao",
            check=f" bao status ->  {found.folder}/bao status",
        )  # fmt: skip
        shutil.copy2(program, found.folder / "bao")
        with found.runs(OPENBAO_MESH_ADDRESS="127.0.0.1"):
            yield found


def bao(node: LeaderNode, *arguments: str, token: str = "") -> dict[str, object]:
    """Run a command as a person would; its answer."""
    [program] = command("bao")
    done = subprocess.run(
        [program, *arguments[:2], "-format=json", *arguments[2:]],
        env={**os.environ, "BAO_ADDR": f"http://127.0.0.1:{node.port}", "BAO_TOKEN": token},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def log_in(node: LeaderNode) -> str:
    """A token of the administrator."""
    answer = bao(node, "write", "auth/userpass/login/admin", f"password={node.password}")
    auth = answer["auth"]
    assert isinstance(auth, dict)
    return str(auth["client_token"])


def test_it_initialises_itself_and_comes_back_unsealed_where_the_database_takes_writes(
    node: LeaderNode,
) -> None:
    node.until("healthy", lambda: not (node.folder / "tmp/waiting").exists() and node.healthy())
    token = log_in(node)
    bao(node, "kv", "put", "secret/pi-1", "wifi=hidden", token=token)
    assert "core_unsealed" in node.get("/v1/sys/metrics?format=prometheus")

    node.leads = False
    node.until("stopped", lambda: (node.folder / "tmp/waiting").exists())
    node.until("silent", lambda: not node.get("/v1/sys/health"))
    assert node.healthy()

    node.leads = True
    node.until("back, unsealed", lambda: '"sealed":false' in node.get("/v1/sys/health"))
    answer = bao(node, "kv", "get", "secret/pi-1", token=token)
    assert answer["data"]["data"] == {"wifi": "hidden"}  # type: ignore[index]

    log = (node.folder / "log").read_text()
    assert '"path":"secret/data/pi-1"' in log
    assert "hidden" not in log
    assert node.password not in log


def test_it_starts_again_when_the_other_node_led_in_between(node: LeaderNode) -> None:
    """It was too short for a node that lost its right to have stopped the service."""
    started = "OpenBao server started!"
    log = node.folder / "log"
    node.until("unsealed", lambda: '"sealed":false' in node.get("/v1/sys/health"))
    assert log.read_text().count(started) == 1
    node.epoch += 2
    node.until("started again", lambda: log.read_text().count(started) == 2)
    node.until("unsealed", lambda: '"sealed":false' in node.get("/v1/sys/health"))


def test_what_it_keeps_is_sealed_in_the_database(node: LeaderNode) -> None:
    node.until("healthy", lambda: not (node.folder / "tmp/waiting").exists() and node.healthy())
    bao(node, "kv", "put", "secret/pi-1", "wifi=in-the-clear", token=log_in(node))
    with psycopg.connect(host=str(node.database), user="postgres", dbname="openbao") as database:
        rows = database.execute("SELECT path, key, value FROM openbao_kv_store").fetchall()
    assert len(rows) > 10
    assert not any(b"in-the-clear" in value for _, _, value in rows)
