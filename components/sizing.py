"""What a fleet of a given size needs: one table for servers, disk and retention.

The rows are those of parts 2 and 4 of the design of VPS-01. Two things differ on purpose. Disk is
the local disk that a Hetzner type of that size brings, not the table's figure, since retention by
size keeps the metrics inside whatever disk there is. And the standby is as large as the primary: a
standby that cannot carry the fleet is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Disk that is not for metrics, in GB: system 5, images 20, database 10, git mirror 5, logs 3,
# Grafana 1 (part 2), rounded up.
_OTHER_DISK_GB = 45
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
    def retention_size(self) -> str:
        """How much disk metrics may fill, in Prometheus' notation."""
        return f"{int((self.disk_gb - _OTHER_DISK_GB) * _METRICS_SHARE)}GB"


SIZES: Mapping[int, Size] = {
    size.fleet_size: size
    for size in (
        Size(50, ("cpx32", "cx33", "ccx23"), 4, 8, 80, retention_days=90),
        Size(100, ("cpx42", "cx43", "ccx33"), 8, 16, 160, retention_days=90),
        Size(250, ("ccx33", "cpx62", "cx53"), 8, 32, 240, retention_days=90),
        Size(500, ("ccx43", "ccx53"), 16, 64, 360, retention_days=90),
    )
}
