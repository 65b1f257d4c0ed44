"""DNS records."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import dns.exception
import dns.rdata
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.cloud.cloudflare import answers
from sandbox.cloud.cloudflare.domain import (
    CloudflareState,
    DnsRecord,
    JsonObject,
    new_id,
    now,
)
from sandbox.cloud.cloudflare.errors import CloudflareError

TYPES = ("A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SRV", "TXT", "TLSA", "SSHFP", "HTTPS")
AUTOMATIC = 1
LONGEST_COMMENT = 100
"""Characters, on the free plan."""
_LABEL = re.compile(r"(\*|_?[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)$")


class Records:
    """The routes under /zones/ZONE/dns_records."""

    def __init__(self, state: CloudflareState) -> None:
        self._state, self._records = state, state.records

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        one = "/zones/{zone}/dns_records/{id}"
        return [
            Route("/zones/{zone}/dns_records", self.index, methods=["GET"]),
            Route("/zones/{zone}/dns_records", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.replace, methods=["PUT"]),
            Route(one, self.edit, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    def body(self, record: DnsRecord) -> JsonObject:
        """Render as the API does."""
        body = record.model_dump(exclude_none=True)
        body["comment"] = record.comment
        return {**body, "proxiable": record.proxiable, "meta": {}}

    async def index(self, request: Request) -> Response:
        """List, filtered by name, type, content and comment."""
        rows = list(self._records.values())
        for field in ("name", "type", "content", "comment"):
            for parameter, test in _tests(field).items():
                if (wanted := request.query_params.get(parameter)) is not None:
                    wanted = wanted.lower()
                    rows = [r for r in rows if test(str(getattr(r, field) or "").lower(), wanted)]
        if (proxied := request.query_params.get("proxied")) is not None:
            rows = [r for r in rows if r.proxied == (proxied == "true")]
        return answers.many(request, [self.body(record) for record in rows])

    async def create(self, request: Request) -> Response:
        """Create."""
        time = now()
        record = self._record(
            {**await answers.posted(request), "id": new_id(), "created_on": time}, time
        )
        self._check_neighbours(record)
        self._records[record.id] = record
        return answers.one(self.body(record))

    async def get(self, request: Request) -> Response:
        """Get one."""
        return answers.one(self.body(self._find(request)))

    async def replace(self, request: Request) -> Response:
        """Replace: what is not given falls back to its default."""
        old = self._find(request)
        fixed = {"id": old.id, "created_on": old.created_on}
        return self._store(self._record({**await answers.posted(request), **fixed}, now()))

    async def edit(self, request: Request) -> Response:
        """Change the fields given."""
        old, given = self._find(request), await answers.posted(request)
        fields = old.model_dump()
        if "content" in given:
            fields.pop("data")
        return self._store(
            self._record({**fields, **given, "id": old.id, "created_on": old.created_on}, now())
        )

    async def delete(self, request: Request) -> Response:
        """Delete."""
        record = self._find(request)
        del self._records[record.id]
        return answers.one({"id": record.id})

    def _store(self, record: DnsRecord) -> Response:
        self._check_neighbours(record)
        self._records[record.id] = record
        return answers.one(self.body(record))

    def _record(self, fields: JsonObject, time: str) -> DnsRecord:
        kind = str(fields.get("type", "")).upper()
        if kind not in TYPES:
            raise CloudflareError(400, 9004, f"Invalid record type: {kind or 'none given'}.")
        fields = {
            **fields,
            "type": kind,
            "name": self._name(fields.get("name")),
            "content": _content(kind, fields),
            "modified_on": time,
        }
        record = answers.checked(DnsRecord, fields)
        _check(record)
        if record.proxied:
            record.ttl = AUTOMATIC  # the vendor's own choice for proxied names, whatever is asked
        return record

    def _name(self, name: object) -> str:
        zone = self._state.zone
        if not isinstance(name, str) or not name:
            raise CloudflareError(400, 9000, "DNS name is invalid.")
        name = name.lower().rstrip(".")
        if name == "@":
            return zone
        if name != zone and not name.endswith(f".{zone}"):
            name = f"{name}.{zone}"
        if len(name) > 255 or not all(_LABEL.match(label) for label in name.split(".")):
            raise CloudflareError(400, 9000, "DNS name is invalid.")
        return name

    def _check_neighbours(self, record: DnsRecord) -> None:
        others = [
            other
            for other in self._records.values()
            if other.name == record.name and other.id != record.id
        ]
        for other in others:
            if (other.type, other.content) == (record.type, record.content):
                same = (other.ttl, other.proxied) == (record.ttl, record.proxied)
                if same:
                    raise CloudflareError(400, 81058, "An identical record already exists.")
                raise CloudflareError(400, 81057, "The record already exists.")
        addresses = {"A", "AAAA", "CNAME"}
        if record.type == "CNAME" and any(other.type in addresses for other in others):
            message = "An A, AAAA, or CNAME record with that host already exists."
            raise CloudflareError(400, 81053, message)
        if record.type in addresses and any(other.type == "CNAME" for other in others):
            raise CloudflareError(400, 81054, "A CNAME record with that host already exists.")

    def _find(self, request: Request) -> DnsRecord:
        record = self._records.get(request.path_params["id"])
        if record is None:
            raise CloudflareError(404, 81044, "Record does not exist.")
        return record


def _tests(field: str) -> dict[str, Callable[[str, str], bool]]:
    return {
        field: lambda actual, wanted: actual == wanted,
        f"{field}.exact": lambda actual, wanted: actual == wanted,
        f"{field}.contains": lambda actual, wanted: wanted in actual,
        f"{field}.startswith": lambda actual, wanted: actual.startswith(wanted),
        f"{field}.endswith": lambda actual, wanted: actual.endswith(wanted),
    }


def _content(kind: str, fields: JsonObject) -> str:
    data = fields.get("data")
    if isinstance(data, dict) and kind == "CAA":
        value = str(data.get("value", "")).replace('"', '\\"')
        return f'{data.get("flags", 0)} {data.get("tag", "")} "{value}"'
    if isinstance(data, dict) and kind == "SRV":
        return f"{data.get('weight', 0)} {data.get('port', 0)} {data.get('target', '')}"
    if isinstance(data, dict) and not fields.get("content"):
        return " ".join(str(value) for value in data.values())
    content = fields.get("content")
    if not isinstance(content, str) or not content:
        raise CloudflareError(400, 9007, f"Content for {kind} record must not be empty.")
    return content


def _check(record: DnsRecord) -> None:
    if record.type in ("A", "AAAA"):
        version, code = (4, 9005) if record.type == "A" else (6, 9006)
        try:
            valid = ipaddress.ip_address(record.content).version == version
        except ValueError:
            valid = False
        if not valid:
            message = f"Content for {record.type} record must be a valid IPv{version} address."
            raise CloudflareError(400, code, message)
    elif record.type != "TXT":
        _check_presentation(record)
    if record.ttl != AUTOMATIC and not 60 <= record.ttl <= 86400:
        message = "TTL must be between 60 and 86400 seconds, or 1 for Automatic."
        raise CloudflareError(400, 9021, message)
    if record.proxied and not record.proxiable:
        raise CloudflareError(400, 9041, "This DNS record cannot be proxied.")
    if record.comment is not None and len(record.comment) > LONGEST_COMMENT:
        message = f"DNS record comments may be at most {LONGEST_COMMENT} characters long."
        raise CloudflareError(400, 9203, message)


def _check_presentation(record: DnsRecord) -> None:
    if record.type in ("MX", "SRV") and record.priority is None:
        raise CloudflareError(400, 9100, f"priority is a required field for {record.type} records.")
    try:
        dns.rdata.from_text("IN", record.type, presentation(record))
    except dns.exception.DNSException:
        message = f"Content for {record.type} record is invalid."
        raise CloudflareError(400, 9009, message) from None


def presentation(record: DnsRecord) -> str:
    """Render a record's data as a zone file would."""
    if record.type == "TXT":
        if record.content.startswith('"'):
            return record.content
        text = record.content.replace("\\", "\\\\").replace('"', '\\"')
        return " ".join(f'"{text[i : i + 255]}"' for i in range(0, len(text), 255))
    if record.type in ("CNAME", "NS", "PTR"):
        return record.content.rstrip(".") + "."
    if record.type in ("MX", "SRV"):
        return f"{record.priority} {record.content.rstrip('.')}."
    return record.content
