"""Ports of loopback that are the test's own, whatever runs beside it."""

from __future__ import annotations

import socket

_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port where nothing listens and that nobody else is given, until this process ends.

    A port that is looked up and let go again may be handed to another program before the test
    uses it. So a socket stays bound here. It does not listen: a connection is refused. A server
    that sets SO_REUSEADDR, as servers do, may bind beside it; port 0 and outgoing connections of
    any process pass it over.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _reserved.append(holder)
    return int(holder.getsockname()[1])
