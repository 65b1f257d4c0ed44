"""What a fleet of a given size needs: one table for servers, disk and retention.

The rows are those of parts 2 and 4 of the design of VPS-01. Two things differ on purpose. Disk is
the local disk that a Hetzner type of that size brings, not the table's figure, since retention by
size keeps the metrics inside whatever disk there is. And the standby is as large as the primary: a
standby that cannot carry the fleet is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Disk that is not for metrics, in GB (part 2): of every node, and what grows with the fleet.
_SYSTEM_DISK_GB = {"system": 5, "images": 20, "gitea": 5, "grafana": 1}
_DISK_GB_FOR_100 = {"postgres": 10, "loki": 3}
# Never fill the rest: Prometheus needs room for its write-ahead log and for compaction.
_METRICS_SHARE = 0.6


@dataclass(frozen=True)
class Size:
    """One row of the table.

    Args:
        fleet_size: devices, at most.
        server_types: Hetzner types, most wanted first.
        cores: virtual CPUs that a node needs at least.
        memory_gb: memory that a node needs at least, in GB.
        disk_gb: local disk that a node needs at least, in GB.
        retention_days: how long metrics are kept, in days, if the disk allows it.
    """

    fleet_size: int
    server_types: tuple[str, ...]
    cores: int
    memory_gb: int
    disk_gb: int
    retention_days: int

    @property
    def memory_mb(self) -> int:
        """Memory for the split over containers, in MiB."""
        return self.memory_gb * 1024

    @property
    def service_disk_gb(self) -> dict[str, int]:
        """Disk that each service's data may need, in GB; metrics get what `metrics_gb` says."""
        hundreds = max(1.0, self.fleet_size / 100)
        grown = {name: round(each * hundreds) for name, each in _DISK_GB_FOR_100.items()}
        return {**grown, "gitea": _SYSTEM_DISK_GB["gitea"], "prometheus": self.metrics_gb}

    @property
    def metrics_gb(self) -> int:
        """How much disk metrics may fill, in GB."""
        hundreds = max(1.0, self.fleet_size / 100)
        other = sum(_SYSTEM_DISK_GB.values()) + sum(_DISK_GB_FOR_100.values()) * hundreds
        return int((self.disk_gb - other) * _METRICS_SHARE)

    @property
    def retention_size(self) -> str:
        """How much disk metrics may fill, in Prometheus' notation."""
        return f"{self.metrics_gb}GB"


SIZES: Mapping[int, Size] = {
    size.fleet_size: size
    for size in (
        Size(50, ("cpx32", "cx33", "ccx23"), 4, 8, 80, retention_days=90),
        Size(100, ("cpx42", "cx43", "ccx33"), 8, 16, 160, retention_days=90),
        Size(250, ("ccx33", "cpx62", "cx53"), 8, 32, 240, retention_days=90),
        Size(500, ("ccx43", "ccx53"), 16, 64, 360, retention_days=90),
    )
}
