"""Metrics of N devices as node exporter and Netdata would show them, never on a public address.

Three ways to tell the devices apart: one address with a path a device
(``/devices/sim-00001/metrics``), one port a device from a first port up, or an address a device, as
a real fleet has. ``/targets`` lists them for Prometheus's ``http_sd``.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence

from aiohttp import web

from device.simulator.target import TargetError, is_local

_MODES = ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")
_CPUS = 4
MAX_PORTS = 2000
NODE_EXPORTER_PORT = 9100
NETDATA_PORT = 19999
_NETDATA_CHARTS = {
    "system.cpu": ("user", "system", "nice", "iowait", "irq", "softirq", "steal"),
    "system.load": ("load1", "load5", "load15"),
    "system.ram": ("free", "used", "cached", "buffers"),
    "system.io": ("in", "out"),
    "system.net": ("received", "sent"),
    "disk_space._": ("avail", "used", "reserved_for_root"),
}


class SimulatedHost:
    """One device's metrics: counters that grow, gauges that swing, the same in every run."""

    def __init__(self, name: str) -> None:
        digest = hashlib.sha256(name.encode()).digest()
        self._name = name
        self._phase = digest[0] / 255 * 2 * math.pi
        self._base = 0.1 + digest[1] / 255
        self._booted = time.time() - 3600.0 * (1 + digest[2])

    def text(self) -> str:
        """About a hundred series in Prometheus's text format."""
        now = time.time()
        up = now - self._booted
        load = self._base * (1.2 + math.sin(now / 300 + self._phase))
        lines: list[str] = []

        def gauge(name: str, value: float, labels: str = "") -> None:
            lines.append(f"{name}{labels} {value:.10g}")

        def kind(name: str, word: str) -> None:
            lines.append(f"# TYPE {name} {word}")

        kind("node_cpu_seconds_total", "counter")
        busy = min(0.9, load / _CPUS)
        for cpu in range(_CPUS):
            for mode in _MODES:
                share = 1 - busy if mode == "idle" else busy / (len(_MODES) - 1)
                gauge("node_cpu_seconds_total", up * share, f'{{cpu="{cpu}",mode="{mode}"}}')
        for name, value in (
            ("node_load1", load),
            ("node_load5", load * 0.9),
            ("node_load15", load * 0.8),
            ("node_boot_time_seconds", self._booted),
            ("node_time_seconds", now),
            ("node_memory_MemTotal_bytes", 4.0e9),
            ("node_memory_MemAvailable_bytes", 4.0e9 * (0.6 + 0.2 * math.cos(now / 900))),
            ("node_memory_MemFree_bytes", 1.0e9),
            ("node_memory_Buffers_bytes", 1.0e8),
            ("node_memory_Cached_bytes", 1.5e9),
            ("node_timex_offset_seconds", 1e-4 * math.sin(now / 60 + self._phase)),
            ("node_timex_sync_status", 1.0),
        ):
            kind(name, "gauge")
            gauge(name, value)
        kind("node_uname_info", "gauge")
        gauge("node_uname_info", 1, f'{{nodename="{self._name}",machine="aarch64"}}')
        kind("node_hwmon_temp_celsius", "gauge")
        gauge("node_hwmon_temp_celsius", 48 + 6 * busy, '{chip="thermal",sensor="temp1"}')
        for mount, size in (("/", 3.0e10), ("/boot/firmware", 5.0e8)):
            labels = f'{{device="mmcblk0",fstype="ext4",mountpoint="{mount}"}}'
            gauge("node_filesystem_size_bytes", size, labels)
            gauge("node_filesystem_avail_bytes", size * 0.6, labels)
            gauge("node_filesystem_files_free", 1e6, labels)
        for device in ("eth0", "wlan0", "tailscale0"):
            for direction in ("receive", "transmit"):
                for unit, rate in (("bytes", 1500.0), ("packets", 4.0), ("errs", 0.0)):
                    gauge(
                        f"node_network_{direction}_{unit}_total",
                        up * rate,
                        f'{{device="{device}"}}',
                    )
        for name, rate in (("read", 10.0), ("written", 900.0)):
            gauge(f"node_disk_{name}_bytes_total", up * rate, '{device="mmcblk0"}')
        return "\n".join(lines) + "\n"

    def netdata_text(self) -> str:
        """What Netdata answers to ``/api/v1/allmetrics?format=prometheus``: some twenty series."""
        now = time.time()
        swing = 1 + math.sin(now / 300 + self._phase)
        return "".join(
            f"netdata_{chart.replace('.', '_')}_average"
            f'{{chart="{chart}",dimension="{dimension}",instance="{self._name}"}} '
            f"{self._base * swing * (1 + number):.10g}\n"
            for chart, dimensions in _NETDATA_CHARTS.items()
            for number, dimension in enumerate(dimensions)
        )


