"""N devices that report as the agent does, with the faults that a real fleet has."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import ssl
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from device.agent.overlord_device.backoff import Backoff, parse_retry_after
from device.agent.overlord_device.clock import rfc3339
from device.simulator.recorder import Kind, Line, Recorder
from device.simulator.stats import Stats
from device.simulator.target import TargetError, addresses, check_target, connector

MAX_DEVICES = 10_000
MAX_DURATION_S = 86_400.0
MAX_EVENTS = 20_000_000
WEEK_S = 7 * 86_400.0
ENROL_AT_ONCE = 16


class SimulationError(Exception):
    """The simulation cannot be run as asked; the text says why."""


@dataclass(frozen=True)
class Plan:
    """What is played.

    Args:
        base_url: the server.
        devices: how many.
        duration_s: for how long, in real seconds.
        period_s: a device's period, in its own seconds.
        speed: device seconds in a real second. Above 1 the events lie in the past, so that the
            last ones are of now: what a fleet replays after an outage.
        outage_share: share of the devices that are cut off during the middle third.
        skew_s: a device's clock is off by up to this, either way.
        duplicate_share: share of statuses that are sent again after their acknowledgement.
        shuffle: whether a backlog is sent out of order.
        batch: the most statuses in one request; 1 posts singles.
        drain_s: how long the devices go on delivering after the last status is made.
        backoff_cap_s: the longest that a device waits after a failure, unless the server asks for
            more.
        timeout_s: how long a device waits for an answer.
        first_address: where Prometheus finds the first device; the others follow. Empty: nowhere.
    """

    base_url: str
    devices: int
    duration_s: float
    period_s: float = 60.0
    speed: float = 1.0
    outage_share: float = 0.0
    skew_s: float = 0.0
    duplicate_share: float = 0.0
    shuffle: bool = False
    batch: int = 1
    drain_s: float = 60.0
    backoff_cap_s: float = 20.0
    timeout_s: float = 30.0
    connections: int = 100
    allow_public: bool = False
    prefix: str = "sim"
    seed: int = 1
    first_address: str = ""

    def check(self) -> None:
        """Refuse what is out of bounds.

        Raises:
            SimulationError: naming the bound.
        """
        if not 1 <= self.devices <= MAX_DEVICES:
            raise SimulationError(f"devices: 1 to {MAX_DEVICES}")
        if not 0 < self.duration_s <= MAX_DURATION_S:
            raise SimulationError(f"duration: up to {MAX_DURATION_S:.0f} s")
        if self.period_s <= 0 or self.speed < 1:
            raise SimulationError("period must be above 0 and speed at least 1")
        if self.duration_s * self.speed > WEEK_S:
            raise SimulationError("duration times speed is more than the 7 days that the API takes")
        if not 1 <= self.batch <= 1000:
            raise SimulationError("batch: 1 to 1000")
        events = self.devices * self.duration_s * self.speed / self.period_s
        if events > MAX_EVENTS:
            raise SimulationError(f"{events:.0f} statuses are more than {MAX_EVENTS}")
        try:
            check_target(self.base_url, allow_public=self.allow_public)
            self.addresses()
        except TargetError as error:
            raise SimulationError(str(error)) from error

    def names(self) -> list[str]:
        """The device ids."""
        return [f"{self.prefix}-{number:05}" for number in range(1, self.devices + 1)]

    def addresses(self) -> dict[str, str]:
        """The devices' addresses by id; none without a first one."""
        return addresses(self.names(), self.first_address) if self.first_address else {}


