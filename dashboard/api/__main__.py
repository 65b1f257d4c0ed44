"""Runs the API: `python -m dashboard.api`."""

from __future__ import annotations

import os
import sys

import uvicorn

from dashboard.api.app import create_app
from dashboard.api.log import configure_logging
from dashboard.api.settings import Settings, SettingsError


def main() -> int:
    """Serve until told to stop."""
    configure_logging()
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"overlord-api: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        create_app(settings),
        host=settings.listen_host,
        port=settings.listen_port,
        # nginx, on the same host, says who the client is.
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1",
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_keep_alive=75,  # longer than nginx keeps its side, so that nginx ends it
        timeout_graceful_shutdown=10,
        limit_concurrency=2000,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
