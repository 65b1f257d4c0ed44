"""What does one device do?"""

from __future__ import annotations

from stack.dashboards.model import Board, Panel, Row, Variable, ask

# `device` is one of the fleet; an interface, which node exporter calls so too, is exported_device.
_OF = 'job="device", device="$device"'

DEVICE = Board(
    uid="overlord-device",
    title="Device",
    description="One device: its load, its network, its logs.",
    variables=(Variable("device", "Device", "overlord_device_seen_timestamp_seconds", "device"),),
    rows=(
        Row(
            "Now",
            (
                Panel(
                    "Last report",
                    ask(('fleet:device_silent:seconds{device="$device"}', "")),
                    "stat",
                    "s",
                    "Time since it was last heard of.",
                    6,
                    4,
                    warning=300,
                    critical=900,
                ),
                Panel(
                    "Metrics",
                    ask((f"max(up{{{_OF}}})", "")),
                    "stat",
                    "bool_yes_no",
                    "Whether its node exporter answers.",
                    6,
                    4,
                    warning=1,
                    critical=0.5,
                ),
                Panel(
                    "Up since",
                    ask((f"time() - max(node_boot_time_seconds{{{_OF}}})", "")),
                    "stat",
                    "s",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Clock",
                    ask(
                        (
                            f"max(abs(node_time_seconds{{{_OF}}} - "
                            f"timestamp(node_time_seconds{{{_OF}}})))",
                            "",
                        )
                    ),
                    "stat",
                    "s",
                    "How far its clock is from ours.",
                    6,
                    4,
                    warning=5,
                    critical=30,
                ),
            ),
        ),
        Row(
            "Load",
            (
                Panel(
                    "CPU used",
                    ask(
                        (
                            "1 - avg(rate(node_cpu_seconds_total"
                            f'{{{_OF}, mode="idle"}}[$__rate_interval]))',
                            "used",
                        )
                    ),
                    unit="percentunit",
                    warning=0.8,
                ),
                Panel(
                    "Memory used",
                    ask(
                        (
                            f"1 - node_memory_MemAvailable_bytes{{{_OF}}} / "
                            f"(node_memory_MemTotal_bytes{{{_OF}}} > 0)",
                            "used",
                        )
                    ),
                    unit="percentunit",
                    warning=0.9,
                ),
                Panel(
                    "Disk used",
                    ask(
                        (
                            f'1 - node_filesystem_avail_bytes{{{_OF}, fstype!~"tmpfs|overlay"}} / '
                            f'(node_filesystem_size_bytes{{{_OF}, fstype!~"tmpfs|overlay"}} > 0)',
                            "{{mountpoint}}",
                        )
                    ),
                    unit="percentunit",
                    warning=0.8,
                    critical=0.9,
                ),
                Panel(
                    "Temperature",
                    ask(
                        (f"max by (chip, sensor) (node_hwmon_temp_celsius{{{_OF}}})", "{{sensor}}")
                    ),
                    unit="celsius",
                    description="Where it is measured.",
                    warning=70,
                    critical=80,
                    quiet=True,
                ),
                Panel(
                    "Network",
                    ask(
                        (
                            "sum(rate(node_network_receive_bytes_total"
                            f'{{{_OF}, exported_device!="lo"}}[$__rate_interval]))',
                            "received",
                        ),
                        (
                            "sum(rate(node_network_transmit_bytes_total"
                            f'{{{_OF}, exported_device!="lo"}}[$__rate_interval]))',
                            "sent",
                        ),
                    ),
                    unit="Bps",
                ),
                Panel(
                    "Load average",
                    ask((f"node_load1{{{_OF}}}", "1 min"), (f"node_load15{{{_OF}}}", "15 min")),
                ),
            ),
        ),
        Row(
            "Logs",
            (
                Panel(
                    "Lines",
                    ask(('{device="$device"}', "")),
                    "logs",
                    width=24,
                    height=12,
                    source="loki",
                ),
            ),
        ),
    ),
)
