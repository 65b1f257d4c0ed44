"""The arbiter's client, and the lease that it keeps, on a clock of the test's own."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from overlord.arbiter import Arbiter, ArbiterSilentError, Granted, Refused, https
from overlord.roles.lease import (
    MARGIN_SECONDS,
    PLEDGE_MARGIN_SECONDS,
    PLEDGE_SECONDS,
    RENEW_SECONDS,
    Epochs,
    LeaseKeeper,
)

Answer = tuple[int, dict[str, Any]]
GRANT: Answer = (
    200,
    {"granted": True, "epoch": 5, "ttl_ms": 15000, "replication": "sync", "cluster": "7"},
)
STATE = {
    "holder": "vps-02",
    "last_holder": "vps-02",
    "epoch": 5,
    "replication": "async",
    "cluster": "7",
}


def refusal(reason: str, retry: int | None = None) -> Answer:
    return 409, {"granted": False, "reason": reason, "retry_in_ms": retry, "state": STATE}


class World:
    """A clock, and an arbiter that says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.answers: list[Answer | ArbiterSilentError] = []
        self.requests: list[tuple[str, dict[str, Any] | None]] = []
        self.takes = 0.0
        self.wants = True
        self.file = folder / "lease.json"
        self.granted: list[float] = []
        self.keeper = self.start()

    def start(self) -> LeaseKeeper:
        return LeaseKeeper(
            "vps-01", Arbiter("vps-01", self.send), lambda: self.now, lambda: self.wants,
            lambda: Epochs(4, 5), self.file, lambda: self.granted.append(self.now),
        )  # fmt: skip

    def send(self, _method: str, path: str, body: dict[str, Any] | None) -> Answer:
        self.requests.append((path, body))
        self.now += self.takes
        answer = self.answers.pop(0)
        if isinstance(answer, ArbiterSilentError):
            raise answer
        return answer

    def step(self, *answers: Answer | ArbiterSilentError, wait: float = 10.0) -> None:
        self.answers += answers
        for _ in answers:
            self.now += wait
            self.keeper.step()

    @property
    def held(self) -> bool:
        return self.keeper.lease.until > self.now


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


SILENCE = ArbiterSilentError("nothing")


def test_a_right_counts_from_the_question_and_ends_before_the_arbiters_own_end(
    world: World,
) -> None:
    world.takes = 2.0
    world.step(GRANT, wait=0)
    assert world.requests == [
        ("/v1/lease/acquire", {"node": "vps-01", "held_epoch": 4, "seen_epoch": 5})
    ]
    assert world.keeper.lease.until == 100.0 + 15 - MARGIN_SECONDS
    assert (world.keeper.lease.epoch, world.keeper.lease.replication) == (5, "sync")


def test_a_new_lease_is_told_at_once_and_a_renewed_one_is_no_news(world: World) -> None:
    world.step(GRANT, wait=0)
    world.step(GRANT, GRANT)
    assert world.granted == [100.0]


def test_a_memory_that_cannot_be_written_does_not_end_the_keeper(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    world = World(taken)
    world.answers += [GRANT, GRANT]
    stop = threading.Event()

    def sleep_through() -> float:
        world.now += 1.0
        if not world.answers:
            stop.set()
        return world.now

    world.keeper._clock = sleep_through
    world.keeper.run(stop)
    assert [path for path, _ in world.requests] == ["/v1/lease/acquire", "/v1/lease/renew"]


def test_a_lease_is_renewed_under_its_epoch_and_not_more_often_than_it_must(world: World) -> None:
    world.step(GRANT, wait=0)
    world.now += RENEW_SECONDS - 0.1
    world.keeper.step()
    assert len(world.requests) == 1
    world.step(GRANT, wait=0.1)
    assert world.requests[-1] == ("/v1/lease/renew", {"node": "vps-01", "epoch": 5})


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (refusal("superseded"), False),
        (refusal("released"), False),
        (refusal("unreachable"), True),
        (refusal("waking", 9000), True),
        (SILENCE, True),
        ((500, {"error": "broken"}), True),
    ],
)
def test_what_a_refused_renewal_means(
    world: World, answer: Answer | ArbiterSilentError, held: bool
) -> None:
    world.step(GRANT, wait=0)
    world.step(answer, wait=4)
    assert world.held is held
    world.now += 20
    assert not world.held


def test_a_node_that_does_not_want_the_lease_only_looks(world: World) -> None:
    world.wants = False
    world.step((200, STATE))
    assert world.requests == [("/v1/state", None)]
    assert (world.keeper.lease.other_holds, world.keeper.lease.seen) == (True, 5)


def test_a_standby_asks_again_the_moment_the_lease_is_free(world: World) -> None:
    world.step(refusal("held", 1500))
    world.now += 1.4
    world.keeper.step()
    assert len(world.requests) == 1
    world.step(GRANT, wait=0.2)
    assert world.held


