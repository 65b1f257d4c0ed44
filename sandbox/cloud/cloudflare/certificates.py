"""The Origin CA: signs certificate requests with the sandbox's authority.

At the vendor, only the edge trusts what it issues. Here the edge trusts the sandbox's CA.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.cloud import certificates
from sandbox.cloud.cloudflare import answers
from sandbox.cloud.cloudflare.domain import Certificate, CloudflareState, now
from sandbox.cloud.cloudflare.errors import CloudflareError

VALIDITIES = (7, 30, 90, 365, 730, 1095, 5475)
"""Days."""
REQUEST_TYPES = ("origin-rsa", "origin-ecc", "keyless-certificate")


class CreateCertificate(BaseModel):
    """POST /certificates."""

    csr: str
    hostnames: list[str]
    request_type: str = "origin-rsa"
    requested_validity: float = 5475


class OriginCa:
    """The routes under /certificates."""

    def __init__(self, state: CloudflareState, ca_dir: Path) -> None:
        self._state, self._ca_dir = state, ca_dir

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        return [
            Route("/certificates", self.index, methods=["GET"]),
            Route("/certificates", self.create, methods=["POST"]),
            Route("/certificates/{id}", self.get, methods=["GET"]),
            Route("/certificates/{id}", self.revoke, methods=["DELETE"]),
        ]

    async def index(self, request: Request) -> Response:
        """List those of the zone that the query names."""
        rows = [c.model_dump() for c in self._state.certificates.values()]
        if request.query_params.get("zone_id", self._state.zone_id) != self._state.zone_id:
            rows = []
        return answers.many(request, rows)

    async def create(self, request: Request) -> Response:
        """Sign a request."""
        wanted = answers.checked(CreateCertificate, await answers.posted(request))
        days = int(wanted.requested_validity)
        if days not in VALIDITIES:
            raise CloudflareError(400, 1003, f"requested_validity must be one of {VALIDITIES}")
        if wanted.request_type not in REQUEST_TYPES:
            raise CloudflareError(400, 1003, f"request_type must be one of {REQUEST_TYPES}")
        self._check_names(wanted.hostnames)
        certificate = certificates.sign_request(
            self._ca_dir, _request(wanted.csr), wanted.hostnames, days
        )
        stored = Certificate(
            id=str(certificate.serial_number),
            certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            csr=wanted.csr,
            hostnames=wanted.hostnames,
            expires_on=certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            request_type=wanted.request_type,
            requested_validity=days,
        )
        self._state.certificates[stored.id] = stored
        return answers.one(stored.model_dump())

    async def get(self, request: Request) -> Response:
        """Get one."""
        return answers.one(self._find(request).model_dump())

    async def revoke(self, request: Request) -> Response:
        """Revoke, which here means forget."""
        certificate = self._find(request)
        del self._state.certificates[certificate.id]
        return answers.one({"id": certificate.id, "revoked_at": now()})

    def _check_names(self, names: list[str]) -> None:
        if not names:
            raise CloudflareError(400, 1003, "hostnames: at least one is required")
        for name in names:
            if name != self._state.zone and not name.endswith(f".{self._state.zone}"):
                message = f"Failed to validate requested hostname {name}: no zone of this account"
                raise CloudflareError(400, 1010, message)

    def _find(self, request: Request) -> Certificate:
        certificate = self._state.certificates.get(request.path_params["id"])
        if certificate is None:
            raise CloudflareError(404, 1101, "Failed to read certificate from Database")
        return certificate


def _request(pem: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(pem.encode())
    except ValueError:
        raise CloudflareError(400, 1002, "CSR parsed as empty or invalid") from None
    if not request.is_signature_valid:
        raise CloudflareError(400, 1002, "CSR signature is invalid")
    return request
