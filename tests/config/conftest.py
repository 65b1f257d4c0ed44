"""The rendered stack of both nodes, in files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.render import StackContext, render_stack
from tests.contract.conftest import ca_dir, cloud, driver, setup, tailnet  # noqa: F401 (fixtures)
from tests.support.programs import docker_daemon, native
from tests.support.stack import VPS_01, VPS_02

# Those that take longest begin first, so that of several processes none is left with one at the
# end. All others follow.
LONGEST = (
    "test_second_repository",
    "test_backup",
    "test_abuse",
    "test_backup_faults",
    "test_buckets_survive",
    "test_backup_copy",
    "test_alert_channels",
    "test_monitoring",
    "test_acme",
    "test_device_disk",
    "test_gitea",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files into their order; inside a file the order stays as written."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


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
def rendered(request: pytest.FixtureRequest) -> Iterator[RenderedNode]:
    with written(request.param) as node:
        yield node


@contextmanager
def written(context: StackContext) -> Iterator[RenderedNode]:
    """A rendered stack as the node has it, for as long as the block.

    Not in pytest's folders: those are closed to the users that some programs become.
    """
    with tempfile.TemporaryDirectory(prefix="stack-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for path, content in render_stack(context).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        yield RenderedNode(context, folder)
