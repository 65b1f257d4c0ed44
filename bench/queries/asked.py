"""Every query that a dashboard, a rule or the page sends."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import requests
import yaml

from bench.queries.series import NODES
from stack.dashboards import BOARDS
from stack.dashboards.model import Board, Panel
from tests.support.dashboards import queries

RULES = Path("stack/prometheus/rules")
# Columns of a screen of 1920 pixels: Grafana asks for about a point a pixel.
_PIXELS_A_COLUMN = 77
# As Grafana rounds a step up to one that people can read, in seconds.
_STEPS = (15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Query:
    """Something that is asked.

    Args:
        kind: who asks it.
        name: what for.
        ask: asks once, and raises for an error.
        floor: name of the floor to compare with.
    """

    kind: str
    name: str
    ask: Callable[[], Any]
    floor: str


@dataclass
class Asker:
    """Asks one server over one connection.

    Args:
        url: its base URL.
        headers: sent with each request.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._http = requests.Session()
        self._http.headers.update(self.headers)

    def get(self, path: str, **parameters: Any) -> Any:
        """The answer's body, taken apart when it is JSON.

        Raises:
            click.ClickException: it is not a good answer.
        """
        return self._read(self._http.get(f"{self.url}{path}", params=parameters, timeout=60))

    def post(self, path: str) -> Any:
        """The same, for an empty POST."""
        return self._read(self._http.post(f"{self.url}{path}", timeout=60))

    def _read(self, answer: requests.Response) -> Any:
        if not answer.ok:
            raise click.ClickException(f"{answer.url}: {answer.status_code} {answer.text[:300]}")
        if answer.headers.get("Content-Type", "").startswith("application/json"):
            return answer.json()
        return answer.text


def step_of(board: Board, panel: Panel) -> int:
    """Seconds between two points of a panel, as Grafana chooses them."""
    wanted = max(board.hours * 3600 / (panel.width * _PIXELS_A_COLUMN), panel.step or 0)
    return next(step for step in _STEPS if step >= wanted)


def range_parameters(board: Board, panel: Panel) -> dict[str, Any]:
    """Start, end and step of a panel's query, at this moment."""
    step = step_of(board, panel)
    end = int(time.time()) // step * step
    return {"start": end - board.hours * 3600, "end": end, "step": step}


