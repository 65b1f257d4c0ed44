"""Do we keep what we promise?

The promises: the API answers without an error of its own (99.9 %), 99 % of its answers take less
than a second, the public name answers (99.9 %), and both nodes are there (99.9 %).
"""

from __future__ import annotations

from stack.dashboards.model import Board, Panel, Row, ask

_ERRORS = 'overlord_api_requests_total{status=~"5..", status!="503"}'
_REQUESTS = "overlord_api_requests_total"


def _good(window: str) -> str:
    return (
        f"1 - ((sum(rate({_ERRORS}[{window}])) or vector(0)) / "
        f"(sum(rate({_REQUESTS}[{window}])) > 0))"
    )


def _quick(window: str) -> str:
    return (
        f'sum(rate(overlord_api_request_seconds_bucket{{le=~"1|1.0"}}[{window}])) / '
        f"(sum(rate(overlord_api_request_seconds_count[{window}])) > 0)"
    )


def _promise(title: str, expr: str, description: str, target: float) -> Panel:
    return Panel(
        title,
        ask((expr, "")),
        "stat",
        "percentunit",
        description,
        width=6,
        height=5,
        warning=target,
        critical=1 - (1 - target) * 5,
    )


SLO = Board(
    uid="overlord-slo",
    title="Promises",
    description="Whether the pair keeps what it promises, and how much room is left.",
    hours=24 * 7,
    rows=(
        Row(
            "30 days",
            (
                _promise("API without errors", _good("30d"), "Promised: 99.9 %.", 0.999),
                _promise("Answers within a second", _quick("30d"), "Promised: 99 %.", 0.99),
                _promise(
                    "Public name",
                    'avg(avg_over_time(probe_success{job="probe-public"}[30d]))',
                    "Promised: 99.9 %. Asked by the nodes through the edge.",
                    0.999,
                ),
                _promise(
                    "Nodes",
                    'avg(avg_over_time(up{job="node"}[30d]))',
                    "Promised: 99.9 %.",
                    0.999,
                ),
            ),
        ),
        Row(
            "How fast the room goes",
            (
                Panel(
                    "Room for errors used up",
                    ask(
                        (f"(1 - ({_good('1h')})) / 0.001", "in an hour"),
                        (f"(1 - ({_good('6h')})) / 0.001", "in 6 hours"),
                    ),
                    description="At 1 it lasts as promised; at 14 a month's is gone in two days.",
                    warning=1,
                    critical=14,
                ),
                Panel(
                    "Answers within a second",
                    ask((_quick("5m"), "part")),
                    unit="percentunit",
                    warning=0.99,
                ),
                Panel(
                    "Public name",
                    ask(
                        (
                            'avg by (node) (probe_success{job="probe-public"})',
                            "asked from {{node}}",
                        )
                    ),
                ),
                Panel(
                    "Time from the edge",
                    ask(
                        (
                            'avg by (node) (probe_duration_seconds{job="probe-public"})',
                            "asked from {{node}}",
                        )
                    ),
                    unit="s",
                    warning=2,
                ),
            ),
        ),
        Row(
            "Alerting",
            (
                Panel(
                    "Messages sent",
                    ask(
                        (
                            "sum by (integration) (increase(alertmanager_notifications_total[1h]))",
                            "{{integration}}",
                        )
                    ),
                    quiet=True,
                ),
                Panel(
                    "Messages refused",
                    ask(
                        (
                            "sum by (integration) "
                            "(increase(alertmanager_notifications_failed_total[1h]))",
                            "{{integration}}",
                        )
                    ),
                    quiet=True,
                ),
            ),
        ),
    ),
)
