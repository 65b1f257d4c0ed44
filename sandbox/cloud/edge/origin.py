"""Connections from the edge to origins: from its own address, with TLS as the zone asks."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from sandbox.cloud.cloudflare.domain import Monitor, Origin

CONNECT_SECONDS = 15.0
"""After which the vendor answers 522."""
ANSWER_SECONDS = 100.0
"""After which the vendor answers 524."""
CONNECTIONS = 1000


@dataclass(frozen=True)
class EdgeError:
    """An error page of the vendor's."""

    status: int
    title: str


def origin_error(error: Exception) -> EdgeError:
    """Name a failed connection as the vendor would."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return EdgeError(526, "Invalid SSL certificate")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return EdgeError(525, "SSL handshake failed")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return EdgeError(522, "Connection timed out")
    if isinstance(error, TimeoutError):
        return EdgeError(524, "A timeout occurred")
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return EdgeError(521, "Web server is down")
        return EdgeError(523, "Origin is unreachable")
    return EdgeError(520, "Web server is returning an unknown error")


class OriginClient:
    """One keep-alive pool for visitors' requests, and fresh connections for probes."""

    def __init__(
        self,
        ca: Path,
        source: str | None,
        https_port: int = 443,
        http_port: int = 80,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._local = (source, 0) if source else None
        self._https_port, self._http_port = https_port, http_port
        self._strict = ssl.create_default_context(cafile=str(ca))
        self._lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._lax.check_hostname = False
        self._lax.verify_mode = ssl.CERT_NONE
        self.timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds, sock_read=ANSWER_SECONDS
        )
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the pool; needs the running loop."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, local_addr=self._local)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=self.timeout
        )

    async def stop(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The pool for visitors' requests."""
        if self._session is None:
            raise RuntimeError("the edge is not started")
        return self._session

    def context(self, mode: str) -> ssl.SSLContext:
        """The TLS settings for a zone's ssl mode: only `strict` verifies."""
        return self._strict if mode == "strict" else self._lax

    def url(self, scheme: str, address: str, port: int | None) -> str:
        """The base URL of an origin, without a path."""
        host = f"[{address}]" if ":" in address else address
        default = self._https_port if scheme == "https" else self._http_port
        return f"{scheme}://{host}:{port or default}"

    async def probe(self, origin: Origin, monitor: Monitor) -> str | None:
        """Probe once; return the reason of a failure."""
        port = origin.port or monitor.port
        try:
            if monitor.type in ("http", "https"):
                return await asyncio.wait_for(self._ask(origin, monitor, port), monitor.timeout)
            if monitor.type == "tcp":
                return await asyncio.wait_for(self._connect(origin, port), monitor.timeout)
        except TimeoutError:
            return "HTTP timeout occurred"
        except aiohttp.ClientConnectorCertificateError:
            return "TLS untrusted certificate error"
        except (aiohttp.ClientSSLError, ssl.SSLError):
            return "TLS handshake failure"
        except (aiohttp.ClientError, OSError):
            return "TCP connection failed"
        return None  # kinds that need raw sockets are taken as healthy

    async def _ask(self, origin: Origin, monitor: Monitor, port: int | None) -> str | None:
        headers = {name: ",".join(v) for name, v in {**monitor.header, **origin.header}.items()}
        headers["User-Agent"] = "Mozilla/5.0 (compatible; Cloudflare-Traffic-Manager/1.0)"
        url = self.url(monitor.type, origin.address, port) + monitor.path
        connector = aiohttp.TCPConnector(local_addr=self._local, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(
                monitor.method,
                url,
                headers=headers,
                ssl=self._lax if monitor.allow_insecure else self._strict,
                server_hostname=headers.get("Host") if monitor.type == "https" else None,
                allow_redirects=monitor.follow_redirects,
            ) as answer,
        ):
            if not expected(answer.status, monitor.expected_codes):
                return f"Response code mismatch error: {answer.status}"
            if monitor.expected_body:
                body = await answer.text(errors="replace")
                if monitor.expected_body.lower() not in body.lower():
                    return "Response body mismatch error"
        return None

    async def _connect(self, origin: Origin, port: int | None) -> str | None:
        _, writer = await asyncio.open_connection(
            origin.address, port or self._http_port, local_addr=self._local
        )
        writer.close()
        return None


def expected(status: int, codes: str) -> bool:
    """Hold a status against a list such as ``200,3xx``."""
    for code in codes.split(","):
        code = code.strip().lower()
        if code == str(status) or (code[1:] == "xx" and code[:1] == str(status)[0]):
            return True
    return False
