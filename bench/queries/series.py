"""The series of a fleet as a node's Prometheus has them: devices, and the services of the pair."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.queries.remote_write import Line, line, lines_of
from device.simulator.exporters import SimulatedHost

SILENT = 10
"""Devices that have not been heard of for an hour."""
NODES = ("vps-01", "vps-02")
AGE = 1_000_000.0
"""Seconds over which the services' counters have grown."""

_SERVICES = (
    "alertmanager", "api", "blackbox", "cadvisor", "gitea", "grafana", "log-gate", "loki", "nginx",
    "node-exporter", "postgres", "postgres-exporter", "prometheus",
)  # fmt: skip
_MOUNTS = ("/", "/boot/efi")
_ROUTES = (
    "/api/status", "/api/fleet", "/api/devices", "/api/devices/{device_id}", "/api/events",
    "/api/devices/{device_id}/series", "/api/devices/{device_id}/history", "/api/stream",
    "/api/devices/{device_id}/logs", "/api/nodes", "/api/alerts", "/api/silences", "/api/audit",
    "/api/health", "/metrics", "/sd/devices", "unmatched",
)  # fmt: skip
_BUCKETS = (
    "0.002", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0",
    "+Inf",
)  # fmt: skip
_LOKI = "loki_request_duration_seconds_count"
# Charts of a small board, family and dimensions.
_NETDATA = (
    ("system.cpu", "cpu", "percentage", ("user", "system", "nice", "iowait", "irq", "softirq")),
    ("system.load", "load", "load", ("load1", "load5", "load15")),
    ("system.ram", "ram", "MiB", ("free", "used", "cached", "buffers")),
    ("system.io", "disk", "KiB_persec", ("in", "out")),
    ("system.net", "network", "kilobits_persec", ("received", "sent")),
    ("system.processes", "processes", "processes", ("running", "blocked")),
    ("system.uptime", "uptime", "seconds", ("uptime",)),
    ("system.ctxt", "processes", "context_switches_persec", ("switches",)),
    ("disk_space._", "/", "GiB", ("avail", "used", "reserved_for_root")),
    ("disk_ops.mmcblk0", "mmcblk0", "operations_persec", ("reads", "writes")),
    ("net.eth0", "eth0", "kilobits_persec", ("received", "sent")),
    ("net_packets.eth0", "eth0", "packets_persec", ("received", "sent", "multicast")),
    ("mem.available", "system", "MiB", ("avail",)),
    ("sensors.temp_cpu", "temperature", "Celsius", ("input",)),
    ("apps.cpu", "cpu", "percentage", ("agent", "camera", "ssh", "system", "other", "logs")),
)


def of_devices(ids: list[str]) -> Iterator[Line]:
    """Node exporter, Netdata and what each scrape says of itself, of every device."""
    for number, device in enumerate(ids):
        site = f"site-{number % 8}"
        labels = {"device": device, "instance": device, "tags": f",{site},ring-main,"}
        text = SimulatedHost(device).text()
        booted = next(row for row in text.splitlines() if row.startswith("node_boot_time"))
        age = time.time() - float(booted.split()[1])
        yield from lines_of(text, {**labels, "job": "device"}, age)
        silent = number < SILENT
        for chart, family, unit, dimensions in _NETDATA:
            for dimension in dimensions:
                name = f"netdata_{chart.split('.')[0]}_{unit}_average"
                own = {"chart": chart, "family": family, "dimension": dimension}
                yield line(name, {**own, **labels, "job": "device-netdata"}, 20.0)
        for job, count in (("device", 72), ("device-netdata", 39)):
            scraped = {**labels, "job": job}
            yield line("up", scraped, 0.0 if silent else 1.0)
            yield line("scrape_duration_seconds", scraped, 0.05)
            yield line("scrape_samples_scraped", scraped, count)
            yield line("scrape_samples_post_metric_relabeling", scraped, count)
            yield line("scrape_series_added", scraped, 0.0)


def of_promises() -> Iterator[Line]:
    """What stack/prometheus/rules/slo.yml records of each minute, and looks back on for 30 days."""
    for name, value in (
        ("slo:api_requests:rate5m", 9.0),
        ("slo:api_errors:rate5m", 0.001),
        ("slo:api_answers:rate5m", 9.0),
        ("slo:api_quick_answers:rate5m", 8.95),
        ("slo:public_name_up:ratio5m", 1.0),
        ("slo:nodes_up:ratio5m", 1.0),
        ("slo:api_good:ratio30d", 0.9998),
        ("slo:api_quick:ratio30d", 0.995),
        ("slo:public_name_up:ratio30d", 0.9995),
        ("slo:nodes_up:ratio30d", 0.9995),
    ):
        yield line(name, {}, value)


