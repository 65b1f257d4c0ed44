"""The fleet simulator: what it may reach, what it records, what it finds."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import json
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from device.simulator import recorder
from device.simulator.exporters import serve, serve_addresses
from device.simulator.fleet import Plan, SimulationError, play
from device.simulator.logs import push_body, push_logs
from device.simulator.recorder import Line, Record, Recorder, read_lines, read_record
from device.simulator.stats import percentile
from device.simulator.target import (
    GuardedResolver,
    TargetError,
    addresses,
    check_target,
    is_local,
)
from device.simulator.verify import VerifyError, compare_api, compare_csv
from tests.support.ports import free_port


class Api:
    """A server with the addresses that the simulator uses, and faults to order."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.random = random.Random(5)
        self.drop_after = 0.0
        self.busy = 0.0
        self.lose = 0.0
        self.too_fast = 0
        self.url = ""
        self.batches = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Api]:
        app = web.Application()
        app.router.add_post("/api/devices", self._enrol)
        app.router.add_post("/api/status", self._status)
        app.router.add_get("/api/devices/{device}/history", self._history)
        app.router.add_post("/loki/api/v1/push", self._push)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _enrol(self, request: web.Request) -> web.Response:
        device = (await request.json())["device_id"]
        if device in self.tokens:
            return web.json_response({"detail": "enrolled already"}, status=409)
        self.tokens[device] = f"token-{device}"
        return web.json_response({"device_id": device, "token": self.tokens[device]}, status=201)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        if self.random.random() < self.busy:
            return web.json_response({}, status=429, headers={"Retry-After": "0"})
        data = await request.json()  # aiohttp has taken the gzip off
        reports = data.get("reports", [data])
        self.batches += "reports" in data
        results = []
        for report in reports:
            assert request.headers["Authorization"] == f"Bearer token-{report['device_id']}"
            key = (report["device_id"], report["event_time"], report["event_id"])
            result = "duplicate" if key in self.rows else "recorded"
            if self.random.random() >= self.lose:
                self.rows[key] = report
            results.append({"event_id": report["event_id"], "result": result})
        if self.random.random() < self.drop_after:
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"results": results} if "reports" in data else results[0])

    async def _history(self, request: web.Request) -> web.Response:
        if self.too_fast:
            self.too_fast -= 1
            return web.json_response({}, status=429, headers={"Retry-After": "0"})
        page, size = int(request.query["page"]), int(request.query["page_size"])
        mine = [
            {"event_id": event_id, "event_time": when}
            for device, when, event_id in self.rows
            if device == request.match_info["device"]
        ]
        return web.json_response({"items": mine[(page - 1) * size : page * size]})

    async def _push(self, request: web.Request) -> web.Response:
        assert (await request.json())["streams"]
        return web.Response(status=204)


def quiet(_: str) -> None:
    pass


async def test_a_fleet_with_every_fault_loses_and_doubles_nothing(tmp_path: Path) -> None:
    api = Api()
    api.drop_after, api.busy = 0.05, 0.05
    async with api.serving():
        plan = Plan(
            api.url,
            devices=20,
            duration_s=2.0,
            period_s=60.0,
            speed=600.0,
            outage_share=0.5,
            skew_s=3600.0,
            duplicate_share=0.2,
            shuffle=True,
            batch=10,
            drain_s=20.0,
        )
        stats = await play(plan, "enrol", tmp_path, say=quiet)
        record = read_record(tmp_path / "record.jsonl")
        verdict = await compare_api(record, api.url, "operator")
    assert verdict.good, verdict.report()
    assert verdict.acknowledged == stats.counts["statuses made"] == 20 * 20
    assert verdict.stored == len(api.rows) == 400
    assert api.batches > 0
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    report = stats.report(2.0)
    assert "p99" in report
    assert "acknowledged: recorded" in report


