"""A clock that tests set, and a server on loopback that behaves as the fleet API, or badly."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from device.agent.overlord_device.clock import ServerTime
from device.agent.overlord_device.queue import DAY_S, Event, Queue

START = 1_795_000_000.0


class FakeClock:
    """Time as the test wants it. `true` is the real world's, which only goes forward."""

    def __init__(self, true: float = START, wall_error: float = 0.0) -> None:
        self.true = true
        self.wall_error = wall_error
        self._booted = true - 100.0
        self._boot = "boot-1"
        self.time_service: bool | None = None

    def wall(self) -> float:
        return self.true + self.wall_error

    def boottime(self) -> float:
        return self.true - self._booted

    def boot_id(self) -> str:
        return self._boot

    def synchronised(self) -> bool | None:
        return self.time_service

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self.true += seconds

    def reboot(self, after_s: float = 30.0) -> None:
        self.true += after_s
        self._booted = self.true
        self._boot = f"boot-{uuid.uuid4()}"


def make_queue(folder: Path, clock: FakeClock, **options: Any) -> Queue:
    return Queue(folder / "queue.db", clock, ServerTime(clock), **options)


def make_status(clock: FakeClock, *, trusted: bool = True, padding: int = 0) -> Event:
    body = {
        "device_id": "pi-01",
        "status": "ok",
        "message": "x" * padding,
        "uptime_seconds": int(clock.boottime()),
        "config_version": "v1",
        "agent_version": "0.1.0",
        "kernel": "6.6",
        "machine": "aarch64",
        "boot_id": clock.boot_id(),
        "metrics": {"load_1m": 0.5},
    }
    return Event(
        str(uuid.uuid4()),
        json.dumps(body),
        clock.boot_id(),
        clock.boottime(),
        clock.wall(),
        trusted,
    )


@dataclass
class Behaviour:
    """How the server behaves. Chances are from 0 to 1, drawn for each request."""

    batches: bool = True
    drop_before: float = 0.0
    drop_after: float = 0.0
    answer_twice: float = 0.0
    busy: float = 0.0
    retry_after: str = "7"
    away: bool = False
    answer: tuple[int, dict[str, Any] | bytes] | None = None
    epoch: int | None = 1
    date_error: float = 0.0
    max_batch_bytes: int = 256 * 1024
    poison: set[str] = field(default_factory=set)


_FIELDS = {
    "device_id", "event_id", "event_time", "sent_at", "status", "message", "uptime_seconds",
    "config_version", "agent_version", "metrics",
}  # fmt: skip


class FakeServer:
    """The API's rules on status: strict fields, idempotent, clocks judged, commit before reply."""

    def __init__(self, clock: FakeClock, behaviour: Behaviour | None = None) -> None:
        self.clock = clock
        self.behaviour = behaviour or Behaviour()
        self.rows: list[dict[str, Any]] = []
        self.keys: set[tuple[str, str, str]] = set()
        self.requests: list[dict[str, Any]] = []
        self.random = random.Random(20261123)
        self._lock = threading.Lock()
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._httpd.server_address[1]}"
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()

    @property
    def ids(self) -> list[str]:
        return [row["event_id"] for row in self.rows]

    def take(self, report: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """One report as the API takes it: status and receipt or problem."""
        event_id = report.get("event_id", "")
        if set(report) - _FIELDS or event_id in self.behaviour.poison:
            return 422, {"reason": "invalid", "detail": "The request is not valid; see errors."}
        event_time, sent_at = _seconds(report["event_time"]), _seconds(report["sent_at"])
        skew = sent_at - self.clock.true
        if event_time > self.clock.true:
            skew = max(skew, event_time - self.clock.true)
        if abs(skew) > DAY_S:
            return 422, {"reason": "clock_off", "detail": "The device's clock is off; set it."}
        observed = event_time - skew if abs(skew) > 30 else event_time
        if self.clock.true - observed > 7 * DAY_S:
            return 422, {"reason": "too_old", "detail": "The status is 7 days old."}
        key = (report["device_id"], report["event_time"], event_id)
        with self._lock:
            new = key not in self.keys
            if new:
                self.keys.add(key)
                self.rows.append({**report, "observed": observed, "skew": skew})
        return 200, {
            "device_id": report["device_id"],
            "event_id": event_id,
            "result": "recorded" if new else "duplicate",
            "clock_skew_seconds": skew,
            "clock_flagged": abs(skew) > 30,
            "epoch": self.behaviour.epoch,
        }

    def _many(self, reports: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        results = []
        for report in reports:
            status, answer = self.take(report)
            if status != 200:
                answer = {"event_id": report["event_id"], "result": "refused", **answer}
            results.append(answer)
        return 200, {"results": results, "epoch": self.behaviour.epoch}

    def _chance(self, chance: float) -> bool:
        with self._lock:
            return self.random.random() < chance

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                behaviour = server.behaviour
                if behaviour.away or server._chance(behaviour.drop_before):
                    self.close_connection = True
                    return
                self._reply(*self._decide(raw, behaviour))

            def _decide(
                self, raw: bytes, behaviour: Behaviour
            ) -> tuple[int, dict[str, Any] | bytes]:
                zipped = self.headers.get("Content-Encoding") == "gzip"
                data = json.loads(gzip.decompress(raw) if zipped else raw)
                server.requests.append(
                    {"path": self.path, "headers": dict(self.headers), "body": data}
                )
                if behaviour.answer is not None:
                    return behaviour.answer
                if server._chance(behaviour.busy):
                    return 503, {"reason": "not_leader", "detail": "Send it again later."}
                if zipped and not behaviour.batches:
                    return 422, {"reason": "invalid", "detail": "The request is not valid."}
                if zipped and len(raw) > behaviour.max_batch_bytes:
                    return 413, {"reason": "too_large", "detail": "Send less at a time."}
                return server._many(data["reports"]) if zipped else server.take(data)

            def _reply(self, status: int, answer: dict[str, Any] | bytes) -> None:
                behaviour = server.behaviour
                if server._chance(behaviour.drop_after):
                    self.close_connection = True  # after the commit: the worst moment
                    return
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                head = f"HTTP/1.1 {status} Status\r\nContent-Length: {len(body)}\r\n"
                head += (
                    f"Date: {formatdate(server.clock.true + behaviour.date_error, usegmt=True)}\r\n"
                )
                if status in (429, 503):
                    head += f"Retry-After: {behaviour.retry_after}\r\n"
                whole = head.encode() + b"Connection: close\r\n\r\n" + body
                if server._chance(behaviour.answer_twice):
                    whole += whole
                with contextlib.suppress(OSError):
                    self.wfile.write(whole)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def serving(clock: FakeClock, behaviour: Behaviour | None = None) -> Iterator[FakeServer]:
    server = FakeServer(clock, behaviour)
    try:
        yield server
    finally:
        server.close()


def _seconds(text: str) -> float:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    return datetime.fromisoformat(text).timestamp()
