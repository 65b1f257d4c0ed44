"""One run of the program for each stack, shared by the tests that only look at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import Recording, config_of, run_program


@pytest.fixture(scope="session")
def session_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def sandbox(
    session_patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    return run_program(
        session_patch, tmp_path_factory.mktemp("b"), config_of("Pulumi.sandbox.yaml")
    )


@pytest.fixture(scope="session")
def prod(session_patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return run_program(
        session_patch,
        tmp_path_factory.mktemp("b"),
        config_of("Pulumi.prod.yaml"),
        stack_name="prod",
    )


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    return tmp_path
