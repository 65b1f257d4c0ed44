"""Brings up what is asked, and fills it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import requests
import yaml

from bench.queries.asked import RULES
from bench.queries.remote_write import STEP_SECONDS, Line, Writer
from bench.queries.series import NODES, of_devices, of_promises, of_rules, of_services
from tests.support.ports import free_port
from tests.support.programs import command, running
from tests.support.receivers import wait_for

PROMISE_DAYS = 30
_MINUTE = 60
_LOG_LINES_A_PUSH = 5000


@contextmanager
def running_prometheus(folder: Path) -> Iterator[str]:
    """Prometheus with the limits of a node, nothing to scrape and no rules yet."""
    port = free_port()
    _configure(folder, rules=False)
    line = command(
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--storage.tsdb.retention.time=90d",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.enable-lifecycle",
        "--query.timeout=30s",
        "--query.max-samples=20000000",
    )
    url = f"http://127.0.0.1:{port}"
    with running(line, folder / "prometheus.log"):
        wait_for("Prometheus ready", lambda: _answers(f"{url}/-/ready"), 180)
        yield url


def _configure(folder: Path, *, rules: bool) -> None:
    config = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [str(RULES.absolute() / "*.yml")] if rules else [],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))


def start_rules(url: str, folder: Path) -> None:
    """Let it evaluate the rules. Not while the past is loaded, which would then be too old."""
    _configure(folder, rules=True)
    requests.post(f"{url}/-/reload", timeout=60).raise_for_status()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


@dataclass(frozen=True)
class Loaded:
    """What Prometheus was given.

    Args:
        lines: the series that go on; the recorded ones do so by themselves.
        origin: time of their start, in seconds since the epoch.
        end: time of the next sample.
    """

    lines: list[Line]
    origin: int
    end: int


def load(url: str, ids: list[str], hours: float, say: Callable[[str], None]) -> Loaded:
    """Fill Prometheus with the past, up to now."""
    now = int(time.time()) // STEP_SECONDS * STEP_SECONDS
    origin = now - PROMISE_DAYS * 86400
    recent = now - int(hours * 3600) // STEP_SECONDS * STEP_SECONDS
    scraped = [*of_devices(ids), *of_services(ids, origin)]
    recorded, promises = list(of_rules(ids)), list(of_promises())
    lines = [*scraped, *recorded, *promises]
    writer = Writer(url, origin)
    started = time.monotonic()
    writer.history(promises, origin, recent, _MINUTE)
    writer.history(lines, recent, now)
    seconds = time.monotonic() - started
    say(
        f"{len(lines):,} series, {writer.samples:,} samples in {seconds:.0f} s "
        f"({writer.samples / seconds:,.0f}/s)"
    )
    return Loaded(scraped, origin, now)


@contextmanager
def going_on(writer: Writer, loaded: Loaded) -> Iterator[None]:
    """Samples of every series each 15 s, as scrapes bring them, for as long as the block."""
    now = int(time.time()) // STEP_SECONDS * STEP_SECONDS
    writer.history(loaded.lines, loaded.end, now)
    stop = threading.Event()

    def write() -> None:
        at = now
        while not stop.wait(max(0.0, at - time.time())):
            writer.now(loaded.lines, at)
            at += STEP_SECONDS

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def load_logs(url: str, ids: list[str], hours: float) -> int:
    """Six hours of lines, in the order of their time; returns how many."""
    chance = random.Random(5)  # noqa: S311 (the same in every run)
    now = time.time_ns()
    said = {"job": "journal", "unit": "agent.service", "level": "info"}
    failed = {"job": "journal", "unit": "ssh.service", "level": "err"}
    # Labels of a stream, and the seconds between two lines of it.
    streams: list[tuple[dict[str, str], int]] = [
        *(({"device": one, **said}, 600) for one in ids),
        *(({"device": one, **failed}, 3600) for one in ids),
        *(({"node": node, **failed}, 300) for node in NODES),
        *(
            ({"node": node, "job": "container", "service": service}, 5)
            for node in NODES
            for service in ("api", "nginx", "postgres", "prometheus", "loki", "alertmanager")
        ),
    ]  # fmt: skip
    lines = []
    for labels, every in streams:
        at = now - int(hours * 3600 * 1e9) + chance.randrange(every * 10**9)
        while at < now:
            text = f"level={labels.get('level', 'info')} request {at} took {chance.random():.3f} s"
            lines.append((at, labels, text))
            at += int(every * 1e9 * chance.uniform(0.8, 1.2))
    lines.sort(key=lambda one: one[0])
    http = requests.Session()
    for first in range(0, len(lines), _LOG_LINES_A_PUSH):
        packed: dict[str, dict[str, Any]] = {}
        for at, labels, text in lines[first : first + _LOG_LINES_A_PUSH]:
            stream = packed.setdefault(json.dumps(labels), {"stream": labels, "values": []})
            stream["values"].append([str(at), text])
        body = {"streams": list(packed.values())}
        while True:
            answer = http.post(f"{url}/loki/api/v1/push", json=body, timeout=60)
            if answer.status_code != 429:
                break
            time.sleep(0.5)
        if answer.status_code != 204:
            raise click.ClickException(f"Loki: {answer.status_code} {answer.text[:300]}")
    return len(lines)


@contextmanager
def running_alertmanager(folder: Path, alerts: int) -> Iterator[str]:
    """Alertmanager with some alerts and silences."""
    port = free_port()
    config = folder / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    line = command(
        "alertmanager", f"--config.file={config}", f"--storage.path={folder}/alertmanager",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(line, folder / "alertmanager.log"):
        wait_for("Alertmanager ready", lambda: _answers(f"{url}/-/ready"), 30)
        now = datetime.now(UTC)
        body: Any = [
            {
                "labels": {"alertname": "DeviceSilent", "severity": "P3", "device": f"pi-{one:03}"},
                "annotations": {"summary": f"pi-{one:03} has not reported for 1h"},
                "endsAt": (now + timedelta(hours=3)).isoformat(),
            }
            for one in range(alerts)
        ]
        requests.post(f"{url}/api/v2/alerts", json=body, timeout=10).raise_for_status()
        for one in range(alerts // 10):
            body = {
                "matchers": [
                    {"name": "device", "value": f"pi-{one:03}", "isRegex": False, "isEqual": True}
                ],
                "startsAt": now.isoformat(),
                "endsAt": (now + timedelta(hours=3)).isoformat(),
                "createdBy": "operator",
                "comment": "being rewired",
            }
            requests.post(f"{url}/api/v2/silences", json=body, timeout=10).raise_for_status()
        yield url
