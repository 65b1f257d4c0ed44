"""What the emulated Cloudflare keeps: one account with one zone."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

JsonObject = dict[str, Any]


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_id() -> str:
    """An identifier in the vendor's shape: 32 hex digits."""
    return secrets.token_hex(16)


class Stored(BaseModel):
    """An object with the fields that the vendor keeps for every one."""

    model_config = ConfigDict(extra="ignore")
    id: str
    created_on: str
    modified_on: str


class DnsRecord(Stored):
    """A DNS record. `content` is in presentation form whatever way it was posted."""

    type: str
    name: str
    content: str
    data: JsonObject | None = None
    priority: int | None = None
    ttl: int = 1
    proxied: bool = False
    comment: str | None = None
    tags: list[str] = []
    settings: JsonObject = {}

    @property
    def proxiable(self) -> bool:
        """Whether the vendor can put its edge in front."""
        return self.type in ("A", "AAAA", "CNAME")


class Monitor(Stored):
    """A health check. Times are in seconds."""

    type: str = "http"
    description: str = ""
    method: str = "GET"
    path: str = "/"
    port: int | None = None
    header: dict[str, list[str]] = {}
    timeout: int = 5
    retries: int = 2
    interval: int = 60
    consecutive_up: int = 0
    consecutive_down: int = 0
    expected_codes: str = "200"
    expected_body: str = ""
    follow_redirects: bool = False
    allow_insecure: bool = False
    probe_zone: str = ""


class Origin(BaseModel):
    """A server in a pool."""

    name: str
    address: str
    enabled: bool = True
    weight: float = 1
    port: int | None = None
    header: dict[str, list[str]] = {}


class Pool(Stored):
    """A group of origins, checked by one monitor."""

    name: str
    description: str = ""
    enabled: bool = True
    minimum_origins: int = 1
    monitor: str | None = None
    notification_email: str = ""
    check_regions: list[str] | None = None
    origins: list[Origin]
    latitude: float | None = None
    longitude: float | None = None
    load_shedding: JsonObject | None = None
    origin_steering: JsonObject | None = None
    notification_filter: JsonObject | None = None


class LoadBalancer(Stored):
    """A name that follows healthy pools."""

    name: str
    description: str = ""
    enabled: bool = True
    ttl: int = 30
    proxied: bool = False
    fallback_pool: str
    default_pools: list[str]
    region_pools: JsonObject = {}
    country_pools: JsonObject = {}
    pop_pools: JsonObject = {}
    steering_policy: str = "off"
    session_affinity: str = "none"
    session_affinity_attributes: JsonObject | None = None
    session_affinity_ttl: int | None = None
    adaptive_routing: JsonObject | None = None
    location_strategy: JsonObject | None = None
    random_steering: JsonObject | None = None
    rules: list[JsonObject] = []


class Ruleset(BaseModel):
    """Rules of one phase. They are stored and given back; the edge does not run them."""

    id: str
    name: str
    description: str = ""
    kind: str
    phase: str
    version: int = 1
    last_updated: str
    rules: list[JsonObject] = []


class Certificate(BaseModel):
    """An Origin CA certificate."""

    id: str
    certificate: str
    csr: str
    hostnames: list[str]
    expires_on: str
    request_type: str
    requested_validity: int


class Worker(BaseModel):
    """An uploaded script."""

    name: str
    created_on: str
    modified_on: str
    etag: str
    metadata: JsonObject
    modules: dict[str, str]
    """Module name to text."""
    content_types: dict[str, str] = {}
    schedules: list[JsonObject] = []
    migration_tag: str | None = None
    """Of the last migration that was carried out."""
    classes: list[str] = []
    """Classes that have storage for their objects."""


class WorkerDomain(BaseModel):
    """A name of the zone that a Worker answers on."""

    id: str
    hostname: str
    service: str
    zone_id: str
    zone_name: str
    environment: str = "production"
    cert_id: str


class CloudflareState(BaseModel):
    """The account."""

    zone_id: str = ""
    account_id: str = ""
    zone: str = ""
    settings: dict[str, Any] = {}
    settings_modified: dict[str, str] = {}
    records: dict[str, DnsRecord] = {}
    monitors: dict[str, Monitor] = {}
    pools: dict[str, Pool] = {}
    load_balancers: dict[str, LoadBalancer] = {}
    rulesets: dict[str, Ruleset] = {}
    certificates: dict[str, Certificate] = {}
    workers: dict[str, Worker] = {}
    worker_domains: dict[str, WorkerDomain] = {}