async def test_what_the_server_loses_or_doubles_is_found_by_id(tmp_path: Path) -> None:
    api = Api()
    api.lose = 0.3
    async with api.serving():
        plan = Plan(api.url, devices=5, duration_s=1.0, period_s=60, speed=600, drain_s=5.0)
        await play(plan, "enrol", tmp_path, say=quiet)
        record = read_record(tmp_path / "record.jsonl")
        verdict = await compare_api(record, api.url, "operator")
        stored = list(api.rows)
    assert not verdict.good
    assert len(verdict.lost) == verdict.acknowledged - len(stored) > 0

    rows = tmp_path / "rows.csv"
    first = stored[0]
    with rows.open("w", newline="") as file:
        csv.writer(file).writerows(
            [(d, e) for d, _, e in stored]
            + [(first[0], first[2]), (first[0], "never-made"), ("other-device", "x")]
        )
    verdict = compare_csv(record, rows)
    assert verdict.doubled == [(first[0], first[2])]
    assert verdict.unknown == [(first[0], "never-made")]
    assert "DOUBLED" in verdict.report()


async def test_a_second_run_uses_the_tokens_of_the_first(tmp_path: Path) -> None:
    api = Api()
    async with api.serving():
        for seed in (1, 2):
            plan = Plan(api.url, 3, duration_s=0.5, period_s=60, speed=600, drain_s=5.0, seed=seed)
            await play(plan, "enrol", tmp_path, say=quiet)
        record = read_record(tmp_path / "record.jsonl")
        assert (await compare_api(record, api.url, "operator")).good
    assert len(record.devices()) == 3


async def test_a_server_that_refuses_the_token_ends_the_run_with_its_reason(
    tmp_path: Path,
) -> None:
    api = Api()
    api.tokens["sim-00001"] = "somebody else's"
    async with api.serving():
        plan = Plan(api.url, devices=1, duration_s=1.0)
        with pytest.raises(SimulationError, match="enrolled already"):
            await play(plan, "enrol", tmp_path, say=quiet)


async def test_a_question_that_came_too_fast_is_asked_again() -> None:
    api = Api()
    api.too_fast = 3
    async with api.serving():
        record = Record(made={"sim-00001": {}}, acknowledged={})
        assert (await compare_api(record, api.url, "operator")).good
    assert api.too_fast == 0


async def test_a_server_without_history_says_to_use_the_csv(tmp_path: Path) -> None:
    api = Api()
    async with api.serving():
        record = Record(made={"sim-00001": {}}, acknowledged={})
        with pytest.raises(VerifyError, match="--csv"):
            await compare_api(record, f"{api.url}/elsewhere", "operator")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.90.3.4", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("192.168.1.1", True),
        ("100.64.0.7", True),
        ("203.0.113.10", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("2001:db8::5", True),
        ("8.8.8.8", False),
        ("172.32.0.1", False),
        ("100.128.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("2606:4700::1111", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:127.0.0.1", True),
    ],
)
def test_only_loopback_private_and_sandbox_addresses_are_local(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_a_public_address_needs_the_flag() -> None:
    with pytest.raises(TargetError, match="--allow-public"):
        check_target("https://8.8.8.8", allow_public=False)
    assert check_target("https://8.8.8.8/", allow_public=True) == "https://8.8.8.8"
    with pytest.raises(TargetError):
        check_target("ftp://127.0.0.1", allow_public=False)


async def test_a_name_that_resolves_to_a_public_address_is_refused_at_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = GuardedResolver(allow_public=False)

    async def public(*_: object) -> list[dict[str, object]]:
        return [{"host": "8.8.8.8", "hostname": "fleet.example", "port": 1}]

    monkeypatch.setattr(resolver._inner, "resolve", public)
    with pytest.raises(TargetError, match=r"8\.8\.8\.8"):
        await resolver.resolve("fleet.example", 1)
    [local] = await resolver.resolve("fleet.overlord.localhost", 1)
    assert local["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    "options",
    [
        {"devices": 0},
        {"devices": 10_001},
        {"duration_s": 100_000.0},
        {"speed": 0.5},
        {"duration_s": 3600.0, "speed": 1000.0},
        {"batch": 0},
        {"devices": 10_000, "duration_s": 80_000.0, "period_s": 1.0},
        {"base_url": "https://1.1.1.1"},
    ],
)
def test_a_plan_out_of_bounds_is_refused(options: dict[str, Any]) -> None:
    values: dict[str, Any] = {"base_url": "http://127.0.0.1", "devices": 1, "duration_s": 1.0}
    Plan(**values).check()
    with pytest.raises(SimulationError):
        Plan(**{**values, **options}).check()


def test_a_record_cut_by_a_crash_is_read_up_to_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    recorder = Recorder(path)
    recorder.add(Line("made", "a", "1", "t"))
    recorder.add(Line("acknowledged", "a", "1", "t", "recorded"))
    recorder.close()
    with path.open("a") as file:
        file.write('{"kind":"acknowled')
    record = read_record(path)
    assert record.acknowledged == {"a": {"1": "t"}}


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (50, 99, 100, 0)] == [50.0, 99.0, 100.0, 1.0]
    assert percentile([], 50) == 0.0


