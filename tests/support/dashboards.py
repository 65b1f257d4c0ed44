"""The queries of the dashboards, with values in the place of their variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stack.dashboards import BOARDS
from stack.dashboards.model import Board, Panel

# As Grafana would fill them in for six hours with a scrape every 15 s.
BUILT_IN = {"__rate_interval": "1m", "__interval": "15s", "__range": "6h"}


@dataclass(frozen=True)
class Asked:
    """One query of one panel.

    Args:
        name: dashboard and panel, for messages.
        board: the dashboard.
        panel: the panel.
        expr: the query with its variables filled in.
    """

    name: str
    board: Board
    panel: Panel
    expr: str


def queries(values: Mapping[str, str]) -> Iterator[Asked]:
    """Every query of every panel.

    Args:
        values: value by variable, such as node and device.
    """
    filled = {**BUILT_IN, **values}
    for board in BOARDS:
        for row in board.rows:
            for panel in row.panels:
                for query in panel.queries:
                    expr = re.sub(r"\$(\w+)", lambda match: filled[match[1]], query.expr)
                    yield Asked(f"{board.title}: {row.title}: {panel.title}", board, panel, expr)
