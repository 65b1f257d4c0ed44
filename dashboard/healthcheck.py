"""The container's health check: `python -m dashboard.healthcheck URL`.

The image has no curl, and needs none.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request


def main(arguments: list[str]) -> int:
    """0 when the URL answers with success within four seconds."""
    if len(arguments) != 1 or not arguments[0].startswith("http://127.0.0.1:"):
        print("usage: python -m dashboard.healthcheck http://127.0.0.1:PORT/PATH", file=sys.stderr)
        return 2
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(arguments[0], timeout=4):
            return 0
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