async def test_each_device_has_metrics_at_its_own_address(tmp_path: Path) -> None:
    port = free_port()
    runner = await serve(["sim-00001", "sim-00002"], "127.0.0.1", port)
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/targets") as answer:
                targets = await answer.json()
            assert [t["labels"]["device"] for t in targets] == ["sim-00001", "sim-00002"]
            path = targets[1]["labels"]["__metrics_path__"]
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                text = await answer.text()
            async with session.get(f"http://127.0.0.1:{port}/devices/x/metrics") as answer:
                assert answer.status == 404
    finally:
        await runner.cleanup()
    series = [line for line in text.splitlines() if not line.startswith("#")]
    assert 60 <= len(series) <= 120
    assert 'nodename="sim-00002"' in text
    with pytest.raises(TargetError):
        await serve(["a"], "8.8.8.8", 9100)


async def test_devices_on_addresses_of_their_own_are_told_apart_by_them() -> None:
    port = free_port()
    runner = await serve_addresses({"127.0.0.2": "sim-1", "127.0.0.3": "sim-2"}, [port])
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.3:{port}/metrics") as answer:
                assert 'nodename="sim-2"' in await answer.text()
            url = f"http://127.0.0.2:{port}/api/v1/allmetrics?format=prometheus"
            async with session.get(url) as answer:
                netdata = (await answer.text()).splitlines()
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                assert answer.status == 404
    finally:
        await runner.cleanup()
    assert len(netdata) > 15
    assert all(line.startswith("netdata_") and 'instance="sim-1"' in line for line in netdata)
    with pytest.raises(TargetError):
        await serve_addresses({"8.8.8.8": "sim-1"}, [port])


def test_addresses_are_counted_up_from_the_first_and_are_never_public() -> None:
    names = ["a", "b"]
    assert addresses(names, "2001:db8:1::ff") == {"a": "2001:db8:1::ff", "b": "2001:db8:1::100"}
    for wrong in ("8.8.8.8", "198.51.100.255", "pi-1", "255.255.255.255"):
        with pytest.raises(TargetError):
            addresses(names, wrong)


async def test_logs_are_pushed_in_lokis_form() -> None:
    body = json.loads(push_body(["sim-00001"], 50, 1_795_000_000_000_000_000, random.Random(1)))
    values = [value for stream in body["streams"] for value in stream["values"]]
    assert len(values) == 50
    assert all(len(stamp) == 19 for stamp, _ in values)
    assert gzip.compress(json.dumps(body).encode())
    api = Api()
    async with api.serving():
        stats = await asyncio.wait_for(
            push_logs(["a", "b"], api.url, lines_per_device_s=1.0, duration_s=0.3), 30
        )
    assert stats.counts["lines pushed"] == 20


async def test_no_line_is_lost_between_the_loop_and_the_thread_that_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "SYNC_EVERY_S", 0.0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        record = Recorder(tmp_path / "record.jsonl")
        task = asyncio.create_task(record.run())
        for number in range(20_000):
            record.add(Line("made", "sim-00001", str(number), "2026-11-27T12:00:00Z"))
            if number % 10 == 0:
                await asyncio.sleep(0)
        task.cancel()
        record.close()
    finally:
        sys.setswitchinterval(before)
    written = [line.event_id for line in read_lines(tmp_path / "record.jsonl")]
    assert written == [str(number) for number in range(20_000)]
