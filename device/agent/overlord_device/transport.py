"""HTTPS with the certificate always verified, bounded in time and size.

The standard library alone, one connection a request: a device posts once a minute.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import __version__

USER_AGENT = f"overlord-device/{__version__}"
DEFAULT_TIMEOUT_S = 30.0
_CHUNK = 64 * 1024


class TransportError(Exception):
    """No usable reply: name not found, refused, cut off, too slow, certificate not trusted."""


@dataclass(frozen=True)
class Reply:
    """A reply whose body has arrived whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the device's token to another host, so none is followed."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


class HttpClient:
    """Sends requests; raises `TransportError` unless a whole reply came back in time."""

    def __init__(
        self,
        ca_file: Path | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        system_too: bool = False,
    ) -> None:
        """Prepare the TLS settings.

        Args:
            ca_file: PEM file of the only authorities to trust; None for the system's.
            system_too: trust the system's beside the file's.
            timeout_s: for the whole exchange, not for each packet.

        Raises:
            TransportError: the CA file cannot be read.
        """
        self._timeout_s = timeout_s
        try:
            context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
            if ca_file and system_too:
                context.load_default_certs()
        except (OSError, ssl.SSLError) as error:
            raise TransportError(f"cannot read the CA file {ca_file}: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._opener = urllib.request.build_opener(
            _NoRedirect(), urllib.request.HTTPSHandler(context=context)
        )

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 4 * 1024 * 1024,
    ) -> Reply:
        """Send one request and read its reply, whatever its status.

        Raises:
            TransportError: with the address and what happened.
        """
        check_url(url)
        deadline = time.monotonic() + self._timeout_s
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked above
            url, data=body, method=method, headers={"User-Agent": USER_AGENT, **(headers or {})}
        )
        try:
            try:
                response = self._opener.open(request, timeout=self._timeout_s)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                content = _read(response, max_bytes, deadline)
                return Reply(
                    status=int(response.status),
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=content,
                )
        except urllib.error.URLError as error:
            raise TransportError(f"{_place(url)}: {explain(error.reason)}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransportError(f"{_place(url)}: {explain(error)}") from error


def _read(response: Any, max_bytes: int, deadline: float) -> bytes:
    """Read the body with a bound on its size and on the time for all of it."""
    parts: list[bytes] = []
    size = 0
    while True:
        # read1 returns what is there, so a server that drips a byte a second meets the deadline.
        part = response.read1(_CHUNK)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise OSError(f"the reply is larger than {max_bytes} bytes")
        if time.monotonic() > deadline:
            raise OSError("the reply took too long")
    announced = response.headers.get("Content-Length")
    if announced is not None and announced.isdigit() and int(announced) != size:
        # read1 does not raise on a body cut short; an acknowledgement must be whole.
        raise OSError(f"the reply was cut off after {size} of {announced} bytes")
    return b"".join(parts)


def check_url(url: str) -> None:
    """Refuse anything but https; plain http is for loopback only.

    Raises:
        TransportError: naming the address.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
        return
    raise TransportError(f"{_place(url)}: only https addresses are used (http on loopback alone)")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _place(url: str) -> str:
    """The address without what may be secret in it: user, password, query."""
    parts = urllib.parse.urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or '?'}{port}{parts.path}"


def explain(error: object) -> str:
    """An error in words for the log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, (socket.timeout, TimeoutError)):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"the name could not be resolved: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
