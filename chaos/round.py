"""One round: the pair is whole, devices post, something happens, the pair is whole again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.faults import Draw, Place
from chaos.hands import Hands
from chaos.score import Acknowledgement, Score, outage, stale_writes, two_primaries
from chaos.watch import Watcher, whole
from device.simulator.fleet import Plan, play
from device.simulator.recorder import read_lines, read_record
from device.simulator.verify import compare_api
from sandbox import world as fixed
from tests.e2e.sandbox_world import SandboxWorld

DEVICES = 10
PERIOD_SECONDS = 0.5
"""Of one device: together they post twenty times a second, so a gap is seen to 50 ms."""
WARM_SECONDS = 6.0
AFTER_SECONDS = 10.0
WHOLE_SECONDS = 300.0
POST_SECONDS = 5.0


@dataclass(frozen=True)
class Pair:
    """What a round needs of the world.

    Args:
        watchers: by node.
        addresses: public addresses by node.
        arbiter: its address and port.
        enrol_token: lets devices in.
        operator_token: reads their history.
    """

    world: SandboxWorld
    hands: Hands
    watchers: dict[str, Watcher]
    addresses: Mapping[str, tuple[str, ...]]
    arbiter: tuple[str, int]
    enrol_token: str
    operator_token: str

    def is_whole(self) -> bool:
        """Whether one node leads and the other follows in sync."""
        first, second = self.watchers.values()
        return whole(first.status, second.status)

    def leader(self) -> str:
        """The node that leads. Call it while the pair is whole."""
        return next(
            name for name, one in self.watchers.items() if one.status and one.status["leader"]
        )


@contextmanager
def watched(world: SandboxWorld, arbiter: tuple[str, int]) -> Iterator[Pair]:
    """The pair with both nodes watched, for as long as the block."""
    hands = Hands(world)
    watchers = {}
    for name in sorted(world.servers()):
        watchers[name] = Watcher(name, lambda n=name: hands.process(n))  # type: ignore[misc]
    addresses = {
        name: (
            server["public_net"]["ipv4"]["ip"],
            # The server's own address is the first of its network.
            server["public_net"]["ipv6"]["ip"].split("/")[0] + "1",
        )
        for name, server in world.servers().items()
    }
    secrets = world.output("adminSecrets")
    for watcher in watchers.values():
        watcher.start()
    try:
        yield Pair(
            world, hands, watchers, addresses, arbiter,
            secrets["api_enrol_token"], secrets["api_operator_token"],
        )  # fmt: skip
    finally:
        for watcher in watchers.values():
            watcher.stop()


async def until(condition: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until a condition holds; None when it does not in time."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if condition():
            return time.monotonic() - started
        await asyncio.sleep(0.2)
    return None


async def play_round(
    pair: Pair, number: int, drawn: Draw, folder: Path, say: Callable[[str], None]
) -> Score:
    """Play one round and score it.

    Raises:
        RuntimeError: the pair is not whole to begin with.
    """
    if await until(pair.is_whole, WHOLE_SECONDS) is None:
        raise RuntimeError(f"the pair is not whole before round {number}; see `make status`")
    leader = pair.leader()
    other = next(name for name in pair.watchers if name != leader)
    victim = leader if drawn.to_primary else other
    place = Place(victim, other if victim == leader else leader, pair.addresses, pair.arbiter)
    plan = Plan(
        base_url=fixed.PUBLIC_URL.rstrip("/"),
        devices=DEVICES,
        # The devices stop when the round does, see below.
        duration_s=WARM_SECONDS + drawn.hold + WHOLE_SECONDS + AFTER_SECONDS,
        period_s=PERIOD_SECONDS,
        batch=20,
        duplicate_share=0.2,
        backoff_cap_s=1.0,
        timeout_s=POST_SECONDS,
        drain_s=60.0,
        prefix=f"chaos-{int(time.time())}-{number}",
        seed=number,
    )
    home = folder / f"round-{number:03}"
    since = {name: len(one.claims()) for name, one in pair.watchers.items()}
    stop = asyncio.Event()
    devices = asyncio.create_task(
        play(
            plan, pair.enrol_token, home, ca_file=pair.world.world.ca / "ca.pem",
            say=lambda _: None, stop=stop,
        )
    )  # fmt: skip
    try:
        await until(lambda: devices.done() or _posting(home), 60.0)
        await asyncio.sleep(WARM_SECONDS)
        fault_at = time.time()
        try:
            for step in drawn.fault.begin(place):
                await asyncio.to_thread(pair.hands.do, step)
            await asyncio.sleep(drawn.hold)
        finally:
            for step in drawn.fault.end(place):
                await asyncio.to_thread(pair.hands.do, step)
        converged = await until(pair.is_whole, WHOLE_SECONDS)
        await asyncio.sleep(AFTER_SECONDS)
    finally:
        stop.set()
        await devices
    record = read_record(home / "record.jsonl")
    verdict = await compare_api(
        record, plan.base_url, pair.operator_token, ca_file=pair.world.world.ca / "ca.pem"
    )
    acknowledged = [
        Acknowledgement(line.sent, line.at, line.epoch)
        for line in read_lines(home / "record.jsonl")
        if line.kind == "acknowledged"
    ]
    claims = [claim for name, one in pair.watchers.items() for claim in one.claims()[since[name] :]]
    gap = outage(acknowledged, fault_at, claims)
    score = Score(
        number=number,
        fault=drawn.fault.name,
        node="primary" if victim == leader else "standby",
        outage=gap.seconds,
        until_claim=gap.until_claim,
        acknowledged=verdict.acknowledged,
        lost=len(verdict.lost),
        doubled=len(verdict.doubled) + len(verdict.unknown),
        stale=stale_writes(acknowledged),
        two_primaries=two_primaries(claims),
        converged=converged,
    )
    if not score.good:
        say(verdict.report())
    return score


def _posting(home: Path) -> bool:
    file = home / "record.jsonl"
    return file.exists() and '"acknowledged"' in file.read_text()
