"""One sandbox for the whole run: the files below use it in the order given here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.kept import FROM_NOTHING
from sandbox.world import World
from tests.e2e.sandbox_world import REPOSITORY, SandboxWorld, command

# The pair is brought up once, changed, broken and taken down; then a second one is brought up
# through every kind of weather. Each file builds on the ones before it.
ORDER = (
    "test_pair",
    "test_fleet",
    "test_monitoring",
    "test_changes",
    "test_changes_of_the_database",
    "test_drift",
    "test_failover",
    "test_chaos",
    "test_rebuild",
    "test_recovery_kit",
    "test_drill",
    "test_options",
    "test_buckets",
    "test_bad_boots",
    "test_deploy_key",  # after those that use the repository's own configuration
    "test_destroy",
    "test_rough_start",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files into their order; inside a file the order stays as written."""
    items.sort(key=lambda item: ORDER.index(item.path.stem))


@pytest.fixture(scope="session")
def pair() -> SandboxWorld:
    """The pair, brought up by the command that a newcomer types.

    With OVERLORD_E2E_RUNNING=1 the pair that runs already is used, for work on these tests.
    """
    if os.environ.get("OVERLORD_E2E_RUNNING") == "1":
        return SandboxWorld()
    # Of somebody's own: the tests begin with nothing, and remove what is there at their end.
    assert not World.here().kept.exists(), f"buckets are kept; remove them: {FROM_NOTHING}"
    print("\n$ make up", flush=True)
    run = command(["make", "--no-print-directory", "up"], timeout=2400)
    print(run.text[-8000:], flush=True)
    run.must()
    return SandboxWorld()


@pytest.fixture
def fair_weather(pair: SandboxWorld) -> Iterator[SandboxWorld]:
    """The pair, and no fault left behind."""
    yield pair
    pair.fair_weather()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where output worth a look is kept."""
    folder = REPOSITORY / "test-artefacts"
    folder.mkdir(exist_ok=True)
    return folder
