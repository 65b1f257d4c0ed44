"""Whether this node leads, as its own agent says."""

import urllib.error
import urllib.request

URL = "http://127.0.0.1:9600/leader"


def leads(url: str = URL) -> bool:
    """Whether the agent says that this node may take writes. No answer means no."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (loopback)
            return bool(answer.status == 200)
    except OSError:
        return False
