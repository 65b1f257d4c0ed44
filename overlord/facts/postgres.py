"""Whether PostgreSQL answers."""

import socket
import struct

# An SSLRequest: length 8 and the code 80877103. The server answers one byte, S or N, before any
# login. See "SSLRequest" in PostgreSQL's message formats.
_SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)


def answers(host: str = "127.0.0.1", port: int = 5432, timeout: float = 2.0) -> bool:
    """Whether a PostgreSQL server accepts connections."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(_SSL_REQUEST)
            return connection.recv(1) in (b"S", b"N")
    except OSError:
        return False
