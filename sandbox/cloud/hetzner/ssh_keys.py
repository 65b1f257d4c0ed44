"""SSH keys."""

from __future__ import annotations

import base64
import binascii
import hashlib

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.cloud.hetzner import errors, lists
from sandbox.cloud.hetzner.domain import Labels, Name, SshKey, now
from sandbox.cloud.hetzner.project import Project


class CreateSshKey(BaseModel):
    """POST /ssh_keys."""

    name: Name
    public_key: str
    labels: Labels = {}


class UpdateSshKey(BaseModel):
    """PUT /ssh_keys/ID."""

    name: Name | None = None
    labels: Labels | None = None


def fingerprint(public_key: str) -> str:
    """The MD5 fingerprint that the vendor shows. It names the key; it protects nothing."""
    parts = public_key.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (IndexError, binascii.Error):
        raise errors.invalid({"public_key": "SSH key format is invalid or not supported"}) from None
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, 32, 2))


class SshKeys:
    """The routes under /ssh_keys."""

    def __init__(self, project: Project) -> None:
        self._project, self._keys = project, project.state.ssh_keys

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        return [
            Route("/ssh_keys", self.index, methods=["GET"]),
            Route("/ssh_keys", self.create, methods=["POST"]),
            Route("/ssh_keys/{id:int}", self.get, methods=["GET"]),
            Route("/ssh_keys/{id:int}", self.update, methods=["PUT"]),
            Route("/ssh_keys/{id:int}", self.delete, methods=["DELETE"]),
        ]

    async def index(self, request: Request) -> Response:
        """List."""
        return lists.answer(request, "ssh_keys", (k.model_dump() for k in self._keys.values()))

    async def create(self, request: Request) -> Response:
        """Create; a name or a key that exists is refused."""
        wanted = await self._project.body(request, CreateSshKey)
        lists.check_labels(wanted.labels)
        self._check_name(wanted.name, 0)
        mark = fingerprint(wanted.public_key)
        if any(key.fingerprint == mark for key in self._keys.values()):
            raise errors.not_unique("SSH key", "fingerprint")
        self._project.check_quota("ssh_keys", len(self._keys))
        key = SshKey(
            id=self._project.state.new_id(),
            name=wanted.name,
            fingerprint=mark,
            public_key=wanted.public_key.strip(),
            labels=wanted.labels,
            created=now(),
        )
        self._keys[key.id] = key
        return JSONResponse({"ssh_key": key.model_dump()}, 201)

    async def get(self, request: Request) -> Response:
        """Get one."""
        return JSONResponse({"ssh_key": self._find(request).model_dump()})

    async def update(self, request: Request) -> Response:
        """Change name or labels."""
        key = self._find(request)
        wanted = await self._project.body(request, UpdateSshKey)
        if wanted.name is not None:
            self._check_name(wanted.name, key.id)
            key.name = wanted.name
        if wanted.labels is not None:
            lists.check_labels(wanted.labels)
            key.labels = wanted.labels
        return JSONResponse({"ssh_key": key.model_dump()})

    async def delete(self, request: Request) -> Response:
        """Delete; servers keep the copy they were created with."""
        del self._keys[self._find(request).id]
        return Response(status_code=204)

    def _check_name(self, name: str, own: int) -> None:
        names = ((key.id, key.name) for key in self._keys.values())
        self._project.check_name("SSH key", name, names, own)

    def _find(self, request: Request) -> SshKey:
        identifier = request.path_params["id"]
        if identifier not in self._keys:
            raise errors.not_found("SSH key", identifier)
        return self._keys[identifier]
