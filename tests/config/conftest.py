"""The rendered stack of both nodes, in files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.render import StackContext, render_stack
from tests.support.programs import docker_daemon, native
from tests.support.stack import VPS_01, VPS_02


@dataclass(frozen=True)
class RenderedNode:
    """A node's stack and where its files are."""

    context: StackContext
    folder: Path


@pytest.fixture(scope="session", autouse=True)
def programs() -> Iterator[None]:
    """What checks the files; without the native programs, the sandbox's images have them."""
    if all(map(native, ("nginx", "cloud-init", "sshd"))):
        yield
        return
    with docker_daemon():
        yield


@pytest.fixture(params=[VPS_01, VPS_02], ids=["vps-01", "vps-02"])
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> RenderedNode:
    return write(request.param, tmp_path)


def write(context: StackContext, folder: Path) -> RenderedNode:
    """Write a rendered stack as the node has it."""
    # The folders above it belong to one user, and some programs give up root.
    for parent in (folder, *folder.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    for name, content in render_stack(context).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return RenderedNode(context, folder)
