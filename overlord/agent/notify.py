"""systemd's notification protocol, see sd_notify(3)."""

import os
import socket


def notify(message: str) -> None:
    """Send a message to systemd if it wants one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.connect("\0" + address[1:] if address.startswith("@") else address)
        connection.sendall(message.encode())
