"""Asking the node agent whether writes are allowed."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from dashboard.api.leadership import Leadership, LeadershipSource
from dashboard.api.problems import ProblemError


class Agent:
    """An agent whose answers, and the time they take, the test sets."""

    def __init__(self) -> None:
        self.time = 0.0
        self.takes = 0.0
        self.asked = 0
        self.status = 200
        self.body: object = {"leader": True, "epoch": 3}
        self.error: Exception | None = None

    def source(self) -> LeadershipSource:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        return LeadershipSource(client, "http://agent", cache_seconds=1.0, clock=lambda: self.time)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url == "http://agent/leader"
        self.asked += 1
        self.time += self.takes
        if self.error:
            raise self.error
        return httpx.Response(self.status, json=self.body)


async def test_an_answer_is_believed_for_a_second_and_not_longer() -> None:
    agent = Agent()
    source = agent.source()
    assert (await source.current()).leader
    agent.status = 503
    agent.time = 0.99
    assert (await source.current()).leader
    agent.time = 1.0
    assert not (await source.current()).leader
    assert agent.asked == 2


async def test_the_age_of_a_slow_answer_counts_from_the_question() -> None:
    agent = Agent()
    agent.takes = 0.7
    source = agent.source()
    await source.current()
    agent.time = 1.1
    await source.current()
    assert agent.asked == 2


async def test_many_requests_at_once_ask_once() -> None:
    agent = Agent()
    source = agent.source()
    await asyncio.gather(*(source.current() for _ in range(50)))
    assert agent.asked == 1


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("late")])
async def test_no_answer_means_no_writes(error: Exception) -> None:
    agent = Agent()
    agent.error = error
    assert not (await agent.source().current()).leader


async def test_the_epoch_is_passed_on_and_a_strange_one_is_not() -> None:
    agent = Agent()
    assert await agent.source().current() == Leadership(leader=True, epoch=3)
    bodies: tuple[object, ...] = ({"epoch": "three"}, [], {})
    for body in bodies:
        agent.body = body
        assert await agent.source().current() == Leadership(leader=True, epoch=None)


async def test_a_write_on_a_standby_is_refused_with_when_to_come_again() -> None:
    agent = Agent()
    agent.status = 503
    with pytest.raises(ProblemError) as refused:
        await agent.source().require()
    assert refused.value.status == 503
    assert refused.value.retry_after
