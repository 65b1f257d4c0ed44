"""Grafana's dashboards as code, one file each. Rendered into the bundle, never written by hand."""

from __future__ import annotations

from stack.dashboards.device import DEVICE
from stack.dashboards.fleet import FLEET
from stack.dashboards.ingest import INGEST
from stack.dashboards.logs import LOGS
from stack.dashboards.model import Board
from stack.dashboards.node import NODE
from stack.dashboards.postgres import POSTGRES
from stack.dashboards.slo import SLO

BOARDS: tuple[Board, ...] = (FLEET, DEVICE, NODE, POSTGRES, INGEST, LOGS, SLO)


def render_dashboards() -> dict[str, bytes]:
    """Files by path in a node's folder of the bundle."""
    # Imported here: Grafana's builders are needed when there is something to render, and only then.
    from stack.dashboards.grafana import to_json

    return {
        f"grafana/dashboards/{board.uid.removeprefix('overlord-')}.json": to_json(board)
        for board in BOARDS
    }
