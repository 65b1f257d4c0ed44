"""How is the fleet, and who needs a look?"""

from __future__ import annotations

from stack.dashboards.model import Board, Panel, Row, ask

_ALERTS = 'ALERTS{alertstate="firing", alertname!="Watchdog"}'

FLEET = Board(
    uid="overlord-fleet",
    title="Fleet",
    description="How the fleet is, and which devices need a look.",
    rows=(
        Row(
            "Now",
            (
                Panel("Devices", ask(("sum(fleet:devices:count)", "")), "stat", width=4, height=4),
                Panel(
                    "Reporting",
                    ask(('sum(fleet:devices:count{online="true"}) or vector(0)', "")),
                    "stat",
                    width=4,
                    height=4,
                ),
                Panel(
                    "Silent",
                    ask(('sum(fleet:devices:count{online="false"}) or vector(0)', "")),
                    "stat",
                    width=4,
                    height=4,
                    warning=1,
                ),
                Panel(
                    "Critical",
                    ask(('sum(fleet:devices:count{status="critical"}) or vector(0)', "")),
                    "stat",
                    width=4,
                    height=4,
                    warning=1,
                    critical=5,
                ),
                Panel(
                    "Metrics fetched",
                    ask(('avg(up{job="device"})', "")),
                    "stat",
                    "percentunit",
                    "Part of the devices whose node exporter answers.",
                    4,
                    4,
                    warning=0.95,
                    critical=0.8,
                ),
                Panel(
                    "Alerts",
                    ask((f"count({_ALERTS}) or vector(0)", "")),
                    "stat",
                    width=4,
                    height=4,
                    warning=1,
                ),
            ),
        ),
        Row(
            "Over time",
            (
                Panel(
                    "Devices by status",
                    ask(("sum by (status) (fleet:devices:count)", "{{status}}")),
                    stacked=True,
                ),
                Panel(
                    "Statuses taken",
                    ask(
                        (
                            "sum by (result) (rate(overlord_api_statuses_total[$__rate_interval]))",
                            "{{result}}",
                        )
                    ),
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "CPU used, busiest devices",
                    ask(("topk(10, device:cpu_used:ratio)", "{{device}}")),
                    unit="percentunit",
                    step=60,
                ),
                Panel(
                    "Warmest devices",
                    ask(
                        (
                            'topk(10, max by (device) (node_hwmon_temp_celsius{job="device"}))',
                            "{{device}}",
                        )
                    ),
                    unit="celsius",
                    step=60,
                    description="Of those that measure it.",
                    warning=70,
                    critical=80,
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Who needs a look",
            (
                Panel(
                    "Silent longest",
                    ask(("sort_desc(topk(20, fleet:device_silent:seconds))", "")),
                    "table",
                    "s",
                    warning=300,
                    critical=900,
                ),
                Panel(
                    "Alerts",
                    ask((f"sum by (alertname, severity, node, device) ({_ALERTS})", "")),
                    "table",
                    quiet=True,
                ),
                Panel(
                    "Fullest disks",
                    ask(
                        (
                            "sort_desc(topk(20, 1 - "
                            'node_filesystem_avail_bytes{job="device", fstype!~"tmpfs|overlay"} / '
                            '(node_filesystem_size_bytes{job="device", fstype!~"tmpfs|overlay"} '
                            "> 0)))",
                            "",
                        )
                    ),
                    "table",
                    "percentunit",
                    warning=0.8,
                    critical=0.9,
                ),
                Panel(
                    "Not scraped",
                    ask(('up{job=~"device.*"} == 0', "")),
                    "table",
                    description="Device and job whose metrics cannot be fetched.",
                    quiet=True,
                ),
            ),
        ),
    ),
)
