"""What a device says about itself. Everything is read from /proc and /sys; nothing needs root."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEBIBYTE = 1024 * 1024

# Percent of the disk in use, percent of memory in use, degrees Celsius. A Raspberry Pi slows itself
# down from 80 degrees and hard at 85 (Raspberry Pi documentation, "Frequency management").
WARNING = {"disk_used_percent": 85.0, "memory_used_percent": 90.0, "temperature_c": 80.0}
CRITICAL = {"disk_used_percent": 95.0, "memory_used_percent": 97.0, "temperature_c": 85.0}


@dataclass(frozen=True)
class HostFacts:
    """One look at the host. A value that this host does not have is None."""

    uptime_s: float | None
    load_1m: float | None
    load_5m: float | None
    load_15m: float | None
    cpu_count: int | None
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    disk_total_bytes: int | None
    disk_available_bytes: int | None
    temperature_c: float | None
    kernel: str
    machine: str

    def percentages(self) -> dict[str, float]:
        """The measured values that have a threshold."""
        values: dict[str, float] = {}
        if self.disk_total_bytes and self.disk_available_bytes is not None:
            used = self.disk_total_bytes - self.disk_available_bytes
            values["disk_used_percent"] = round(100.0 * used / self.disk_total_bytes, 1)
        if self.memory_total_bytes and self.memory_available_bytes is not None:
            used = self.memory_total_bytes - self.memory_available_bytes
            values["memory_used_percent"] = round(100.0 * used / self.memory_total_bytes, 1)
        if self.temperature_c is not None:
            values["temperature_c"] = self.temperature_c
        return values

    def verdict(self) -> tuple[str, list[str]]:
        """``ok``, ``warning`` or ``critical``, and why in words."""
        reasons: list[str] = []
        worst = "ok"
        for name, value in self.percentages().items():
            if value >= CRITICAL[name]:
                worst = "critical"
                reasons.append(f"{name} is {value:g}, critical from {CRITICAL[name]:g}")
            elif value >= WARNING[name]:
                worst = "warning" if worst == "ok" else worst
                reasons.append(f"{name} is {value:g}, warning from {WARNING[name]:g}")
        return worst, reasons

    def as_dict(self) -> dict[str, Any]:
        """The facts that are there, by name, units in the name."""
        return {key: value for key, value in vars(self).items() if value is not None}


def read_facts(disk_path: Path, root: Path = Path("/")) -> HostFacts:
    """Look at the host. ``root`` is where /proc and /sys are found."""
    load = _load()
    memory = _meminfo(root / "proc/meminfo")
    disk = _disk(disk_path)
    name = os.uname()
    return HostFacts(
        uptime_s=_first_number(root / "proc/uptime"),
        load_1m=load[0],
        load_5m=load[1],
        load_15m=load[2],
        cpu_count=os.cpu_count(),
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        disk_total_bytes=disk[0],
        disk_available_bytes=disk[1],
        temperature_c=_temperature(root / "sys/class/thermal"),
        kernel=name.release,
        machine=name.machine,
    )


def _load() -> tuple[float | None, float | None, float | None]:
    try:
        one, five, fifteen = os.getloadavg()
    except OSError:
        return (None, None, None)
    return (round(one, 2), round(five, 2), round(fifteen, 2))


def _first_number(path: Path) -> float | None:
    try:
        return float(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _meminfo(path: Path) -> dict[str, int]:
    values: dict[str, int] = {}
    try:
        for line in path.read_text().splitlines():
            name, _, rest = line.partition(":")
            fields = rest.split()
            if len(fields) == 2 and fields[1] == "kB" and fields[0].isdigit():
                values[name] = int(fields[0]) * 1024
    except OSError:
        return {}
    return values


def _disk(path: Path) -> tuple[int | None, int | None]:
    try:
        stat = os.statvfs(path)
    except OSError:
        return (None, None)
    # Blocks kept for root count as used: this agent cannot write to them.
    return (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize)


def _temperature(zones: Path) -> float | None:
    readings: list[float] = []
    try:
        candidates = sorted(zones.glob("thermal_zone*/temp"))
    except OSError:
        return None
    for zone in candidates:
        value = _first_number(zone)
        # Some boards report an unconnected sensor as a wild number.
        if value is not None and -50_000 <= value <= 150_000:
            readings.append(value / 1000.0)
    return round(max(readings), 1) if readings else None
