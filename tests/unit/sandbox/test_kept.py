"""What `make destroy` keeps: buckets with data, Pulumi's state and the tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox import kept
from sandbox.commands import SandboxError
from sandbox.world import World

DATA, LOGS = "example-data", "example-logs"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world that is up, with a state."""
    world = World(tmp_path)
    world.pulumi_state.mkdir(parents=True)
    (world.pulumi_state / "stack.json").write_text("state")
    world.tokens.write_text("tokens")
    return world


def saves(world: World, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[list[str]]:
    """Vendors with buckets of these names, all with data; returns what they were told."""
    told: list[list[str]] = []

    def ask(method: str, path: str, _seconds: float, **body: Any) -> dict[str, Any]:
        if (method, path) == ("GET", "/status"):
            return {"s3": {"buckets": [{"name": name} for name in names]}}
        assert (method, path) == ("POST", "/buckets/save")
        told.append(body["json"]["leave_out"])
        write(world, *(name for name in names if name not in told[-1]))
        return {}

    monkeypatch.setattr(kept, "_ask", ask)
    return told


def write(world: World, *names: str) -> None:
    world.kept_buckets.mkdir(parents=True, exist_ok=True)
    for name in names:
        (world.kept_buckets / f"{name}.bucket").write_text("data")


def no_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any, **__: Any) -> dict[str, Any]:
        raise requests.ConnectionError

    monkeypatch.setattr(kept, "_ask", ask)


def test_buckets_stay_with_the_state_and_the_tokens_and_come_back_with_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = saves(world, monkeypatch, DATA, LOGS)
    assert kept.save_buckets(world, [LOGS]) == [DATA]
    assert told == [[LOGS]]
    kept.put_away(world)
    assert not world.pulumi_state.exists()
    assert not world.tokens.exists()

    assert kept.bring_back(world) == [DATA]
    assert (world.pulumi_state / "stack.json").read_text() == "state"
    assert world.tokens.read_text() == "tokens"
    # A second `make up` finds them in their place.
    assert kept.bring_back(world) == []


def test_without_a_bucket_that_stays_nothing_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves(world, monkeypatch, DATA)
    write(world, DATA)
    assert kept.save_buckets(world, None) == []
    kept.put_away(world)
    assert not world.kept.exists()
    assert world.pulumi_state.exists()  # goes with the rest of the state folder


def test_a_name_that_no_bucket_has_is_refused_before_anything_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = saves(world, monkeypatch, DATA)
    with pytest.raises(SandboxError, match="there is no bucket exmaple-data") as error:
        kept.save_buckets(world, ["exmaple-data"])
    assert error.value.remedy == f"there are: {DATA}"
    assert told == []


def test_what_is_on_the_disk_can_be_named_while_nothing_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_vendors(monkeypatch)
    write(world, DATA, LOGS)
    assert kept.save_buckets(world, [LOGS]) == [DATA]
    assert kept.save_buckets(world, []) == [DATA]
    assert kept.save_buckets(world, [DATA]) == []


def test_buckets_that_cannot_be_saved_stop_the_destruction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves(world, monkeypatch, DATA)
    answers = kept._ask

    def full(method: str, path: str, seconds: float, **body: Any) -> dict[str, Any]:
        if method == "POST":
            raise requests.HTTPError("500 Server Error")
        return answers(method, path, seconds, **body)

    monkeypatch.setattr(kept, "_ask", full)
    with pytest.raises(SandboxError, match="could not be saved: 500") as error:
        kept.save_buckets(world, [])
    assert "--all-buckets" in error.value.remedy
    assert kept.save_buckets(world, None) == []
