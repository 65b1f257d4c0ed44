"""The API that devices report to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.api import Api, running_api


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    with running_api() as api:
        yield api
