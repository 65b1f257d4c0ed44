"""The API under abuse, as its own process over real HTTP: clear refusals, flat memory, no trace.

Whatever is sent, the answer is no 500, tells nothing of the program behind it, and is a problem
document when it is an error. Fuzzing is seeded, so that a run can be repeated.
"""

from __future__ import annotations

import collections
import gzip
import itertools
import json
import re
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from dashboard.api.models import Enrolment, NewSilence, StatusReport
from tests.support.api import Api, running_api

SQL = "'; DROP TABLE devices CASCADE; -- %s %(x)s \\ \"$1\" ' OR '1'='1"
LEAKS = re.compile(
    r"Traceback|psycopg|SELECT |INSERT |status_history|device_latest|File \"|\.py\b|site-packages"
)
# Of what runs beside the API nothing does here, and a stream does not end.
AWAY = {502, 503}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture(scope="module")
def http(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def token(api: Api) -> str:
    return api.enrol("pi-01")


def status(**fields: Any) -> dict[str, Any]:
    body = {
        "device_id": "pi-01",
        "event_id": str(uuid.uuid4()),
        "event_time": datetime.now(UTC).isoformat(),
        "status": "ok",
    }
    return {**body, **fields}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def check(answer: httpx.Response, what: object) -> None:
    """That it is an answer which a client may see."""
    assert answer.status_code < 500 or answer.status_code in AWAY, (what, answer.text)
    assert not LEAKS.search(answer.text), (what, answer.text)
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json", (what, answer.text)
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["title"]
        assert problem["detail"]


def check_log(api: Api) -> None:
    log = api.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]


# -- fuzzing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """One of the API's, as its own description has it."""

    method: str
    path: str
    query: tuple[str, ...]
    has_body: bool


def operations(http: httpx.Client) -> list[Operation]:
    described = http.get("/api/openapi.json").json()
    found = [
        Operation(
            method.upper(),
            path,
            tuple(one["name"] for one in item.get("parameters", ()) if one["in"] == "query"),
            "requestBody" in item,
        )
        for path, methods in described["paths"].items()
        for method, item in methods.items()
        if path != "/api/stream"
    ]
    assert len(found) >= 15
    found.append(Operation("GET", "/metrics", (), False))
    found.append(Operation("GET", "/sd/devices", ("port",), False))
    return found


VALUES = st.one_of(
    st.sampled_from(
        [
            SQL, "", "\x00", "\ud7ff\U0010ffff", "%00", "-1", "0", "1", "9" * 30, "1e309", "NaN",
            "null",
            "pi-01", "ok", "asc", "true", "../../etc/passwd", "{}", "[]", "' UNION SELECT NULL --",
            "x" * 3000, "٣", "1\r\nX-Evil: 1",
        ]
    ),
    st.text(max_size=40),
)  # fmt: skip
TIMES = st.sampled_from(
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0002-06-01T00:00:00Z",
     "1970-01-01T00:00:00Z", "2026-11-27T12:00:00Z", "2026-11-27T12:00:00.9999999+23:59",
     "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", "1e10", "-1e18", "253402300800"]
)  # fmt: skip
NUMBERS = st.integers(-2, 2**70).map(str) | st.integers(1, 2000).map(str)


def value_of(name: str) -> st.SearchStrategy[str]:
    """Values that get past the first check of a parameter as often as not."""
    if name in ("from", "to"):
        return TIMES | VALUES
    if name in ("page", "page_size", "limit", "points", "before", "port"):
        return NUMBERS | VALUES
    return VALUES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | VALUES | TIMES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = [*StatusReport.model_fields, *Enrolment.model_fields, *NewSilence.model_fields, "reports"]
BODIES = st.one_of(
    st.binary(max_size=80),
    JSON.map(lambda value: json.dumps(value).encode()),
    # One that is valid but for a field or two.
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2).map(
        lambda wrong: json.dumps({**status(), **wrong}).encode()
    ),
    st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2), max_size=4).map(
        lambda all_wrong: json.dumps(
            {"reports": [{**status(), **wrong} for wrong in all_wrong]}
        ).encode()
    ),
    st.dictionaries(st.sampled_from(["name", "tags", "address"]), JSON, min_size=1).map(
        lambda change: json.dumps(change).encode()
    ),
    st.fixed_dictionaries(
        {"matchers": JSON, "startsAt": VALUES, "endsAt": VALUES, "comment": VALUES}
    ).map(lambda silence: json.dumps(silence).encode()),
)


