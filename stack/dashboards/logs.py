"""What do devices and services say, and does Loki keep up?"""

from __future__ import annotations

from stack.dashboards.model import Board, Panel, Row, ask

# Of each count. A point in each of them: with more points, every line would be read once for each.
_WINDOW = 300

LOGS = Board(
    uid="overlord-logs",
    title="Logs",
    description="What is logged, by whom, and whether Loki takes it.",
    rows=(
        Row(
            "Who logs how much",
            (
                Panel(
                    "Loudest devices",
                    ask(
                        (
                            'topk(10, sum by (device) (count_over_time({device=~".+"}[5m])))',
                            "",
                        )
                    ),
                    "table",
                    source="loki",
                    # Of now: hours of every device's stream would be opened for a graph.
                    description="Lines of the last 5 minutes.",
                ),
                Panel(
                    "Lines of the nodes' services",
                    ask(
                        (
                            'topk(10, sum by (node, service) (count_over_time({node=~".+"}[5m])))',
                            "{{node}} {{service}}",
                        )
                    ),
                    source="loki",
                    step=_WINDOW,
                ),
                Panel(
                    "Warnings and worse",
                    ask(
                        (
                            "sum by (level) (count_over_time("
                            '{level=~"emerg.*|alert|crit.*|err.*|warning"}[5m]))',
                            "{{level}}",
                        )
                    ),
                    source="loki",
                    step=_WINDOW,
                    stacked=True,
                    quiet=True,
                ),
                Panel(
                    "Refused lines",
                    ask(
                        (
                            "sum by (reason) "
                            "(rate(loki_discarded_samples_total[$__rate_interval]))",
                            "{{reason}}",
                        )
                    ),
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Loki",
            (
                Panel(
                    "Taken",
                    ask(
                        (
                            "sum(rate(loki_distributor_bytes_received_total[$__rate_interval]))",
                            "bytes",
                        )
                    ),
                    unit="Bps",
                ),
                Panel(
                    "Requests",
                    ask(
                        (
                            "sum by (status_code) "
                            "(rate(loki_request_duration_seconds_count[$__rate_interval]))",
                            "{{status_code}}",
                        )
                    ),
                    unit="reqps",
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Errors",
            (
                Panel(
                    "Lines that speak of errors",
                    ask(('{level=~"emerg.*|alert|crit.*|err.*"}', "")),
                    "logs",
                    width=24,
                    height=14,
                    source="loki",
                    quiet=True,
                ),
            ),
        ),
    ),
)