async def serve(
    names: Sequence[str], host: str, port: int, *, port_a_device: bool = False
) -> web.AppRunner:
    """Serve the metrics until the returned runner is cleaned up.

    Args:
        names: the devices.
        host: address to listen on; never a public one.
        port: the port, or the first of as many as there are devices, plus one for the list.
        port_a_device: one port a device; else one path a device.

    Raises:
        TargetError: the address is public.
    """
    if not is_local(host):
        raise TargetError(f"{host} is not a loopback or private address")
    if port_a_device and len(names) > MAX_PORTS:
        raise TargetError(f"a port a device is for up to {MAX_PORTS} devices")
    hosts = {name: SimulatedHost(name) for name in names}
    ports = {port + 1 + number: name for number, name in enumerate(names)}

    async def metrics(request: web.Request) -> web.Response:
        sockname = request.transport.get_extra_info("sockname") if request.transport else None
        name = request.match_info.get("name") or ports.get(sockname[1] if sockname else 0, "")
        if name not in hosts:
            raise web.HTTPNotFound(text="no such device\n")
        return web.Response(text=hosts[name].text(), content_type="text/plain")

    async def targets(_: web.Request) -> web.Response:
        found = []
        for number, name in zip(ports, names, strict=True):
            labels = {"device": name}
            if port_a_device:
                found.append({"targets": [f"{host}:{number}"], "labels": labels})
            else:
                labels["__metrics_path__"] = f"/devices/{name}/metrics"
                found.append({"targets": [f"{host}:{port}"], "labels": labels})
        return web.json_response(found)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/devices/{name}/metrics", metrics)
    app.router.add_get("/targets", targets)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for number in [port, *(ports if port_a_device else ())]:
        await web.TCPSite(runner, host, number).start()
    return runner


async def serve_addresses(
    devices: Mapping[str, str], ports: Sequence[int] = (NODE_EXPORTER_PORT, NETDATA_PORT)
) -> web.AppRunner:
    """Serve each device's metrics at its own address until the returned runner is cleaned up.

    Args:
        devices: names by address. The addresses are of this machine or network namespace.
        ports: as Prometheus is told to scrape them.

    Raises:
        TargetError: an address is public.
    """
    for address in devices:
        if not is_local(address):
            raise TargetError(f"{address} is not a loopback or private address")
    hosts = {address: SimulatedHost(name) for address, name in devices.items()}

    def host(request: web.Request) -> SimulatedHost:
        sockname = request.transport.get_extra_info("sockname") if request.transport else None
        found = hosts.get(sockname[0]) if sockname else None
        if found is None:
            raise web.HTTPNotFound(text="no device has this address\n")
        return found

    async def node_exporter(request: web.Request) -> web.Response:
        return web.Response(text=host(request).text(), content_type="text/plain")

    async def netdata(request: web.Request) -> web.Response:
        return web.Response(text=host(request).netdata_text(), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/metrics", node_exporter)
    app.router.add_get("/api/v1/allmetrics", netdata)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for port in ports:
        # On every address: 500 devices do not need a socket each.
        await web.TCPSite(runner, None, port).start()
    return runner
