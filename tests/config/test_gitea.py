"""The mirror, run as a node runs it: Gitea itself, a database, a node agent and an origin."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from sandbox.world import World
from stack.mirrors import GitMirror
from stack.render import render_stack
from tests.support.leader import LeaderNode, leader_node, serving
from tests.support.programs import command
from tests.support.stack import context

FILE = "/overlord/fleet-config/raw/branch/main/manifest.json"


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
def node() -> Iterator[LeaderNode]:
    """A node that may write, with one mirror in its settings."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with leader_node("gitea") as found:
        make_origin(found.folder)
        origin = functools.partial(Quiet, directory=str(found.folder / "origin"))
        with serving(origin) as http:
            mirror = GitMirror("fleet-config", f"http://127.0.0.1:{http}/config.git")
            found.place(
                "gitea", render_stack(context(git_mirrors=(mirror,))),
                ("postgres_gitea_password", "gitea_secret_key"),
                program=f"/usr/local/bin/gitea -> {found.folder}/gitea",
                port=f"3001 -> {found.port}",
                # The origin of the test is this machine.
                origin="[migrations]\n -> [migrations]\nALLOW_LOCALNETWORKS = true\n",
            )  # fmt: skip
            [gitea] = command("gitea")
            shutil.copy2(gitea, found.folder / "gitea")
            shutil.copytree(World.here().bin / "gitea-files", found.folder / "custom")
            with found.runs(GITEA_CUSTOM=f"{found.folder}/custom"):
                yield found


def test_a_node_mirrors_while_it_may_write_and_makes_up_for_a_disk_without_repositories(
    node: LeaderNode,
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
