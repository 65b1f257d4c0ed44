"""Do we keep what we promise?

The promises: the API answers without an error of its own (99.9 %), 99 % of its answers take less
than a second, the public name answers (99.9 %), and both nodes are there (99.9 %). What they are
measured by is recorded, see stack/prometheus/rules/slo.yml.
"""

from __future__ import annotations

from stack.dashboards.model import Board, Panel, Row, ask


def _errors(window: str) -> str:
    """Part of the room for errors that is used, where 1 is what was promised."""
    return (
        f"(sum_over_time(slo:api_errors:rate5m[{window}]) / "
        f"(sum_over_time(slo:api_requests:rate5m[{window}]) > 0)) / 0.001"
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
                _promise("API without errors", "slo:api_good:ratio30d", "Promised: 99.9 %.", 0.999),
                _promise(
                    "Answers within a second", "slo:api_quick:ratio30d", "Promised: 99 %.", 0.99
                ),
                _promise(
                    "Public name",
                    "slo:public_name_up:ratio30d",
                    "Promised: 99.9 %. Asked by the nodes through the edge.",
                    0.999,
                ),
                _promise(
                    "Nodes",
                    "slo:nodes_up:ratio30d",
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
                        (_errors("1h"), "in an hour"),
                        (_errors("6h"), "in 6 hours"),
                    ),
                    description="At 1 it lasts as promised; at 14 a month's is gone in two days.",
                    warning=1,
                    critical=14,
                ),
                Panel(
                    "Answers within a second",
                    ask(
                        (
                            "slo:api_quick_answers:rate5m / (slo:api_answers:rate5m > 0)",
                            "part",
                        )
                    ),
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
