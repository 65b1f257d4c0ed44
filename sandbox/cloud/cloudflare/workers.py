"""Worker scripts and their schedules: stored and given back. Nothing runs them here."""

from __future__ import annotations

import hashlib
import json
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.cloud.cloudflare import answers
from sandbox.cloud.cloudflare.domain import CloudflareState, JsonObject, Worker, now
from sandbox.cloud.cloudflare.errors import CloudflareError


class Workers:
    """The routes under /accounts/ACCOUNT/workers."""

    def __init__(self, state: CloudflareState) -> None:
        self._workers = state.workers

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        workers = "/accounts/{account}/workers"
        script = f"{workers}/scripts/{{name}}"
        return [
            Route(f"{workers}/scripts", self.index, methods=["GET"]),
            Route(script, self.upload, methods=["PUT"]),
            Route(script, self.content, methods=["GET"]),
            Route(script, self.delete, methods=["DELETE"]),
            Route(f"{script}/settings", self.settings, methods=["GET"]),
            Route(f"{script}/schedules", self.schedules, methods=["GET"]),
            Route(f"{script}/schedules", self.set_schedules, methods=["PUT"]),
            Route(f"{workers}/services/{{name}}", self.service, methods=["GET"]),
        ]

    async def index(self, request: Request) -> Response:
        """List."""
        return answers.one([_body(worker) for worker in self._workers.values()])

    async def upload(self, request: Request) -> Response:
        """Store a script: a part `metadata`, and one part a module."""
        name, raw = request.path_params["name"], await request.body()
        parts = _parts(request.headers.get("content-type", ""), raw)
        metadata = _metadata(parts)
        modules = {n: _text(part) for n, part in parts.items() if n != "metadata"}
        main = metadata.get("main_module") or metadata.get("body_part")
        if main not in modules:
            raise CloudflareError(400, 10021, f"No such module: {main}")
        old = self._workers.get(name)
        time = now()
        worker = Worker(
            name=name,
            created_on=old.created_on if old else time,
            modified_on=time,
            etag=hashlib.sha256(raw).hexdigest(),
            metadata=metadata,
            modules=modules,
            content_types={n: part.get_content_type() for n, part in parts.items()},
            schedules=old.schedules if old else [],
        )
        self._workers[name] = worker
        return answers.one(_body(worker))

    async def content(self, request: Request) -> Response:
        """Give the main module back."""
        worker = self._find(request)
        main = worker.metadata.get("main_module") or worker.metadata.get("body_part") or ""
        return Response(worker.modules[main], media_type="application/javascript")

    async def delete(self, request: Request) -> Response:
        """Delete."""
        del self._workers[self._find(request).name]
        return answers.one({"id": request.path_params["name"]})

    async def settings(self, request: Request) -> Response:
        """Give bindings and compatibility, secrets without their text."""
        worker = self._find(request)
        shown = ("compatibility_date", "compatibility_flags", "logpush", "usage_model", "tags")
        known = {name: worker.metadata.get(name) for name in shown}
        return answers.one({**known, "bindings": _bindings(worker)})

    async def schedules(self, request: Request) -> Response:
        """List cron expressions."""
        return answers.one({"schedules": self._find(request).schedules})

    async def set_schedules(self, request: Request) -> Response:
        """Replace cron expressions."""
        worker = self._find(request)
        given = json.loads(await request.body() or b"[]")
        if not isinstance(given, list) or any("cron" not in item for item in given):
            raise CloudflareError(400, 10026, "Could not parse request body, invalid JSON")
        time = now()
        worker.schedules = [
            {"cron": item["cron"], "created_on": time, "modified_on": time} for item in given
        ]
        return answers.one({"schedules": worker.schedules})

    async def service(self, request: Request) -> Response:
        """Tell that a script exists; clients ask here before they read it."""
        worker = self._find(request, code=10090)
        environment = {
            "environment": "production",
            "created_on": worker.created_on,
            "modified_on": worker.modified_on,
            "script": _body(worker),
        }
        body = {
            "id": worker.name,
            "default_environment": environment,
            "environments": [environment],
            "created_on": worker.created_on,
            "modified_on": worker.modified_on,
        }
        return answers.one(body)

    def _find(self, request: Request, code: int = 10007) -> Worker:
        worker = self._workers.get(request.path_params["name"])
        if worker is None:
            raise CloudflareError(404, code, "This Worker does not exist on your account.")
        return worker


def _body(worker: Worker) -> JsonObject:
    metadata = worker.metadata
    return {
        "id": worker.name,
        "etag": worker.etag,
        "handlers": ["fetch", "scheduled"],
        "created_on": worker.created_on,
        "modified_on": worker.modified_on,
        "compatibility_date": metadata.get("compatibility_date"),
        "compatibility_flags": metadata.get("compatibility_flags", []),
        "usage_model": metadata.get("usage_model", "standard"),
        "logpush": metadata.get("logpush", False),
        "has_assets": False,
        "has_modules": "main_module" in metadata,
        "migration_tag": (metadata.get("migrations") or {}).get("new_tag"),
    }


def _bindings(worker: Worker) -> list[JsonObject]:
    bindings: list[JsonObject] = worker.metadata.get("bindings") or []
    return [
        {k: v for k, v in binding.items() if k != "text" or binding.get("type") == "plain_text"}
        for binding in bindings
    ]


def _parts(content_type: str, raw: bytes) -> dict[str, Message]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + raw)
    if not message.is_multipart():
        raise CloudflareError(400, 10026, "The request body must be multipart/form-data")
    parts: dict[str, Message] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        parts[str(name)] = part
    return parts


def _metadata(parts: dict[str, Message]) -> JsonObject:
    try:
        metadata = json.loads(_text(parts["metadata"]))
    except (KeyError, ValueError):
        metadata = None
    if not isinstance(metadata, dict):
        raise CloudflareError(400, 10021, "The uploaded script has no valid metadata")
    return metadata


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return payload.decode() if isinstance(payload, bytes) else ""
