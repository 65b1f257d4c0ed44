"""Runs the API: `python -m dashboard.api`."""

from __future__ import annotations

import gc
import os
import socket
import sys
from types import FrameType

import uvicorn

from dashboard.api.app import create_app
from dashboard.api.feed import Feed
from dashboard.api.log import configure_logging
from dashboard.api.settings import Settings, SettingsError

TAILNET = "100.64.0.0/10"
"""Addresses of a tailnet. Its policy lets nobody but the peer and operators reach the API past
nginx."""


def main() -> int:
    """Serve until told to stop."""
    configure_logging()
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"overlord-api: {error}", file=sys.stderr)
        return 2
    app = create_app(settings)
    _spare_the_collector()
    config = uvicorn.Config(
        app,
        # nginx, on this host or on the peer, says who the client is.
        proxy_headers=True,
        forwarded_allow_ips=["127.0.0.1", TAILNET],
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_keep_alive=75,  # longer than nginx keeps its side, so that nginx ends it
        timeout_graceful_shutdown=8,
        limit_concurrency=2000,
    )
    listen = (settings.listen_host, settings.listen_port), settings.peer_listen
    try:
        sockets = [socket.create_server(one) for one in listen if one]
    except OSError as error:
        print(f"overlord-api: cannot listen: {error}", file=sys.stderr)
        return 2
    _Server(config, app.state.context.feed).run(sockets)
    return 0


def _spare_the_collector() -> None:
    """Keep the cycle collector from what never ends, and from each batch of statuses.

    A batch makes some thousand objects, which end with it. By default that many start a search for
    cycles, among all that the program has imported too: as much work as the batch itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


class _Server(uvicorn.Server):
    """Ends the live streams when told to stop; they would not end by themselves."""

    def __init__(self, config: uvicorn.Config, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._feed.close()
        super().handle_exit(sig, frame)


if __name__ == "__main__":
    sys.exit(main())
