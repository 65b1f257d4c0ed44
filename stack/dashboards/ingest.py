"""Are statuses taken, and how fast?"""

from __future__ import annotations

from stack.dashboards.model import Board, Panel, Row, Variable, ask

_OF = 'node=~"$node"'


def _quantile(part: float) -> str:
    return (
        f"histogram_quantile({part}, sum by (le) "
        f"(rate(overlord_api_request_seconds_bucket{{{_OF}}}[$__rate_interval])))"
    )


INGEST = Board(
    uid="overlord-ingest",
    title="Ingest",
    description="The way of a status into the database.",
    variables=(Variable("node", "Node", "overlord_api_leader", "node", everything=True),),
    rows=(
        Row(
            "Statuses",
            (
                Panel(
                    "Statuses by what became of them",
                    ask(
                        (
                            "sum by (result) "
                            f"(rate(overlord_api_statuses_total{{{_OF}}}[$__rate_interval]))",
                            "{{result}}",
                        )
                    ),
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "Refused",
                    ask(
                        (
                            "sum by (result) (rate(overlord_api_statuses_total"
                            f'{{{_OF}, result!~"recorded|duplicate"}}[$__rate_interval]))',
                            "{{result}}",
                        )
                    ),
                    unit="reqps",
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    "Requests by status",
                    ask(
                        (
                            "sum by (status) "
                            f"(rate(overlord_api_requests_total{{{_OF}}}[$__rate_interval]))",
                            "{{status}}",
                        )
                    ),
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "Time to answer",
                    ask(
                        (_quantile(0.5), "half of them"),
                        (_quantile(0.95), "95 %"),
                        (_quantile(0.99), "99 %"),
                    ),
                    unit="s",
                    step=60,
                    warning=1,
                ),
                Panel(
                    "Slowest routes, 95 %",
                    ask(
                        (
                            "topk(10, histogram_quantile(0.95, sum by (route, le) "
                            f"(rate(overlord_api_request_seconds_bucket{{{_OF}}}[5m]))))",
                            "{{route}}",
                        )
                    ),
                    unit="s",
                    step=60,
                ),
                Panel(
                    "Asked to come later",
                    ask(
                        (
                            "sum by (node) (rate(overlord_api_requests_total"
                            f'{{{_OF}, status=~"429|503"}}[$__rate_interval]))',
                            "{{node}}",
                        )
                    ),
                    unit="reqps",
                    description="429 in a flood of replays, 503 from a node that takes no writes.",
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Behind it",
            (
                Panel(
                    "Takes writes",
                    ask((f"overlord_api_leader{{{_OF}}}", "{{node}}")),
                    description="1 on the node that may.",
                ),
                Panel(
                    "Waiting for the database",
                    ask((f"overlord_api_database_waiting{{{_OF}}}", "{{node}}")),
                    warning=10,
                ),
                Panel(
                    "Writes passed on",
                    ask((f"rate(overlord_api_passed_on_total{{{_OF}}}[5m])", "{{node}}")),
                    unit="reqps",
                    description="They reached a node that does not lead: steering lags behind.",
                ),
                Panel("Live streams", ask((f"overlord_api_streams{{{_OF}}}", "{{node}}"))),
                Panel(
                    "Memory of the API",
                    ask((f'process_resident_memory_bytes{{job="api", {_OF}}}', "{{node}}")),
                    unit="bytes",
                ),
            ),
        ),
    ),
)