def test_a_given_away_lease_is_never_renewed_even_by_an_answer_that_comes_late(
    world: World,
) -> None:
    world.step(GRANT, wait=0)
    world.answers.append((200, {"ok": True}))
    assert world.keeper.release("vps-02") == ""
    assert world.requests[-1][1] == {"node": "vps-01", "epoch": 5, "to": "vps-02"}
    assert not world.held
    world.step(GRANT)
    assert not world.held
    assert world.requests[-1][0] == "/v1/lease/acquire"


def test_a_right_outlives_the_agent_and_a_pledge_too(world: World) -> None:
    world.step(GRANT, wait=0)
    again = world.start()
    assert again.lease.until == world.keeper.lease.until
    world.answers.append(GRANT)
    world.now += 1
    again.step()
    assert world.requests[-1][0] == "/v1/lease/renew"


def test_without_the_arbiter_a_right_goes_on_by_the_peers_pledge_alone(world: World) -> None:
    world.step(GRANT, wait=0)
    assert world.keeper.needs_pledge() is None
    world.step(SILENCE, wait=5)
    assert world.keeper.needs_pledge() == 5
    world.keeper.pledge_received(5, world.now, PLEDGE_SECONDS)
    until = world.now + PLEDGE_SECONDS - PLEDGE_MARGIN_SECONDS
    assert world.keeper.lease.pledge_until == until
    world.keeper.pledge_received(4, world.now + 50, PLEDGE_SECONDS)
    assert world.keeper.lease.pledge_until == until
    # Once it has ended nothing brings it back but the arbiter.
    world.now = until + 20
    assert world.keeper.needs_pledge() is None


def test_a_pledge_is_given_only_without_the_arbiter_and_keeps_this_node_back(
    world: World,
) -> None:
    world.step(refusal("held", 60000))
    assert world.keeper.pledge(5) is None
    world.step(SILENCE, SILENCE)
    assert world.keeper.pledge(4) is None
    assert world.keeper.pledge(5) == PLEDGE_SECONDS
    asked = len(world.requests)
    world.now += PLEDGE_SECONDS - 1
    world.keeper.step()
    assert len(world.requests) == asked
    assert world.start().pledged_until == world.keeper.pledged_until
    world.step(GRANT, wait=5)
    assert world.held
    assert world.keeper.pledge(5) is None


def test_an_arbiter_without_memory_is_no_arbiter(world: World) -> None:
    world.step(refusal("held", 60000))
    answered = world.keeper.lease.answered
    world.step(refusal("waking", 5000))
    assert world.keeper.lease.answered == answered
    world.wants = False
    world.step((200, {**STATE, "epoch": 0, "cluster": None}))
    assert (world.keeper.lease.cluster, world.keeper.lease.seen) == ("7", 5)


def test_a_refused_record_is_no_record(world: World) -> None:
    world.step(GRANT, wait=0)
    world.answers += [refusal("superseded"), (200, {"ok": True})]
    with pytest.raises(ArbiterSilentError, match="superseded"):
        world.keeper.record("async", "7")
    modes = [world.keeper.lease.replication]
    world.keeper.record("async", "7")
    modes.append(world.keeper.lease.replication)
    assert modes == ["sync", "async"]
    serials = [body["serial"] for path, body in world.requests if path.endswith("ion") and body]
    assert serials == [1, 2]


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = answer(self)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_each_request_shows_the_token_that_is_on_disk_now() -> None:
    shown: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> bytes:
        shown.append(request.headers["Authorization"])
        assert request.headers["User-Agent"] == "overlord-agent"
        return json.dumps(GRANT[1]).encode()

    tokens = iter(["one", "two"])
    with serving(answer) as url:
        arbiter = Arbiter("vps-01", https(url, lambda: next(tokens)))
        assert isinstance(arbiter.renew(5), Granted)
        assert isinstance(arbiter.renew(5), Granted)
    assert shown == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"granted": true}'])
def test_an_answer_that_makes_no_sense_is_silence(body: bytes) -> None:
    with serving(lambda _: body) as url, pytest.raises(ArbiterSilentError):
        Arbiter("vps-01", https(url, lambda: "token")).renew(5)


def test_nobody_there_is_silence_and_a_missing_token_too() -> None:
    def missing() -> str:
        raise FileNotFoundError("arbiter_token")

    with pytest.raises(ArbiterSilentError):
        Arbiter("vps-01", https("http://127.0.0.1:9", lambda: "token")).state()
    with pytest.raises(ArbiterSilentError, match="arbiter_token"):
        Arbiter("vps-01", https("http://127.0.0.1:9", missing)).state()


def test_a_refusal_tells_when_to_ask_again() -> None:
    arbiter = Arbiter("vps-01", lambda *_: refusal("held", 2500))
    answer = arbiter.acquire(0, 0)
    assert isinstance(answer, Refused)
    assert (answer.reason, answer.retry_in) == ("held", 2.5)
    assert answer.state is not None
    assert answer.state.holder == "vps-02"
