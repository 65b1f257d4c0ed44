"""`python3 -m overlord.logs`: the service. Ends when another release is in force; systemd starts
it again from there."""

import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

from overlord.files import read_json
from overlord.logs.ship import Shipper
from overlord.paths import Paths

RELEASE_SECONDS = 10.0


def shippers(node: str, peer: str, state: Path) -> list[Shipper]:
    """One for the Loki of this node, and one for the peer's, which has them when this node burns.

    The peer is reached through its gate on the mesh.
    """
    return [
        Shipper(node, "http://127.0.0.1:3100", state / "own.cursor"),
        Shipper(node, f"http://{peer}:3100", state / "peer.cursor"),
    ]


def main() -> int:
    """Run until stopped."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    paths = Paths()
    node = socket.gethostname().partition(".")[0]
    peer = read_json(paths.current / "nodes" / node / "node.json").get("peer")
    if not peer:
        print(f"{paths.current} knows no node {node}; is the host name changed?", file=sys.stderr)
        return 1
    state = Path(os.environ.get("STATE_DIRECTORY", paths.state / "logs"))
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    for shipper in shippers(node, peer, state):
        threading.Thread(target=shipper.run, args=[stop], daemon=True).start()
    release = paths.current.resolve()
    while not stop.wait(RELEASE_SECONDS) and paths.current.resolve() == release:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
