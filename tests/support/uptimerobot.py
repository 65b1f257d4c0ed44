"""UptimeRobot's API v2 as far as monitors go, on loopback.

From the vendor's public reference: POST with a form, 200 with `stat` in the body, errors with a
type and the parameter, pages, alert contacts as id_threshold_recurrence, 429 above the rate.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

KEY = "u1-main-key"
_SHORTEST_FREE_INTERVAL = 300


@dataclass
class FakeUptimeRobot:
    """The account behind the API.

    Args:
        url: address of the API.
        monitors: monitors by id.
        contacts: ids of the alert contacts that the account has.
        refuse: how many of the next calls are answered with 429.
        calls: methods that were called and not refused, in order.
    """

    url: str = ""
    monitors: dict[int, dict[str, Any]] = field(default_factory=dict)
    contacts: set[str] = field(default_factory=lambda: {"101", "102"})
    refuse: int = 0
    calls: list[str] = field(default_factory=list)
    _next: int = 777000001

    def answer(self, method: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and body of one call."""
        if self.refuse:
            self.refuse -= 1
            return 429, {"stat": "fail", "error": {"type": "rate_limit"}}
        self.calls.append(method)
        if form.get("api_key") != KEY:
            return 200, _wrong("invalid_parameter", "api_key", form.get("api_key", ""))
        handlers = {
            "getMonitors": self._get,
            "newMonitor": self._new,
            "editMonitor": self._edit,
            "deleteMonitor": self._delete,
        }
        if method not in handlers:
            return 404, {}
        return 200, handlers[method](form)

    def _get(self, form: dict[str, str]) -> dict[str, Any]:
        wanted = form.get("monitors")
        found = [
            body
            for body in self.monitors.values()
            if (not wanted or str(body["id"]) in wanted.split("-"))
            and form.get("search", "") in f"{body['friendly_name']} {body['url']}"
        ]
        offset, limit = int(form.get("offset", 0)), min(int(form.get("limit", 50)), 50)
        page = [
            {k: v for k, v in body.items() if k != "alert_contacts" or form.get(k) == "1"}
            for body in found[offset : offset + limit]
        ]
        pagination = {"offset": offset, "limit": limit, "total": len(found)}
        return {"stat": "ok", "pagination": pagination, "monitors": page}

    def _new(self, form: dict[str, str]) -> dict[str, Any]:
        for name in ("friendly_name", "url", "type"):
            if not form.get(name):
                return _wrong("missing_parameter", name)
        if form["type"] not in {"1", "2", "3", "4", "5"}:
            return _wrong("invalid_parameter", "type", form["type"])
        for body in self.monitors.values():
            if (body["url"], str(body["type"])) == (form["url"], form["type"]):
                return {"stat": "fail", "error": {"type": "already_exists"}}
        body = {"id": self._next, "type": int(form["type"]), "status": 1}
        if refusal := self._set(body, form):
            return refusal
        self.monitors[self._next] = body
        self._next += 1
        return {"stat": "ok", "monitor": {"id": body["id"], "status": 1}}

    def _edit(self, form: dict[str, str]) -> dict[str, Any]:
        body = self.monitors.get(int(form["id"]))
        if body is None:
            return {"stat": "fail", "error": {"type": "not_found"}}
        if refusal := self._set(body, form):
            return refusal
        if "status" in form:
            body["status"] = 0 if form["status"] == "0" else 1
        return {"stat": "ok", "monitor": {"id": body["id"]}}

    def _set(self, body: dict[str, Any], form: dict[str, str]) -> dict[str, Any] | None:
        interval = int(form.get("interval", 300))
        if interval < _SHORTEST_FREE_INTERVAL:
            return _wrong("invalid_parameter", "interval", str(interval))
        contacts = [part.split("_") for part in form.get("alert_contacts", "").split("-") if part]
        if any(parts[0] not in self.contacts for parts in contacts):
            return _wrong("invalid_parameter", "alert_contacts", form["alert_contacts"])
        body["friendly_name"], body["url"] = form["friendly_name"], form["url"]
        body["interval"] = interval
        body["alert_contacts"] = [
            {"id": one, "threshold": int(wait), "recurrence": int(again), "type": 2}
            for one, wait, again in contacts
        ]
        return None

    def _delete(self, form: dict[str, str]) -> dict[str, Any]:
        if self.monitors.pop(int(form["id"]), None) is None:
            return {"stat": "fail", "error": {"type": "not_found"}}
        return {"stat": "ok", "monitor": {"id": int(form["id"])}}


@contextmanager
def running_uptimerobot() -> Iterator[FakeUptimeRobot]:
    """The API for as long as the block."""
    account = FakeUptimeRobot()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            status, body = account.answer(self.path.rpartition("/")[2], dict(parse_qsl(text)))
            content = json.dumps(body).encode()
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    account.url = f"http://127.0.0.1:{server.server_address[1]}/v2"
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    try:
        yield account
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _wrong(kind: str, parameter: str, passed: str = "") -> dict[str, Any]:
    return {
        "stat": "fail",
        "error": {"type": kind, "parameter_name": parameter, "passed_value": passed},
    }