def of_rules(ids: list[str]) -> Iterator[Line]:
    """What the other rules record; `asked.drifted` finds where that is no longer so."""
    for status, online, count in _fleet(len(ids)):
        yield line("fleet:devices:count", {"status": status, "online": online}, count)
    for number, device in enumerate(ids):
        silent = {"device": device}
        # Not quite what the rule says of the silent ones, whose time goes on.
        yield line("fleet:device_silent:seconds", silent, 3700.0 if number < SILENT else 30.0)
        yield line("device:cpu_used:ratio", {"device": device}, 0.2)
    for node in NODES:
        of_node = {"node": node, "instance": node, "job": "node"}
        yield line("node:cpu_used:ratio", of_node, 0.3)
        yield line("node:memory_used:ratio", of_node, 0.5)
        yield line("node:received_bytes:rate5m", of_node, 2e4)
        for mount in _MOUNTS:
            disk = {"mountpoint": mount, "device": "/dev/sda1", "fstype": "ext4"}
            yield line("node:disk_used:ratio", {**of_node, **disk}, 0.4)
    for service in _SERVICES:
        of_service = {"node": "vps-01", "service": service}
        yield line("container:memory_used:ratio", of_service, 0.4)
        yield line("container:throttled:ratio", of_service, 0.0)
    own = {"node": "vps-01", "instance": "vps-01"}
    yield line("postgres:connections_used:ratio", own, 0.2)
    yield line("postgres:oldest_active:seconds", own, 0.01)
    for node in NODES:
        labels = {"node": node, "instance": node, "job": "agent", "certificate": "node"}
        yield line("certificate:end:days", labels, 60.0)
    public = {"instance": "fleet.example.com", "certificate": "public"}
    yield line("certificate:end:days", public, 60.0)


def _fleet(count: int) -> Iterator[tuple[str, str, float]]:
    for status in ("ok", "warning", "critical", "none"):
        for online in ("true", "false"):
            if status == "ok":
                yield status, online, float(count - SILENT if online == "true" else SILENT)
            else:
                yield status, online, 2.0


def _requests(own: dict[str, str]) -> Iterator[Line]:
    for route in _ROUTES:
        for status, requests in (("200", 9e6), ("404", 2e3), ("500", 10.0), ("503", 1e3)):
            labels = {"method": "GET", "route": route, "status": status, **own}
            yield line("overlord_api_requests_total", labels, requests, requests / AGE)
        for number, le in enumerate(_BUCKETS):
            count = 9e6 * min(1.0, 0.4 + 0.1 * number)
            labels = {"route": route, "le": le, **own}
            yield line("overlord_api_request_seconds_bucket", labels, count, count / AGE)
        name = "overlord_api_request_seconds_count"
        yield line(name, {"route": route, **own}, 9e6, 9e6 / AGE)


def of_services(ids: list[str], origin: float) -> Iterator[Line]:
    """What the services of the pair say, as far as a dashboard or a rule asks for it.

    Args:
        ids: the devices.
        origin: time of the series' start, in seconds since the epoch.
    """
    own = {"node": "vps-01", "instance": "vps-01"}
    yield from _requests({"job": "api", **own})
    for number, device in enumerate(ids):
        last = time.time() - 4000 if number < SILENT else origin - 30.0
        yield line(
            "overlord_device_seen_timestamp_seconds", {"job": "api", **own, "device": device}, last,
            0.0 if number < SILENT else 1.0,
        )  # fmt: skip
    for job, text in _own_services(ids).items():
        yield line("up", {"job": job, **own}, 1.0)
        yield from lines_of(text, {"job": job, **own}, AGE)
    probe = {"job": "probe-public", "node": "vps-01", "instance": "fleet.example.com"}
    yield line("up", probe, 1.0)
    yield line("probe_success", probe, 1.0)
    yield line("probe_duration_seconds", probe, 0.08)
    yield line("probe_ssl_earliest_cert_expiry", probe, time.time() + 5e6)
    for node in NODES:
        of_node = {"node": node, "instance": node}
        yield line("up", {**of_node, "job": "probe-node"}, 1.0)
        yield line("probe_success", {**of_node, "job": "probe-node"}, 1.0)
        for job, text in _of_both(node).items():
            yield line("up", {"job": job, **of_node}, 1.0)
            yield from lines_of(text, {"job": job, **of_node}, AGE)


