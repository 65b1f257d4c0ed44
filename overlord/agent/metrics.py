"""Facts as Prometheus metrics."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from overlord.agent.state import State, View, health, leader
from overlord.backup.metrics import BackupCollector
from overlord.paths import Paths
from overlord.roles.decide import State as RoleName


class FactsCollector:
    """Makes metrics of the last round when asked."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Metrics of now; without fresh facts only that there are none."""
        view = self._state.fresh()
        yield GaugeMetricFamily(
            "overlord_agent_fresh", "1 while the agent has facts of the last 30 s", bool(view)
        )
        if view:
            yield from _families(view, self._state)
            yield from _role_families(self._state)


def _families(view: View, state: State) -> Iterator[Metric]:
    facts = view.facts
    info = GaugeMetricFamily(
        "overlord_node_info", "Node, role and release", labels=["node", "role", "release"]
    )
    roles = state.roles.fresh()
    role = roles.decision.state if roles else "unknown"
    info.add_metric([facts.node, role, facts.release or ""], 1)
    yield info
    simple = (
        ("overlord_healthy", "1 while /health answers 200", health(state)[0] == 200),
        ("overlord_leader", "1 while this node may take writes", leader(state)[0] == 200),
        ("overlord_boot_complete", "1 once the first boot has ended", facts.boot.state == "done"),
        ("overlord_docker_up", "1 while dockerd answers", facts.docker),
        ("overlord_postgres_up", "1 while PostgreSQL accepts connections", facts.postgres),
        ("overlord_tailnet_up", "1 while the node is in the tailnet", facts.tailnet.up),
        ("overlord_tailnet_peers_online", "Peers in reach", facts.tailnet.peers_online),
        ("overlord_firewall_up", "1 while ufw's rules are there", facts.firewall),
        ("overlord_metadata_guarded", "1 while the guard is there", facts.metadata_guarded),
        ("overlord_disk_used_ratio", "Used part of the data disk", facts.disk.used_ratio),
        ("overlord_memory_available_bytes", "Memory left", facts.memory.available),
        ("overlord_reboot_required", "1 when updates wait for a reboot", facts.reboot_required),
        (
            "overlord_processes_out_of_place",
            "Processes whose program lies where anybody may write",
            len(facts.processes_out_of_place),
        ),
    )
    for name, text, value in simple:
        yield GaugeMetricFamily(name, text, float(value))
    if facts.clock_synchronised is not None:
        yield GaugeMetricFamily(
            "overlord_clock_synchronised", "1 while time is kept", float(facts.clock_synchronised)
        )
    if facts.certificate_days is not None:
        yield GaugeMetricFamily(
            "overlord_certificate_expiry_seconds",
            "Time until the certificate that nginx shows ends",
            facts.certificate_days * 86_400,
        )
    yield GaugeMetricFamily(
        "overlord_login_guard_up", "1 while fail2ban answers", float(facts.logins is not None)
    )
    if facts.logins is not None:
        yield CounterMetricFamily(
            "overlord_login_failures", "Failed SSH logins that fail2ban saw", facts.logins.failed
        )
        yield GaugeMetricFamily(
            "overlord_banned_addresses", "Addresses that fail2ban keeps away", facts.logins.banned
        )
    if facts.file_check is not None:
        yield GaugeMetricFamily(
            "overlord_files_changed",
            "Installed files and settings that are not as they were",
            facts.file_check.changed,
        )
        yield GaugeMetricFamily(
            "overlord_files_checked_timestamp_seconds",
            "Last check of the installed files",
            facts.file_check.time,
        )
    source = GaugeMetricFamily(
        "overlord_certificate_source", "1 for where the certificate comes from", labels=["source"]
    )
    if facts.certificate_source:
        source.add_metric([facts.certificate_source], 1)
    yield source
    yield GaugeMetricFamily(
        "overlord_certificate_renewal_failed",
        "1 when the last renewal failed",
        float(facts.certificate_error is not None),
    )
    if facts.last_change is not None:
        change = GaugeMetricFamily(
            "overlord_last_change_timestamp_seconds",
            "Last change of the release in force",
            labels=["action", "result"],
        )
        change.add_metric(
            [facts.last_change.action, facts.last_change.result], facts.last_change.time
        )
        yield change
    services = GaugeMetricFamily(
        "overlord_service_healthy", "1 for a service as it should be", labels=["service"]
    )
    wrong = facts.service_trouble
    for service in facts.expected:
        services.add_metric([service.name], float(service.name not in wrong))
    yield services


def _role_families(state: State) -> Iterator[GaugeMetricFamily]:
    """Role, right and replication; nothing while the role manager is silent."""
    view = state.roles.fresh()
    if view is None:
        return
    facts, decision, record = view.facts, view.decision, view.record
    states = GaugeMetricFamily("overlord_role", "1 for the role of this node", labels=["role"])
    for name in get_args(RoleName):
        states.add_metric([name], float(decision.state == name))
    yield states
    right, database = decision.right, facts.database
    yield GaugeMetricFamily(
        "overlord_role_epoch", "Epoch of this node's last right to take writes",
        right.epoch if right else record.epoch,
    )  # fmt: skip
    yield GaugeMetricFamily(
        "overlord_role_arbiter_configured", "1 where an arbiter decides", float(facts.arbiter)
    )
    yield GaugeMetricFamily(
        "overlord_role_maintenance", "1 while this node is kept from becoming primary",
        float(record.maintenance),
    )  # fmt: skip
    yield GaugeMetricFamily(
        "overlord_role_diverged_bytes", "Log that this node alone had, kept aside",
        record.diverged,
    )  # fmt: skip
    promoted = [event.time for event in record.events if event.what == "promoted"]
    if promoted:
        yield GaugeMetricFamily(
            "overlord_role_last_promotion_timestamp_seconds", "Last promotion of this node",
            promoted[-1],
        )  # fmt: skip
    if database and not database.in_recovery:
        yield GaugeMetricFamily(
            "overlord_replication_synchronous", "1 while writes wait for the standby",
            float(bool(database.synchronous)),
        )  # fmt: skip
    if facts.arbiter:
        yield GaugeMetricFamily(
            "overlord_arbiter_silent_seconds", "Since the arbiter last answered",
            min(facts.now - facts.lease.answered, 10.0**9),
        )  # fmt: skip
        yield GaugeMetricFamily(
            "overlord_lease_seconds",
            "Left of this node's lease",
            max(0.0, facts.lease.until - facts.now),
        )
    if view.lag is not None:
        yield GaugeMetricFamily(
            "overlord_replication_lag_bytes", "Log that the standby lacks", view.lag
        )


def render(state: State, paths: Paths = Paths()) -> bytes:  # noqa: B008 (frozen)
    """Text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FactsCollector(state))
    registry.register(BackupCollector(paths))
    return generate_latest(registry)