def test_no_request_whatever_is_an_error_of_the_apis_own_and_memory_stays_flat(
    api: Api, http: httpx.Client, token: str
) -> None:
    known = operations(http)
    api.enrol("pi-gone")
    strangers = [api.enrol_token, "x" * 300, "é"]
    seen: collections.Counter[int] = collections.Counter()
    memory: list[float] = []

    @seed(20261127)
    @settings(
        max_examples=1500,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(known))
        # What ends a device's token is done to another one.
        device = "pi-gone" if operation.path.endswith(("/retire", "/token")) else "pi-01"
        named = data.draw(st.just(device) | VALUES.filter(lambda value: value != "pi-01"))
        path = re.sub(
            r"\{\w+\}", lambda _: urllib.parse.quote(_utf8(named), safe=""), operation.path
        )
        chosen = data.draw(st.lists(st.sampled_from([*operation.query, "other"]), max_size=3))
        query = [(name, _utf8(data.draw(value_of(name)))) for name in chosen]
        own = token if operation.path == "/api/status" else api.operator_token
        bearer_of = data.draw(st.sampled_from([own] * 6 + [token, *strangers]))
        kind = data.draw(
            st.sampled_from(["application/json", "text/plain", "multipart/form-data", "a/b; c="])
        )
        headers = [
            (b"Authorization", f"Bearer {bearer_of}".encode()),
            (b"Content-Type", kind.encode()),
        ]
        content = data.draw(BODIES) if operation.has_body else b""
        if data.draw(st.integers(0, 9)) == 0:
            content = gzip.compress(content)
            headers.append((b"Content-Encoding", b"gzip"))
        url = f"{path}?{urllib.parse.urlencode(query)}"
        answer = http.request(operation.method, url, content=content, headers=headers)
        seen[answer.status_code] += 1
        check(answer, (operation, url, content))
        if sum(seen.values()) % 50 == 0:
            memory.append(api.resident_mib())

    ask()
    check_log(api)
    # What each code path needs once is there after the first third.
    start = memory[len(memory) // 3]
    print(
        f"\n{sum(seen.values())} requests to {len(known)} operations: {dict(seen)};"
        f" MiB {memory[0]:.0f}, {start:.0f}, {memory[-1]:.0f}"
    )
    assert seen[200] > 100
    assert memory[-1] < start + 16
    assert api.sql("SELECT count(*) FROM devices")[0][0] >= 1


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# -- SQL -----------------------------------------------------------------------------------------


def test_sql_in_every_field_is_refused_or_kept_as_it_is(
    api: Api, http: httpx.Client, token: str
) -> None:
    limits = {"message": 500, "config_version": 64, "agent_version": 32, "kernel": 128}
    fields = {name: SQL[:limit] for name, limit in limits.items()}
    answer = http.post("/api/status", json=status(**fields), headers=bearer(token))
    assert answer.status_code == 200
    operator = bearer(api.operator_token)
    latest = http.get("/api/devices/pi-01", headers=operator).json()["latest"]
    assert {name: latest[name] for name in fields} == fields
    change = http.patch("/api/devices/pi-01", json={"name": SQL}, headers=operator)
    assert change.json()["name"] == SQL

    before = api.sql("SELECT count(*) FROM status_history")
    for name in ("device_id", "event_id", "event_time", "sent_at", "status", "uptime_seconds",
                 "boot_id", "metrics"):  # fmt: skip
        for value in (SQL, {SQL: 1.0}, [SQL]):
            wrong = status(**{name: value})
            answer = http.post("/api/status", json=wrong, headers=bearer(token))
            assert answer.status_code == 422, (name, value)
            check(answer, wrong)
    assert api.sql("SELECT count(*) FROM status_history") == before
    for name, value in (("tags", [SQL]), ("address", SQL), ("device_id", SQL)):
        wrong = {"device_id": "pi-02", name: value}
        assert http.post("/api/devices", json=wrong, headers=operator).status_code == 422


def test_sql_in_every_parameter_finds_nothing_and_changes_nothing(
    api: Api, http: httpx.Client, token: str
) -> None:
    operator = bearer(api.operator_token)
    http.post("/api/status", json=status(), headers=bearer(token))
    tables = ("devices", "device_latest", "status_history", "events", "audit_log")
    before = {table: api.sql(f"SELECT count(*) FROM {table}") for table in tables}
    quoted = urllib.parse.quote(SQL, safe="")
    for operation in operations(http):
        if operation.method != "GET":
            continue
        for name in operation.query:
            path = operation.path.replace("{device_id}", "pi-01")
            answer = http.get(f"{path}?{name}={quoted}", headers=operator)
            check(answer, (path, name))
            # Only a search and the text looked for in logs are free text.
            free = name in ("search", "contains")
            assert answer.status_code in ({200, *AWAY} if free else {422}), (path, name)
            if name == "search":
                assert all(SQL in item["name"] for item in answer.json()["items"])
        if "{" in operation.path:
            answer = http.get(re.sub(r"\{\w+\}", quoted, operation.path), headers=operator)
            assert answer.status_code in (404, 422), operation
            check(answer, operation)
    for sent in (SQL, f"{api.operator_token}' --"):
        assert http.get("/api/fleet", headers=bearer(sent)).status_code == 401
    assert {table: api.sql(f"SELECT count(*) FROM {table}") for table in tables} == before


# -- time ----------------------------------------------------------------------------------------


def test_every_time_that_is_asked_for_is_answered_or_refused(api: Api, http: httpx.Client) -> None:
    api.enrol("pi-time")
    operator = bearer(api.operator_token)
    times = [
        "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0002-06-01T00:00:00Z",
        "1970-01-01T00:00:00Z", "2026-11-27T12:00:00Z", "2199-12-31T23:59:59-12:00",
        "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", None,
    ]  # fmt: skip
    told: collections.Counter[tuple[str, int]] = collections.Counter()
    for what in ("series", "history", "logs"):
        for since, until in itertools.product(times, times):
            query = {name: at for name, at in (("from", since), ("to", until)) if at}
            answer = http.get(f"/api/devices/pi-time/{what}", params=query, headers=operator)
            check(answer, (what, query))
            told[what, answer.status_code] += 1
    assert told["series", 200] > 1
    assert told["history", 200] == told["logs", 503] == 9
    check_log(api)


# -- size ----------------------------------------------------------------------------------------


def _in_pieces(piece: bytes, count: int) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.repeat(piece, count)


BOMB = gzip.compress(bytes(200 * 2**20), compresslevel=9)
NESTED = {
    "lists": b"[" * 250_000,
    "objects": b'{"a":' * 50_000,
    "lists in a metric": json.dumps(status()).encode()[:-1] + b',"metrics":{"a":' + b"[" * 200_000,
    "a number of 200,000 digits": b'{"uptime_seconds":' + b"9" * 200_000 + b"}",
    "a number beyond all bounds": b'{"uptime_seconds":1e999999999}',
    "half of a character": b'{"message":"\\ud800"}',
    "bytes that are no UTF-8": b'{"message":"' + b"\xff\xfe\xc0\x80" * 1000 + b'"}',
    "20,000 fields": json.dumps({f"f{n}": n for n in range(20_000)}).encode()[: 256 * 1024],
    "500 reports of nothing": json.dumps({"reports": [{}] * 500}).encode(),
    "a batch of batches": json.dumps({"reports": [{"reports": []}] * 500}).encode(),
    "not a number": json.dumps({**status(), "metrics": {"a": float("nan")}}).encode(),
}


def test_oversized_and_misshapen_bodies_are_refused_and_cost_no_memory(
    api: Api, http: httpx.Client, token: str
) -> None:
    headers = {**bearer(token), "Content-Type": "application/json"}
    assert len(BOMB) < 256 * 1024
    told: collections.Counter[int] = collections.Counter()
    memory: list[float] = []
    for _ in range(12):
        for what, body in NESTED.items():
            answer = http.post("/api/status", content=body, headers=headers)
            check(answer, what)
            told[answer.status_code] += 1
            refused = answer.status_code in (400, 422)
            assert refused or "batch" in what or "reports" in what, (what, answer.text)
        bomb = http.post(
            "/api/status", content=BOMB, headers={**headers, "Content-Encoding": "gzip"}
        )
        assert bomb.json()["reason"] == "too_large"
        for make in (_in_pieces(b"x" * 65536, 160), _in_pieces(b"[", 3000)):
            # In pieces, without a length.
            try:
                answer = http.post("/api/status", content=make(), headers=headers)
            except httpx.HTTPError:  # it closes on a sender that does not listen
                told[0] += 1
                continue
            check(answer, "in pieces")
            told[answer.status_code] += 1
        memory.append(api.resident_mib())
    print(f"\n{sum(told.values())} bodies: {dict(told)}; MiB {[round(one) for one in memory]}")
    assert memory[-1] < memory[3] + 16
    check_log(api)
    assert http.post("/api/status", json=status(), headers=headers).status_code == 200
