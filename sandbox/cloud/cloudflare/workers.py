"""Worker scripts, their schedules and names. The runtime runs them, see sandbox/cloud/workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.cloud.cloudflare import answers
from sandbox.cloud.cloudflare.domain import (
    CloudflareState,
    JsonObject,
    Worker,
    WorkerDomain,
    new_id,
    now,
)
from sandbox.cloud.cloudflare.errors import CloudflareError

Deploy = Callable[[Worker], Awaitable[str | None]]
"""Runs a script; returns why it cannot be run, None when it runs."""
Remove = Callable[[str], Awaitable[None]]


class Workers:
    """The routes under /accounts/ACCOUNT/workers."""

    def __init__(self, state: CloudflareState, deploy: Deploy, remove: Remove) -> None:
        self._state, self._workers = state, state.workers
        self._deploy, self._remove = deploy, remove

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        workers = "/accounts/{account}/workers"
        script = f"{workers}/scripts/{{name}}"
        domain = f"{workers}/domains/{{id}}"
        return [
            Route(f"{workers}/scripts", self.index, methods=["GET"]),
            Route(script, self.upload, methods=["PUT"]),
            Route(script, self.content, methods=["GET"]),
            Route(script, self.delete, methods=["DELETE"]),
            Route(f"{script}/content/v2", self.content, methods=["GET"]),
            Route(f"{script}/settings", self.settings, methods=["GET"]),
            Route(f"{script}/schedules", self.schedules, methods=["GET"]),
            Route(f"{script}/schedules", self.set_schedules, methods=["PUT"]),
            Route(f"{workers}/services/{{name}}", self.service, methods=["GET"]),
            Route(f"{workers}/domains", self.domains, methods=["GET"]),
            Route(f"{workers}/domains", self.attach, methods=["PUT"]),
            Route(domain, self.domain, methods=["GET"]),
            Route(domain, self.detach, methods=["DELETE"]),
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
        tag, classes = _migrated(old, metadata)
        _check_bindings(metadata, classes)
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
            migration_tag=tag,
            classes=classes,
        )
        if failure := await self._deploy(worker):
            raise CloudflareError(400, 10021, f"Uncaught error in the script: {failure}")
        self._workers[name] = worker
        return answers.one(_body(worker))

    async def content(self, request: Request) -> Response:
        """Give the main module back."""
        worker = self._find(request)
        main = worker.metadata.get("main_module") or worker.metadata.get("body_part") or ""
        return Response(worker.modules[main], media_type="application/javascript")

    async def delete(self, request: Request) -> Response:
        """Delete a script, with what its objects stored and the names that it answered on."""
        name = self._find(request).name
        del self._workers[name]
        for domain in [d for d in self._state.worker_domains.values() if d.service == name]:
            del self._state.worker_domains[domain.id]
        await self._remove(name)
        return answers.one({"id": name})

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

    async def domains(self, request: Request) -> Response:
        """List names, filtered by host name, script and zone."""
        rows = [domain.model_dump() for domain in self._state.worker_domains.values()]
        for field in ("hostname", "service", "zone_id", "zone_name"):
            if (wanted := request.query_params.get(field)) is not None:
                rows = [row for row in rows if row[field] == wanted]
        return answers.one(rows)

    async def attach(self, request: Request) -> Response:
        """Have a script answer on a name. The name's record and certificate come with it."""
        given = await answers.posted(request)
        host, service = str(given.get("hostname") or "").lower(), given.get("service")
        if not host.endswith(f".{self._state.zone}"):
            raise CloudflareError(
                400, 100117, f"hostname {host!r} is not in a zone of this account"
            )
        if service not in self._workers:
            raise CloudflareError(404, 10007, "This Worker does not exist on your account.")
        if any(record.name == host for record in self._state.records.values()):
            message = f"Hostname '{host}' already has externally managed DNS records."
            raise CloudflareError(409, 100117, message)
        domains = self._state.worker_domains
        old = next((domain for domain in domains.values() if domain.hostname == host), None)
        made = WorkerDomain(
            id=old.id if old else new_id(),
            hostname=host,
            service=service,
            zone_id=self._state.zone_id,
            zone_name=self._state.zone,
            cert_id=old.cert_id if old else new_id(),
        )
        domains[made.id] = made
        return answers.one(made.model_dump())

    async def domain(self, request: Request) -> Response:
        """Get one name."""
        return answers.one(self._find_domain(request).model_dump())

    async def detach(self, request: Request) -> Response:
        """Take a name away."""
        found = self._find_domain(request)
        del self._state.worker_domains[found.id]
        return answers.one({"id": found.id})

    def _find_domain(self, request: Request) -> WorkerDomain:
        found = self._state.worker_domains.get(request.path_params["id"])
        if found is None:
            raise CloudflareError(404, 100114, "The Custom Domain was not found.")
        return found

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
        "migration_tag": worker.migration_tag,
    }


def _migrated(old: Worker | None, metadata: JsonObject) -> tuple[str | None, list[str]]:
    """The tag and the classes after an upload's migration. The same one is refused twice."""
    tag, classes = (old.migration_tag, list(old.classes)) if old else (None, [])
    migration = metadata.get("migrations")
    if not migration:
        return tag, classes
    told, steps = migration.get("old_tag") or "", migration.get("steps") or [migration]
    if told != (tag or ""):
        raise CloudflareError(
            412,
            10079,
            f"Actor migration tag precondition failed, got tag '{told}' when expected tag is "
            f"'{tag or ''}'. Please make sure the tags match and try again.",
        )
    for step in steps:
        if step.get("new_classes"):
            raise CloudflareError(
                400,
                10097,
                "In order to use Durable Objects with a free plan, you must create a namespace "
                "using a `new_sqlite_classes` migration.",
            )
        classes += [name for name in step.get("new_sqlite_classes") or [] if name not in classes]
        classes = [name for name in classes if name not in (step.get("deleted_classes") or [])]
    return migration.get("new_tag") or tag, classes


def _check_bindings(metadata: JsonObject, classes: list[str]) -> None:
    for binding in metadata.get("bindings") or []:
        name = binding.get("class_name")
        if binding.get("type") == "durable_object_namespace" and name not in classes:
            raise CloudflareError(
                400,
                10061,
                f"Cannot create binding for class '{name}' because it is not currently "
                "configured to implement Durable Objects. Did you forget to apply a migration?",
            )


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
        # Modules are known by their file names; clients differ in what they call the parts.
        file = None if name == "metadata" else part.get_filename()
        parts[str(file or name)] = part
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