@dataclass(frozen=True)
class Status:
    """One status that waits."""

    event_id: str
    device_time: float
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: status code; 0 when there was no answer.
        sent: when the request left, in seconds since 1970.
        at: when the answer came.
        retry_after: seconds that the server asked for.
        results: what became of each status, by event id.
        epoch: the number of the lease under which the server took them.
    """

    status: int
    sent: float
    at: float
    retry_after: float | None = None
    results: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None


class SimulatedDevice:
    """One device: makes statuses on its slots, delivers them as it can."""

    def __init__(self, name: str, token: str, fleet: Fleet) -> None:
        self._name = name
        self._fleet = fleet
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._random = random.Random(f"{fleet.plan.seed}:{name}")  # noqa: S311 - a game of chance
        self._skew = self._random.uniform(-fleet.plan.skew_s, fleet.plan.skew_s)
        self._cut_off = self._random.random() < fleet.plan.outage_share
        self._backoff = Backoff(
            base_s=0.5, cap_s=fleet.plan.backoff_cap_s, uniform=self._random.uniform
        )
        self._waiting: list[Status] = []
        self._made = asyncio.Event()

    async def run(self) -> None:
        """Play the device to its end."""
        delivery = asyncio.create_task(self._deliver())
        try:
            await self._make_all()
            async with asyncio.timeout(self._fleet.plan.drain_s):
                while self._waiting and not delivery.done():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self._fleet.stats.counts["left undelivered"] += len(self._waiting)
        finally:
            delivery.cancel()
            results = await asyncio.gather(delivery, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result

    async def _make_all(self) -> None:
        plan, real_period = self._fleet.plan, self._fleet.plan.period_s / self._fleet.plan.speed
        slot = self._random.uniform(0.0, real_period)
        # As many as fit; several at once when a fast run makes slots shorter than a turn.
        while slot < plan.duration_s:
            if await self._fleet.stopped_by(self._fleet.started + slot):
                return
            self._make(slot)
            slot += real_period

    def _make(self, slot: float) -> None:
        true_time = self._fleet.device_epoch + slot * self._fleet.plan.speed
        status = Status(
            event_id=str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            device_time=true_time + self._skew,
            body={
                "status": self._random.choices(("ok", "warning", "critical"), (96, 3, 1))[0],
                "message": "",
                "uptime_seconds": int(slot * self._fleet.plan.speed),
                "config_version": "simulated",
                "agent_version": "simulator",
                "metrics": {
                    "load_1m": round(self._random.expovariate(2.0), 2),
                    "temperature_c": round(self._random.gauss(52, 4), 1),
                    "memory_used_percent": round(self._random.uniform(20, 70), 1),
                    "disk_used_percent": round(self._random.uniform(20, 60), 1),
                },
            },
        )
        self._waiting.append(status)
        self._fleet.stats.counts["statuses made"] += 1
        self._fleet.record("made", self._name, status.event_id, status.device_time)
        self._made.set()

    async def _deliver(self) -> None:
        while True:
            if not self._waiting:
                self._made.clear()
                await self._made.wait()
            if self._cut_off and self._fleet.in_outage():
                await asyncio.sleep(0.2)
                continue
            await asyncio.sleep(await self._send_some())

    async def _send_some(self) -> float:
        """One request; returns how long to wait."""
        if self._fleet.plan.shuffle and len(self._waiting) > 1:
            self._random.shuffle(self._waiting)
        chosen = self._waiting[: self._fleet.plan.batch]
        kind = "live" if len(self._waiting) <= 1 else "replay"
        answer = await self._post(chosen, kind)
        status = answer.status
        if status in (200, 201):
            self._backoff.reset()
            self._settle(chosen, answer)
            if self._random.random() < self._fleet.plan.duplicate_share:
                self._fleet.stats.counts["sent again on purpose"] += len(chosen)
                self._put_on_record("repeated", chosen, await self._post(chosen, "duplicate"))
            return 0.0
        if status in (400, 422):
            # Singles tell which one it is; a batch of a server without batches ends the run.
            if len(chosen) > 1:
                raise SimulationError(f"the server took no batch ({status}); use --batch 1")
            self._settle(chosen, replace(answer, results={chosen[0].event_id: "refused"}))
            return 0.0
        if status in (401, 403, 404):
            raise SimulationError(f"{self._name}: the server answered {status}; enrol again?")
        return self._backoff.fail(answer.retry_after)

    def _put_on_record(self, kind: Kind, chosen: list[Status], answer: Answer) -> None:
        for status in chosen:
            result = answer.results.get(status.event_id, "")
            if result in ("recorded", "duplicate") or kind == "unanswered":
                self._fleet.record(
                    *(kind, self._name, status.event_id, status.device_time),
                    note=result,
                    sent=answer.sent,
                    at=answer.at,
                    epoch=answer.epoch,
                )

    def _settle(self, chosen: list[Status], answer: Answer) -> None:
        self._put_on_record("acknowledged", chosen, answer)
        for status in chosen:
            result = answer.results.get(status.event_id)
            if result in ("recorded", "duplicate"):
                self._fleet.stats.counts[f"acknowledged: {result}"] += 1
            elif result == "refused":
                self._fleet.record("refused", self._name, status.event_id, status.device_time)
                self._fleet.stats.counts["refused"] += 1
            else:
                continue
            self._waiting.remove(status)

    async def _post(self, chosen: list[Status], kind: str) -> Answer:
        sent = time.time()
        sent_at = rfc3339(sent + self._skew)
        reports = [
            {
                "device_id": self._name,
                "event_id": status.event_id,
                "event_time": rfc3339(status.device_time),
                "sent_at": sent_at,
                **status.body,
            }
            for status in chosen
        ]
        headers, body = self._headers, json.dumps(reports[0]).encode()
        if len(reports) > 1:
            headers = {**headers, "Content-Encoding": "gzip"}
            body = gzip.compress(json.dumps({"reports": reports}).encode(), 5)
        began = time.monotonic()
        try:
            async with self._fleet.session.post(
                f"{self._fleet.plan.base_url}/api/status", data=body, headers=headers
            ) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if isinstance(error.__cause__, TargetError):
                raise SimulationError(str(error.__cause__)) from error
            self._fleet.stats.counts[f"no answer: {type(error).__name__}"] += 1
            nothing = Answer(0, sent, time.time())
            self._put_on_record("unanswered", chosen, nothing)
            return nothing
        self._fleet.stats.answered(kind, answer.status, time.monotonic() - began)
        retry_after = parse_retry_after(
            answer.headers.get("Retry-After"), answer.headers.get("Date")
        )
        results, epoch = _results(raw) if answer.status < 300 else ({}, None)
        told = Answer(answer.status, sent, time.time(), retry_after, results, epoch)
        if told.status >= 500:  # from something on the way, perhaps after the effect
            self._put_on_record("unanswered", chosen, told)
        return told


def _results(raw: bytes) -> tuple[dict[str, str], int | None]:
    try:
        data = json.loads(raw)
        results = {item["event_id"]: item["result"] for item in data.get("results", [data])}
        return results, data.get("epoch")
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, None


class Fleet:
    """All devices of a run and what they share."""

    def __init__(
        self,
        plan: Plan,
        recorder: Recorder,
        session: aiohttp.ClientSession,
        stats: Stats,
        stop: asyncio.Event,
    ) -> None:
        self.plan = plan
        self.stop = stop
        self.session = session
        self.stats = stats
        self._recorder = recorder
        self.started = time.monotonic()
        # The last status of a fast run is of now, the first as far back as it plays.
        self.device_epoch = time.time() - plan.duration_s * (plan.speed - 1.0)

    def in_outage(self) -> bool:
        """Whether it is the middle third of the run."""
        third = self.plan.duration_s / 3
        return third <= time.monotonic() - self.started < 2 * third

    async def stopped_by(self, moment: float) -> bool:
        """Wait for a moment of the monotonic clock; whether the devices were told to stop first."""
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + moment - time.monotonic()
            ):
                await self.stop.wait()
        except TimeoutError:
            return False
        return True

    def record(self, kind: Kind, device: str, event_id: str, when: float, **more: Any) -> None:
        """Put a fact on record; `more` is the rest of a `Line`."""
        self._recorder.add(Line(kind, device, event_id, rfc3339(when), **more))

    async def run(self, tokens: Mapping[str, str]) -> None:
        """Play all devices; the first that fails ends the run."""
        self.started = time.monotonic()
        self.device_epoch = time.time() - self.plan.duration_s * (self.plan.speed - 1.0)
        async with asyncio.TaskGroup() as group:
            for name, token in tokens.items():
                group.create_task(SimulatedDevice(name, token, self).run())


async def enrol_all(
    plan: Plan, session: aiohttp.ClientSession, enrol_token: str, tokens_file: Path
) -> dict[str, str]:
    """The devices' tokens: those kept from an earlier run, and new ones for the rest.

    Raises:
        SimulationError: the server refused one.
    """
    tokens: dict[str, str] = {}
    if tokens_file.exists():
        tokens = json.loads(tokens_file.read_text())
    missing = [name for name in plan.names() if name not in tokens]
    address_of = plan.addresses()
    at_once = asyncio.Semaphore(ENROL_AT_ONCE)

    async def enrol(name: str) -> None:
        body: dict[str, Any] = {"device_id": name, "tags": ["simulated"]}
        if name in address_of:
            body["address"] = address_of[name]
        async with at_once:
            for _ in range(20):
                async with session.post(
                    f"{plan.base_url}/api/devices",
                    json=body,
                    headers={"Authorization": f"Bearer {enrol_token}"},
                ) as answer:
                    if answer.status == 201:
                        tokens[name] = (await answer.json())["token"]
                        return
                    if answer.status not in (429, 503):
                        text = (await answer.text())[:300]
                        raise SimulationError(f"{name} was not enrolled ({answer.status}): {text}")
                    after = parse_retry_after(answer.headers.get("Retry-After"), None)
                await asyncio.sleep((after or 1.0) + random.uniform(0, 1))  # noqa: S311 - jitter
            raise SimulationError(f"{name} was not enrolled: the server stays busy")

    try:
        async with asyncio.TaskGroup() as group:
            for name in missing:
                group.create_task(enrol(name))
    except* SimulationError as group_error:
        raise SimulationError(str(group_error.exceptions[0])) from None
    except* aiohttp.ClientError as group_error:
        raise SimulationError(f"no device could be enrolled: {group_error.exceptions[0]}") from None
    finally:
        tokens_file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(
            os.open(tokens_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
        ) as file:
            json.dump(tokens, file)
    return {name: tokens[name] for name in plan.names()}


async def play(
    plan: Plan,
    enrol_token: str,
    folder: Path,
    *,
    ca_file: Path | None = None,
    say: Callable[[str], None] = print,
    stop: asyncio.Event | None = None,
) -> Stats:
    """Enrol the devices, play the plan, leave the record in ``folder``.

    Args:
        stop: set it to let the devices make no more statuses and deliver what they have.

    Raises:
        SimulationError: it could not be played; what happened until then is on record.
    """
    plan.check()
    stats = Stats()
    tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    recorder = Recorder(folder / "record.jsonl")
    async with aiohttp.ClientSession(
        connector=connector(allow_public=plan.allow_public, limit=plan.connections, tls=tls),
        timeout=aiohttp.ClientTimeout(total=plan.timeout_s),
    ) as session:
        say(f"enrolling {plan.devices} devices at {plan.base_url}")
        tokens = await enrol_all(plan, session, enrol_token, folder / "tokens.json")
        fleet = Fleet(plan, recorder, session, stats, stop or asyncio.Event())
        helpers = [
            asyncio.create_task(recorder.run()),
            asyncio.create_task(_say_rates(fleet, say)),
        ]
        try:
            await fleet.run(tokens)
        except* SimulationError as errors:
            raise SimulationError(str(errors.exceptions[0])) from None
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            recorder.close()
            say(stats.report(time.monotonic() - fleet.started))
    return stats


async def _say_rates(fleet: Fleet, say: Callable[[str], None]) -> None:
    before = 0
    while True:
        await asyncio.sleep(10.0)
        counts = fleet.stats.counts
        now = counts["acknowledged: recorded"] + counts["acknowledged: duplicate"]
        elapsed = time.monotonic() - fleet.started
        behind = counts["statuses made"] - now - counts["refused"]
        say(f"{elapsed:6.0f} s  {(now - before) / 10:8.1f} acknowledged/s  {behind} waiting")
        before = now
