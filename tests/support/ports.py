"""Ports of loopback that are the test's own, whatever runs beside it."""

from __future__ import annotations

import socket

_reserved: list[socket.socket] = []


def free_port(*more_addresses: str) -> int:
    """A port where nothing listens and that nobody else is given, until this process ends.

    A port that is looked up and let go again may be handed to another program before the test
    uses it. So a socket stays bound here. It does not listen: a connection is refused. A server
    that sets SO_REUSEADDR, as servers do, may bind beside it; port 0 and outgoing connections of
    any process pass it over.

    Args:
        more_addresses: where it shall be free too, beside 127.0.0.1.
    """
    while True:
        first = _hold("127.0.0.1", 0)
        port = int(first.getsockname()[1])
        held = [first]
        try:
            held += [_hold(address, port) for address in more_addresses]
        except OSError:  # somebody has it there
            first.close()
            continue
        _reserved.extend(held)
        return port


def _hold(address: str, port: int) -> socket.socket:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((address, port))
    except OSError:
        holder.close()
        raise
    return holder