def distinct(asked: Iterable[Query]) -> list[Query]:
    """The same with a number behind a name that was there before, as of a panel's second query."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for one in asked:
        seen[one.kind, one.name] += 1
        number = seen[one.kind, one.name]
        found.append(one if number == 1 else replace(one, name=f"{one.name}, {number}"))
    return found


def of_dashboards(prometheus: Asker, loki: Asker, device: str) -> Iterator[tuple[Query, Panel]]:
    """Every query of every panel."""
    for asked in queries({"node": "|".join(NODES), "device": device}):
        board, panel, expr = asked.board, asked.panel, asked.expr

        def ask(board: Board = board, panel: Panel = panel, expr: str = expr) -> Any:
            if panel.source == "loki" and panel.kind == "table":
                return loki.get("/loki/api/v1/query", query=expr)
            if panel.source == "loki":
                limit = {"limit": 1000, "direction": "backward"}
                scale = {
                    key: value * 10**9 if key != "step" else value
                    for key, value in range_parameters(board, panel).items()
                }
                return loki.get("/loki/api/v1/query_range", query=expr, **scale, **limit)
            if panel.kind == "table":
                return prometheus.get("/api/v1/query", query=expr)
            return prometheus.get(
                "/api/v1/query_range", query=expr, **range_parameters(board, panel)
            )

        floor = "Loki: vector(1)" if panel.source == "loki" else "Prometheus: vector(1)"
        yield Query("dashboard", asked.name, ask, floor), panel


def of_variables(prometheus: Asker) -> Iterator[Query]:
    """What fills the choices at the top of the dashboards."""
    for board in BOARDS:
        for variable in board.variables:

            def ask(
                board: Board = board, metric: str = variable.metric, of: str = variable.label
            ) -> Any:
                now = int(time.time())
                return prometheus.get(
                    f"/api/v1/label/{of}/values",
                    **{"match[]": metric, "start": now - board.hours * 3600, "end": now},
                )

            name = f"{board.title}: choice of {variable.name}"
            yield Query("dashboard", name, ask, "Prometheus: vector(1)")


def of_rules(prometheus: Asker) -> Iterator[Query]:
    """Every expression of the recording and alert rules."""
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                expr = str(rule["expr"])

                def ask(expr: str = expr) -> Any:
                    return prometheus.get("/api/v1/query", query=expr)

                name = f"{group['name']}: {rule.get('alert') or rule['record']}"
                yield Query("rule", name, ask, "Prometheus: vector(1)")


def metrics_of(expression: Any) -> Iterator[str]:
    """Names of the metrics that a parsed expression looks at."""
    if isinstance(expression, dict):
        if expression.get("type") in ("vectorSelector", "matrixSelector") and expression["name"]:
            yield expression["name"]
        for part in expression.values():
            yield from metrics_of(part)
    elif isinstance(expression, list):
        for part in expression:
            yield from metrics_of(part)


def drifted(prometheus: Asker) -> set[str]:
    """Recorded metrics whose loaded past has other series than the rules record now."""
    found = set()
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if "record" not in rule:
                    continue
                past = _series(prometheus, f"{rule['record']} offset 30m")
                if past != _series(prometheus, rule["record"]):
                    found.add(rule["record"])
    return found


def _series(prometheus: Asker, selector: str) -> set[str]:
    found = prometheus.get("/api/v1/query", query=selector)["data"]["result"]
    return {json.dumps(one["metric"], sort_keys=True) for one in found}


def without_data(prometheus: Asker) -> set[str]:
    """Metrics that a rule looks at and that are not there: its query would be cheaper than real."""
    known = set(prometheus.get("/api/v1/label/__name__/values")["data"])
    wanted: set[str] = set()
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                parsed = prometheus.get("/api/v1/parse_query", query=str(rule["expr"]))
                wanted |= set(metrics_of(parsed["data"]))
    return wanted - known


def of_page(api: Asker, device: str) -> Iterator[Query]:
    """What the page asks the API, and what Prometheus asks it."""

    def ago(**span: float) -> str:
        return (datetime.now(UTC) - timedelta(**span)).isoformat()

    of_device = f"/api/devices/{device}"
    asked: list[tuple[str, str, Callable[[], dict[str, Any]]]] = [
        ("fleet", "/api/fleet", dict),
        ("last events", "/api/events", lambda: {"limit": 100}),
        ("list, by id", "/api/devices", lambda: {"page_size": 100}),
        ("list, worst first", "/api/devices", lambda: {"sort": "status", "order": "desc"}),
        ("list, silent longest", "/api/devices", lambda: {"sort": "last_seen"}),
        ("list, last page", "/api/devices", lambda: {"page": 5, "page_size": 100}),
        ("list, with a tag", "/api/devices", lambda: {"tag": "site:berlin"}),
        ("list, offline", "/api/devices", lambda: {"online": "false"}),
        ("search", "/api/devices", lambda: {"search": "04"}),
        ("device", of_device, dict),
        ("device, events", "/api/events", lambda: {"device_id": device, "limit": 50}),
        ("device, last reports", f"{of_device}/history",
         lambda: {"from": ago(hours=24), "order": "desc", "page_size": 20}),
        ("device, whole history", f"{of_device}/history", lambda: {"page_size": 1000}),
        *(
            (f"device, charts of {hours} h", f"{of_device}/series",
             lambda hours=hours: {"from": ago(hours=hours), "points": 300})
            for hours in (1, 6, 24, 168, 720, 2160)
        ),
        ("device, log", f"{of_device}/logs", lambda: {"from": ago(hours=6), "limit": 200}),
        ("device, log with a word", f"{of_device}/logs",
         lambda: {"from": ago(hours=6), "limit": 200, "contains": "took 0.9"}),
        ("alerts", "/api/alerts", dict),
        ("silences", "/api/silences", dict),
        ("nodes", "/api/nodes", dict),
        ("audit", "/api/audit", lambda: {"limit": 100}),
        ("health", "/api/health", dict),
        ("metrics, for Prometheus", "/metrics", dict),
        ("targets, for Prometheus", "/sd/devices", lambda: {"port": 9100}),
    ]  # fmt: skip
    for name, path, parameters in asked:

        def ask(path: str = path, parameters: Callable[[], dict[str, Any]] = parameters) -> Any:
            return api.get(path, **parameters())

        yield Query("page", name, ask, "API: SELECT 1")
