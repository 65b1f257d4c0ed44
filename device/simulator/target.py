"""Where simulated traffic may go: to this machine and to private networks, unless told otherwise.

The check is made on every address that is connected to, not on the name alone, so that a name
cannot move to a public address between the check and the connection.
"""

from __future__ import annotations

import ipaddress
import socket
import urllib.parse
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

# Beside what is private by RFC 1918 and 4193: the tailnet's addresses (RFC 6598) and the
# documentation networks (RFC 5737, 3849), which the sandbox uses.
_EXTRA = [
    ipaddress.ip_network(text)
    for text in ("100.64.0.0/10", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
]
_EXTRA_V6 = ipaddress.ip_network("2001:db8::/32")
_PRIVATE = [
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
]
_PRIVATE_V6 = ipaddress.ip_network("fc00::/7")


class TargetError(Exception):
    """The address must not be used; the text says why."""


def is_local(address: str) -> bool:
    """Whether an IP address is loopback, link-local, private, tailnet or documentation."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_local(str(ip.ipv4_mapped))
        return ip.is_loopback or ip.is_link_local or ip in _PRIVATE_V6 or ip in _EXTRA_V6
    return ip.is_loopback or ip.is_link_local or any(ip in net for net in (*_PRIVATE, *_EXTRA))


def addresses(names: Sequence[str], first: str) -> dict[str, str]:
    """An address for each name, counted up from the first.

    Raises:
        TargetError: the first or the last is public, or no address.
    """
    try:
        start = ipaddress.ip_address(first)
        found = {name: str(start + number) for number, name in enumerate(names)}
    except ValueError as error:
        raise TargetError(f"{first}: {error}") from error
    for address in (first, *list(found.values())[-1:]):
        if not is_local(address):
            raise TargetError(f"{address} is not a loopback or private address")
    return found


def check_target(url: str, *, allow_public: bool) -> str:
    """The address without a trailing slash, if it may be used.

    Raises:
        TargetError: not http or https, or it names a public address.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise TargetError(f"{url}: give a base address such as https://fleet.example.com")
    try:
        local = is_local(parts.hostname)
    except ValueError:
        local = True  # a name; its addresses are checked when it is resolved
    if not local and not allow_public:
        raise TargetError(f"{parts.hostname} {_REFUSED}")
    return url.rstrip("/")


_REFUSED = (
    "is a public address. Simulated traffic goes to loopback, private and sandbox addresses; "
    "--allow-public lifts this for a server of your own"
)


class GuardedResolver(AbstractResolver):
    """Resolves names and refuses public addresses. ``*.localhost`` is loopback (RFC 6761)."""

    def __init__(self, *, allow_public: bool) -> None:
        self._allow_public = allow_public
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            TargetError: one of them is public.
        """
        if host == "localhost" or host.endswith(".localhost"):
            return [
                ResolveResult(
                    hostname=host,
                    host="127.0.0.1",
                    port=port,
                    family=socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
            ]
        found = await self._inner.resolve(host, port, family)
        for result in found:
            if not self._allow_public and not is_local(result["host"]):
                raise TargetError(f"{host} ({result['host']}) {_REFUSED}")
        return found

    async def close(self) -> None:
        """Nothing is held."""
        await self._inner.close()


def connector(*, allow_public: bool, limit: int, tls: object = True) -> aiohttp.TCPConnector:
    """Connections that cannot reach a public address unless that is allowed."""
    return aiohttp.TCPConnector(
        resolver=GuardedResolver(allow_public=allow_public),
        limit=limit,
        ssl=tls,  # type: ignore[arg-type]
        force_close=False,
    )