def _text(*rows: tuple[str, float]) -> str:
    return "\n".join(f"{name} {value}" for name, value in rows)


def _own_services(ids: list[str]) -> dict[str, str]:
    now = time.time()
    fleet = [
        (f'overlord_fleet_devices{{status="{status}",online="{online}"}}', count)
        for status, online, count in _fleet(len(ids))
    ]
    containers = []
    for service in _SERVICES:
        labels = (
            f'container_label_com_docker_compose_service="{service}",'
            f'name="overlord-{service}-1",image="registry.example.com/{service}",id="/docker/{service}"'
        )
        containers += [
            (f"container_memory_working_set_bytes{{{labels}}}", 2e8),
            (f"container_spec_memory_limit_bytes{{{labels}}}", 5e8),
            (f'container_cpu_usage_seconds_total{{cpu="total",{labels}}}', 2e5),
            (f"container_cpu_cfs_throttled_periods_total{{{labels}}}", 1e3),
            (f"container_cpu_cfs_periods_total{{{labels}}}", 1e7),
        ]
    database = [
        ("pg_up", 1.0),
        ("pg_settings_max_connections", 100.0),
        ('pg_database_size_bytes{datname="overlord"}', 3e9),
        ('pg_stat_activity_max_tx_duration{datname="overlord",state="active"}', 0.01),
        *(
            (f'pg_stat_activity_count{{datname="{name}",state="{state}"}}', 4.0)
            for name in ("overlord", "gitea", "postgres")
            for state in ("active", "idle", "idle in transaction", "disabled", "fastpath")
        ),
        *(
            (f'pg_locks_count{{datname="{name}",mode="{mode}lock"}}', 2.0)
            for name in ("overlord", "gitea")
            for mode in ("accessshare", "rowshare", "rowexclusive", "exclusive", "accessexclusive")
        ),
        ('pg_stat_database_deadlocks{datname="overlord"}', 0.0),
        *(
            (f'pg_stat_database_{what}{{datname="overlord"}}', 1e6)
            for what in (
                "xact_commit", "xact_rollback", "tup_inserted", "tup_updated", "tup_fetched",
                "blks_hit", "blks_read",
            )
        ),
    ]  # fmt: skip
    process = ("process_start_time_seconds", now - AGE)
    return {
        "api": _text(
            process, *fleet, ("process_resident_memory_bytes", 1.2e8),
            ("overlord_api_database_up", 1.0), ("overlord_api_database_waiting", 0.0),
            ("overlord_api_leader", 1.0), ("overlord_api_streams", 3.0),
            *(
                (f'overlord_api_statuses_total{{result="{result}"}}', 8e6)
                for result in ("recorded", "duplicate", "too_old", "clock", "invalid")
            ),
        ),
        "cadvisor": _text(*containers),
        "postgres": _text(process, *database),
        "blackbox": _text(process),
        "gitea": _text(process),
        "loki": _text(
            process, ("loki_distributor_bytes_received_total", 4e9),
            *(
                (f'{_LOKI}{{status_code="{code}",route="{route}"}}', 1e6)
                for code in ("200", "204", "400", "500")
                for route in ("push", "query_range", "labels", "ready", "metrics")
            ),
            ('loki_discarded_samples_total{reason="greater_than_max_sample_age"}', 10.0),
        ),
        "prometheus": _text(
            process, ("prometheus_tsdb_wal_writes_failed_total", 0.0),
            ("prometheus_tsdb_compactions_failed_total", 0.0),
            ("prometheus_config_last_reload_successful", 1.0),
            ("prometheus_notifications_dropped_total", 0.0),
            ("prometheus_notifications_alertmanagers_discovered", 2.0),
            ("prometheus_target_scrapes_exceeded_sample_limit_total", 0.0),
            ("prometheus_target_scrapes_exceeded_body_size_limit_total", 0.0),
            (
                'prometheus_engine_query_duration_seconds{slice="inner_eval",quantile="0.99"}',
                0.01,
            ),
            *(
                (f'{name}{{rule_group="{group}"}}', value)
                for group in ("fleet", "node", "services", "postgres", "containers", "backup")
                for name, value in (
                    ("prometheus_rule_evaluation_failures_total", 0.0),
                    ("prometheus_rule_group_last_duration_seconds", 0.01),
                    ("prometheus_rule_group_interval_seconds", 15.0),
                )
            ),
        ),
    }  # fmt: skip


