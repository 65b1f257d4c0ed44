"""How are the two nodes and what runs on them?"""

from __future__ import annotations

from stack.dashboards.model import Board, Panel, Row, Variable, ask

_OF = 'job="node", node=~"$node"'
_CONTAINER = 'container_label_com_docker_compose_service!="", node=~"$node"'
_SERVICE = "container_label_com_docker_compose_service"

NODE = Board(
    uid="overlord-node",
    title="Node",
    description="The two nodes: load, disk, network, services and containers.",
    variables=(Variable("node", "Node", 'up{job="node"}', "node", everything=True),),
    rows=(
        Row(
            "Now",
            (
                Panel(
                    "Up",
                    ask((f"min(up{{{_OF}}})", "")),
                    "stat",
                    "bool_yes_no",
                    width=4,
                    height=4,
                    warning=1,
                    critical=0.5,
                ),
                Panel(
                    "Services not healthy",
                    ask(('count(overlord_service_healthy{node=~"$node"} == 0) or vector(0)', "")),
                    "stat",
                    description="As this node's own agent sees its containers.",
                    width=4,
                    height=4,
                    warning=1,
                    critical=2,
                ),
                Panel(
                    "Certificate",
                    ask(('min(overlord_certificate_expiry_seconds{node=~"$node"}) / 86400', "")),
                    "stat",
                    "d",
                    width=4,
                    height=4,
                    warning=30,
                    critical=14,
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
                    "How far a node's clock is from the one that asks.",
                    4,
                    4,
                    warning=5,
                    critical=30,
                ),
                Panel(
                    "Failed logins, 1 h",
                    ask(
                        (
                            'sum(increase(overlord_login_failures_total{node=~"$node"}[1h]))',
                            "",
                        )
                    ),
                    "stat",
                    width=4,
                    height=4,
                    warning=10,
                    critical=50,
                ),
                Panel(
                    "Addresses banned",
                    ask(('sum(overlord_banned_addresses{node=~"$node"})', "")),
                    "stat",
                    width=4,
                    height=4,
                    warning=1,
                    critical=10,
                ),
            ),
        ),
        Row(
            "Machine",
            (
                Panel(
                    "CPU used",
                    ask(('node:cpu_used:ratio{node=~"$node"}', "{{node}}")),
                    unit="percentunit",
                    warning=0.8,
                    critical=0.95,
                ),
                Panel(
                    "Memory used",
                    ask(('node:memory_used:ratio{node=~"$node"}', "{{node}}")),
                    unit="percentunit",
                    warning=0.8,
                    critical=0.95,
                ),
                Panel(
                    "Disk used",
                    ask(('node:disk_used:ratio{node=~"$node"}', "{{node}} {{mountpoint}}")),
                    unit="percentunit",
                    warning=0.8,
                    critical=0.9,
                ),
                Panel(
                    "Disk input and output",
                    ask(
                        (
                            "sum by (node) (rate(node_disk_read_bytes_total"
                            f"{{{_OF}}}[$__rate_interval]))",
                            "{{node}} read",
                        ),
                        (
                            "sum by (node) (rate(node_disk_written_bytes_total"
                            f"{{{_OF}}}[$__rate_interval]))",
                            "{{node}} written",
                        ),
                    ),
                    unit="Bps",
                ),
                Panel(
                    "Network",
                    ask(
                        ('node:received_bytes:rate5m{node=~"$node"}', "{{node}} received"),
                        (
                            "sum by (node) (rate(node_network_transmit_bytes_total"
                            f'{{{_OF}, device!~"lo|tailscale.*"}}[$__rate_interval]))',
                            "{{node}} sent",
                        ),
                    ),
                    unit="Bps",
                ),
                Panel(
                    "Connections",
                    ask(
                        (f"node_netstat_Tcp_CurrEstab{{{_OF}}}", "{{node}} TCP"),
                        (f"node_nf_conntrack_entries{{{_OF}}}", "{{node}} tracked"),
                    ),
                    warning=4000,
                ),
            ),
        ),
        Row(
            "Containers",
            (
                Panel(
                    "Memory against the limit",
                    ask(('container:memory_used:ratio{node=~"$node"}', "{{node}} {{service}}")),
                    unit="percentunit",
                    warning=0.9,
                ),
                Panel(
                    "CPU",
                    ask(
                        (
                            f"sum by (node, {_SERVICE}) (rate(container_cpu_usage_seconds_total"
                            f"{{{_CONTAINER}}}[$__rate_interval]))",
                            f"{{{{node}}}} {{{{{_SERVICE}}}}}",
                        )
                    ),
                    description="In cores.",
                    stacked=True,
                ),
                Panel(
                    "Waiting for the CPU quota",
                    ask(('container:throttled:ratio{node=~"$node"}', "{{node}} {{service}}")),
                    unit="percentunit",
                    warning=0.5,
                    quiet=True,
                ),
                Panel(
                    "Starts in an hour",
                    ask(
                        (
                            'changes(process_start_time_seconds{node=~"$node"}[1h])',
                            "{{node}} {{job}}",
                        )
                    ),
                    warning=3,
                ),
            ),
        ),
        Row(
            "Logs of the services",
            (
                Panel(
                    "Lines",
                    ask(('{node=~"$node"}', "")),
                    "logs",
                    width=24,
                    height=12,
                    source="loki",
                ),
            ),
        ),
    ),
)
