"""Where a write goes that reached a node which may not take it: to the peer's API, by nginx.

nginx has the body as it came, so the API only names the place, in `X-Accel-Redirect`. It does so
for whoever asks for it with HEADER, and nginx asks on its public side alone. What it has passed on
comes without, so nothing is passed on twice. The peer judges for itself whether it may write.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)

HEADER = "X-Overlord-Pass-On"
LOCATION = "@leader"
"""nginx' location for it, see stack/nginx."""
_KNOWN_SECONDS = 5.0
_RESOLVE_SECONDS = 1.0


class PeerApi:
    """The peer's API on the tailnet.

    Args:
        address: HOST:PORT, or None where nothing is passed on.
        clock: monotonic, in seconds.
    """

    def __init__(self, address: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        host, _, port = (address or "").rpartition(":")
        self._host, self._port = host, port
        self._clock = clock
        self._found: str | None = None
        self._known_until = float("-inf")

    async def redirect(self) -> Mapping[str, str]:
        """Headers that have nginx pass the request on; none while the peer's name leads nowhere."""
        if self._clock() >= self._known_until:
            self._found = await self._resolve()
            self._known_until = self._clock() + _KNOWN_SECONDS
        if self._found is None:
            return {}
        return {"X-Accel-Redirect": LOCATION, "X-Overlord-Leader": self._found}

    async def _resolve(self) -> str | None:
        # Here and not by nginx, which does not start while the tailnet's names are away.
        if not self._host:
            return None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await loop.getaddrinfo(
                    self._host, self._port, family=socket.AF_INET, type=socket.SOCK_STREAM
                )
        except (OSError, TimeoutError) as error:
            _log.warning("%s is not found: %s", self._host, type(error).__name__)
            return None
        return f"{found[0][4][0]}:{self._port}"
