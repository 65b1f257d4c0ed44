"""One round: the pair is whole, devices post, something happens, the pair is whole again."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.arbiter import ArbiterPage, Entry, entries, last_grant
from chaos.evidence import keep_evidence
from chaos.faults import Draw
from chaos.hands import Hands
from chaos.score import (
    Acknowledgement,
    Claim,
    Outage,
    Parts,
    Score,
    outage,
    parts,
    stale_writes,
    two_primaries,
)
from chaos.steps import Place, Step
from chaos.watch import PublicName, Watcher, whole
from device.simulator.fleet import Plan, SimulationError, play
from device.simulator.recorder import Line, Record, read_lines, read_record
from device.simulator.verify import Verdict, VerifyError, compare_api
from sandbox import world as fixed
from tests.e2e.sandbox_world import SandboxWorld

DEVICES = 10
PERIOD_SECONDS = 0.5
"""Of one device: together they post twenty times a second, so a gap is seen to 50 ms."""
WARM_SECONDS = 3.0
SETTLED_SECONDS = 5.0
"""The pair is whole once it stays so: a process that was just killed is not missed at once."""
STATUS_AGE_SECONDS = 2.5
WHOLE_SECONDS = 240.0
SERVED_SECONDS = 150.0
"""After the pair is whole, until a status is accepted: a load balancer asks once a minute."""
POST_SECONDS = 5.0
ENROL_SECONDS = 90.0
VERIFY_SECONDS = 60.0


class RoundError(Exception):
    """A round could not be played to its end; the text says why."""


@dataclass(frozen=True)
class Pair:
    """What a round needs of the world.

    Args:
        watchers: by node.
        name: the public name, watched from outside.
        addresses: public addresses by node.
        arbiter: as an operator reaches it.
        enrol_token: lets devices in.
        operator_token: reads their history.
    """

    world: SandboxWorld
    hands: Hands
    watchers: dict[str, Watcher]
    name: PublicName
    addresses: Mapping[str, tuple[str, ...]]
    arbiter: ArbiterPage
    enrol_token: str
    operator_token: str

    def is_whole(self, since: float) -> bool:
        """Whether one node leads and the other follows in sync, by what both said since then."""
        first, second = (one.status(since) for one in self.watchers.values())
        return whole(first, second)

    async def settled(self, seconds: float, settled: float = SETTLED_SECONDS) -> float | None:
        """Wait until the pair is whole and stays so; when it began to be, None when it never was.

        Only what both nodes say from now on counts.
        """
        started = time.time()
        since: float | None = None
        while time.time() - started < seconds + settled:
            now = time.time()
            if not self.is_whole(max(started, now - STATUS_AGE_SECONDS)):
                since = None
            else:
                since = now if since is None else since
                if now - since >= settled:
                    return since
            await asyncio.sleep(0.2)
        return None

    def leader(self) -> str:
        """The node that leads. Call it while the pair is whole."""
        statuses = {name: one.status(0.0) for name, one in self.watchers.items()}
        return next(name for name, status in statuses.items() if status and status["leader"])

    async def do(self, steps: Sequence[Step]) -> None:
        """Carry out steps, one after the other. Raises RoundError when one fails."""
        for step in steps:
            try:
                await asyncio.to_thread(self.hands.do, step)
            except AssertionError as error:
                raise RoundError(f"{step}: {error}") from None

    async def compare(self, record: Record) -> Verdict | None:
        """What the pair has of what devices were told; None where nobody answers the question."""
        deadline = time.monotonic() + VERIFY_SECONDS
        while True:
            try:
                return await compare_api(
                    record, fixed.PUBLIC_URL.rstrip("/"), self.operator_token,
                    ca_file=self.world.world.ca / "ca.pem",
                )  # fmt: skip
            except (VerifyError, OSError):
                if time.monotonic() > deadline:
                    return None
                await asyncio.sleep(2.0)


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
    public = PublicName(world.world.ca / "ca.pem")
    public.start()
    try:
        yield Pair(
            world, hands, watchers, public, addresses,
            ArbiterPage(arbiter, secrets["arbiter_operator_token"], world.world.ca / "ca.pem"),
            secrets["api_enrol_token"], secrets["api_operator_token"],
        )  # fmt: skip
    finally:
        public.stop()
        for watcher in watchers.values():
            watcher.stop()


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.5)
    return True


@dataclass(frozen=True)
class _Played:
    """A round before it is scored."""

    place: Place
    to_primary: bool
    fault_at: float
    ended_at: float
    whole_at: float | None
    claims: Sequence[Claim]
    history: Sequence[Entry]


def home_of(folder: Path, seed: int, number: int) -> Path:
    """Where the record of a round is kept."""
    return folder / f"seed-{seed}-round-{number:03}"


async def play_round(
    pair: Pair, seed: int, number: int, drawn: Draw, folder: Path, say: Callable[[str], None]
) -> Score:
    """Play one round and score it; what a bad one leaves is kept beside its record.

    Raises:
        RoundError: the pair is not whole to begin with, or a device gave up.
    """
    home = home_of(folder, seed, number)
    shutil.rmtree(home, ignore_errors=True)  # of a run that was killed in it
    home.mkdir(parents=True)
    leader = await _leader(pair, settled=0.0)  # the round before has waited for that
    other = next(name for name in pair.watchers if name != leader)
    victim, spared = (leader, other) if drawn.to_primary else (other, leader)
    place = Place(victim, spared, pair.addresses, pair.arbiter.address)
    if steps := drawn.fault.prepare(place):
        await pair.do(steps)
        leader = await _leader(pair)  # it may have moved meanwhile
    try:
        played = await _play(pair, number, drawn, place, victim == leader, home)
        score = await _score(pair, seed, number, drawn, played, home, say)
        if not score.good:
            kept = keep_evidence(pair.world, pair.arbiter, home, played.fault_at, played.claims)
            say(f"  not good; see {kept}")
    finally:
        await pair.do(drawn.fault.restore(place))
    return score


async def _leader(pair: Pair, settled: float = SETTLED_SECONDS) -> str:
    if await pair.settled(WHOLE_SECONDS, settled) is None:
        raise RoundError("the pair is not whole; see `make status`")
    return pair.leader()


async def _play(
    pair: Pair, number: int, drawn: Draw, place: Place, to_primary: bool, home: Path
) -> _Played:
    plan = Plan(
        base_url=fixed.PUBLIC_URL.rstrip("/"),
        devices=DEVICES,
        # The devices stop when the round does.
        duration_s=drawn.hold + 3600.0,
        period_s=PERIOD_SECONDS,
        batch=20,
        duplicate_share=0.2,
        backoff_cap_s=1.0,
        timeout_s=POST_SECONDS,
        drain_s=60.0,
        prefix=f"chaos-{int(time.time())}-{number}",
        seed=number,
    )
    fault_at = time.time()
    since = {name: len(one.claims()) for name, one in pair.watchers.items()}
    stop = asyncio.Event()
    devices = asyncio.create_task(
        play(
            plan, pair.enrol_token, home, ca_file=pair.world.world.ca / "ca.pem",
            say=lambda _: None, stop=stop,
        )
    )  # fmt: skip
    try:
        posting = await until(lambda: devices.done() or _served(home, 0.0), ENROL_SECONDS)
        if devices.done() or not posting:
            raise RoundError("no device could post")
        await asyncio.sleep(WARM_SECONDS)
        fault_at = time.time()
        try:
            await pair.do(drawn.fault.begin(place))
            await asyncio.sleep(drawn.hold)
        finally:
            await pair.do(drawn.fault.end(place))
        ended_at = time.time()
        whole_at = await pair.settled(WHOLE_SECONDS)
        await until(lambda: _served(home, whole_at or ended_at), SERVED_SECONDS)
    finally:
        stop.set()
        try:
            await devices
        except SimulationError as error:
            # Such as a token that was lost again.
            kept = keep_evidence(pair.world, pair.arbiter, home, fault_at, [])
            raise RoundError(f"a device gave up: {error}; see {kept}") from None
    claims = [claim for name, one in pair.watchers.items() for claim in one.claims()[since[name] :]]
    try:
        history = entries(pair.arbiter.read())
    except OSError:
        history = []
    return _Played(place, to_primary, fault_at, ended_at, whole_at, claims, history)


async def _score(
    pair: Pair, seed: int, number: int, drawn: Draw, played: _Played, home: Path,
    say: Callable[[str], None],
) -> Score:  # fmt: skip
    verdict = await pair.compare(read_record(home / "record.jsonl"))
    answers = [
        line
        for line in read_lines(home / "record.jsonl")
        if line.kind in ("acknowledged", "repeated")
    ]
    gap = _outage(answers, played)
    score = Score(
        seed=seed,
        number=number,
        fault=drawn.fault.name,
        node="primary" if played.to_primary else "standby",
        hold=drawn.hold,
        outage=None if gap is None else round(gap.seconds, 3),
        parts=None if gap is None else _parts(gap, played.history, pair.name.led()),
        acknowledged=sum(line.kind == "acknowledged" for line in answers),
        lost=None if verdict is None else len(verdict.lost),
        doubled=0 if verdict is None else len(verdict.doubled) + len(verdict.unknown),
        stale=stale_writes(_acknowledgements(answers)),
        two_primaries=two_primaries(played.claims),
        converged=None
        if played.whole_at is None
        else round(max(0.0, played.whole_at - played.ended_at), 1),
        load=round(os.getloadavg()[0], 1),
    )
    if verdict is None:
        say("  the pair does not answer what it has stored")
    elif not verdict.good:
        say(verdict.report())
    return score


def _acknowledgements(lines: Sequence[Line]) -> list[Acknowledgement]:
    return [Acknowledgement(line.sent, line.at, line.epoch) for line in lines]


def _outage(answers: Sequence[Line], played: _Played) -> Outage | None:
    acknowledged = _acknowledgements([line for line in answers if line.kind == "acknowledged"])
    try:
        return outage(acknowledged, played.fault_at, played.claims)
    except ValueError:
        return None


def _parts(gap: Outage, history: Sequence[Entry], led: Sequence[float]) -> Parts | None:
    claimed = gap.ended if gap.claimed is None else gap.claimed
    first = min((at for at in led if claimed < at <= gap.ended), default=None)
    return parts(gap, last_grant(history, gap.began, gap.ended), first)


def _served(home: Path, since: float) -> bool:
    """Whether a status was acknowledged after a moment."""
    file = home / "record.jsonl"
    return file.exists() and any(
        line.kind == "acknowledged" and line.at > since for line in read_lines(file)
    )
