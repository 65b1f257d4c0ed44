"""Metrics of the API itself, in a registry of its own."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)


class Metrics:
    """Every metric that the API exposes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "overlord_api_requests",
            "Requests by method, route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "overlord_api_request_seconds",
            "Time to answer a request, in seconds",
            ["route"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.statuses = Counter(
            "overlord_api_statuses",
            "Reported statuses by what became of them",
            ["result"],
            registry=self.registry,
        )
        self.database_up = Gauge(
            "overlord_api_database_up",
            "1 when the database answers",
            registry=self.registry,
        )
        self.database_waiting = Gauge(
            "overlord_api_database_waiting",
            "Requests that wait for a database connection",
            registry=self.registry,
        )
        self.leader = Gauge(
            "overlord_api_leader",
            "1 when this node may take writes",
            registry=self.registry,
        )
        self.passed_on = Counter(
            "overlord_api_passed_on",
            "Writes that this node passed on to the other one",
            registry=self.registry,
        )
        self.streams = Gauge(
            "overlord_api_streams",
            "Live streams that are open",
            registry=self.registry,
        )
        self.devices = Gauge(
            "overlord_fleet_devices",
            "Enrolled devices by status and whether they report",
            ["status", "online"],
            registry=self.registry,
        )
        self.device_seen = Gauge(
            "overlord_device_seen_timestamp_seconds",
            "When a device was last heard of, or enrolled",
            ["device"],
            registry=self.registry,
        )
