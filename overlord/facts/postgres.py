"""Whether PostgreSQL answers."""

import socket
import struct
from pathlib import Path

# An SSLRequest: length 8 and the code 80877103. The server answers one byte, S or N, before any
# login. See "SSLRequest" in PostgreSQL's message formats. Asked at its socket, where the answer is
# always N: over TCP the server would go on to expect TLS, and log that it did not come.
_SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)


def answers(folder: Path, timeout: float = 2.0) -> bool:
    """Whether a PostgreSQL server accepts connections at its socket in a folder."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(folder / ".s.PGSQL.5432"))
            connection.sendall(_SSL_REQUEST)
            return connection.recv(1) in (b"S", b"N")
    except OSError:
        return False