def _of_both(node: str) -> dict[str, str]:
    now = time.time()
    leads = node == "vps-01"
    disks = [
        (f'node_filesystem_{what}{{device="/dev/sda1",fstype="ext4",mountpoint="{mount}"}}', value)
        for mount in _MOUNTS
        for what, value in (
            ("avail_bytes", 9e10), ("size_bytes", 1.6e11), ("files", 1e7), ("files_free", 9e6),
            ("readonly", 0.0),
        )
    ]  # fmt: skip
    network = [
        (f'node_network_{way}_{unit}_total{{device="{device}"}}', 1e9)
        for device in ("lo", "eth0", "tailscale0", "docker0", "br-overlord")
        for way in ("receive", "transmit")
        for unit in ("bytes", "packets", "errs", "drop")
    ]
    return {
        "node": _text(
            *(
                (f'node_cpu_seconds_total{{cpu="{cpu}",mode="{mode}"}}', AGE * share)
                for cpu in range(4)
                for mode, share in (
                    ("idle", 0.7), ("iowait", 0.02), ("irq", 0.0), ("nice", 0.0),
                    ("softirq", 0.01), ("steal", 0.02), ("system", 0.1), ("user", 0.15),
                )
            ),
            *disks, *network,
            ("node_memory_MemAvailable_bytes", 4e9), ("node_memory_MemTotal_bytes", 8e9),
            ("node_vmstat_oom_kill", 0.0), ("node_time_seconds", now),
            ("node_timex_sync_status", 1.0), ("node_timex_maxerror_seconds", 0.01),
            ("node_netstat_Tcp_CurrEstab", 700.0), ("node_nf_conntrack_entries", 900.0),
            ("node_nf_conntrack_entries_limit", 262144.0),
            ('node_disk_read_bytes_total{device="sda"}', 1e10),
            ('node_disk_written_bytes_total{device="sda"}', 5e10),
            ("process_start_time_seconds", now - AGE),
        ),
        "alertmanager": _text(
            ("process_start_time_seconds", now - AGE), ("alertmanager_cluster_members", 2.0),
            *(
                (f'alertmanager_notifications_{what}{{integration="{channel}"}}', 100.0)
                for what in ("total", "failed_total")
                for channel in ("slack", "email", "pagerduty", "webhook")
            ),
        ),
        "agent": _text(
            ("process_start_time_seconds", now - AGE), ("overlord_leader", float(leads)),
            ("overlord_replication_synchronous", 1.0), ("overlord_replication_lag_bytes", 0.0),
            ("overlord_role_epoch", 7.0), ("overlord_role_maintenance", 0.0),
            ("overlord_arbiter_silent_seconds", 2.0), ("overlord_tailnet_up", 1.0),
            ("overlord_login_failures_total", 4e3), ("overlord_banned_addresses", 0.0),
            ("overlord_login_guard_up", 1.0), ("overlord_firewall_up", 1.0),
            ("overlord_metadata_guarded", 1.0),
            ('overlord_certificate_expiry_seconds{certificate="node"}', 5e6),
            ('overlord_certificate_source{source="self-signed"}', 0.0),
            ("overlord_certificate_renewal_failed", 0.0),
            *(
                (f'overlord_service_healthy{{service="{service}"}}', 1.0) for service in _SERVICES
            ),
            ('overlord_last_change_timestamp_seconds{action="apply",result="ok"}', now - 9e4),
            ("overlord_backup_failed", 0.0), ("overlord_backup_seen_timestamp_seconds", now),
            ("overlord_backup_last_timestamp_seconds", now), ("overlord_backup_size_ratio", 1.0),
            ("overlord_archive_behind_seconds", 10.0), ("overlord_restore_test_ok", 1.0),
            ("overlord_restore_test_good_timestamp_seconds", now),
            ("overlord_metrics_backup_timestamp_seconds", now),
        ),
    }  # fmt: skip
