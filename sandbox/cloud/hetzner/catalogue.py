"""What Hetzner offers: locations, server types, images, prices.

Names, sizes and the state of retirement are the vendor's as of autumn 2026. Prices are net euros
a month for orientation only (list of late 2025); nothing in the emulation computes with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sandbox.cloud.hetzner.domain import JsonObject

EU = ("fsn1", "nbg1", "hel1")
US = ("ash", "hil")
ASIA = ("sin",)
GIB = 1024**3
HOURS_A_MONTH = 624  # the vendor caps a month at this many hours


@dataclass(frozen=True)
class Location:
    """A place with a data centre."""

    id: int
    name: str
    country: str
    city: str
    latitude: float
    longitude: float
    network_zone: str
    description: str

    def body(self) -> JsonObject:
        """Render as the API does."""
        return dict(vars(self))


LOCATIONS = {
    location.name: location
    for location in (
        Location(1, "fsn1", "DE", "Falkenstein", 50.47612, 12.370071, "eu-central",
                 "Falkenstein DC Park 1"),
        Location(2, "nbg1", "DE", "Nuremberg", 49.452102, 11.076665, "eu-central",
                 "Nuremberg DC Park 1"),
        Location(3, "hel1", "FI", "Helsinki", 60.169855, 24.938379, "eu-central",
                 "Helsinki DC Park 1"),
        Location(4, "ash", "US", "Ashburn, VA", 39.045821, -77.487073, "us-east",
                 "Ashburn, VA"),
        Location(5, "hil", "US", "Hillsboro, OR", 45.54222, -122.951924, "us-west",
                 "Hillsboro, OR"),
        Location(6, "sin", "SG", "Singapore", 1.283333, 103.833333, "ap-southeast",
                 "Singapore"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Retirement:
    """When a server type was announced as ending, and ended."""

    announced: str
    unavailable_after: str

    def body(self) -> JsonObject:
        """Render as the API does."""
        return dict(vars(self))


# https://docs.hetzner.cloud/changelog#2025-10-16-server-types-deprecated
RETIRED_2025 = Retirement("2025-10-16T06:00:00+00:00", "2025-12-31T00:00:00+00:00")


@dataclass(frozen=True)
class ServerType:
    """A size. Memory and disk are in GB, the price in euros a month."""

    id: int
    name: str
    category: str
    cores: int
    memory: int
    disk: int
    price: float
    locations: tuple[str, ...]
    cpu_type: Literal["shared", "dedicated"] = "shared"
    architecture: Literal["x86", "arm"] = "x86"
    retired: tuple[str, ...] = ()
    """Locations in which it can no longer be ordered."""

    def orderable(self, location: str) -> bool:
        """Whether the vendor still sells it there."""
        return location in self.locations and location not in self.retired

    def body(self, sold_out: frozenset[str] = frozenset()) -> JsonObject:
        """Render as the API does; `sold_out` names locations without stock."""
        retirement = RETIRED_2025.body()
        everywhere = set(self.locations) == set(self.retired)
        return {
            "id": self.id,
            "name": self.name,
            "description": self.name.upper(),
            "category": self.category,
            "cores": self.cores,
            "memory": float(self.memory),
            "disk": self.disk,
            "deprecated": everywhere,
            "deprecation": retirement if everywhere else None,
            "prices": [self._price(location) for location in self.locations],
            "storage_type": "local",
            "cpu_type": self.cpu_type,
            "architecture": self.architecture,
            "included_traffic": None,
            "locations": [
                {
                    "id": LOCATIONS[location].id,
                    "name": location,
                    "deprecation": retirement if location in self.retired else None,
                    "available": self.orderable(location) and location not in sold_out,
                    "recommended": self.orderable(location) and location not in sold_out,
                }
                for location in self.locations
            ],
        }

    def _price(self, location: str) -> JsonObject:
        return {
            "location": location,
            "price_hourly": money(self.price / HOURS_A_MONTH),
            "price_monthly": money(self.price),
            "included_traffic": (20 if location in EU else 1) * 1024 * GIB,
            "price_per_tb_traffic": money(1.0),
        }


def money(net: float) -> JsonObject:
    """A price as the API writes it: decimal strings, net and gross."""
    return {"net": f"{net:.10f}", "gross": f"{net * 1.19:.16f}"}


_COST, _REGULAR, _GENERAL = "cost_optimized", "regular_purpose", "general_purpose"
_WORLD = (*EU, *US, *ASIA)

SERVER_TYPES: dict[str, ServerType] = {
    t.name: t
    for t in (
        ServerType(104, "cx22", _COST, 2, 4, 40, 3.29, EU, retired=EU),
        ServerType(105, "cx32", _COST, 4, 8, 80, 5.99, EU, retired=EU),
        ServerType(106, "cx42", _COST, 8, 16, 160, 15.90, EU, retired=EU),
        ServerType(107, "cx52", _COST, 16, 32, 320, 31.90, EU, retired=EU),
        ServerType(114, "cx23", _COST, 2, 4, 40, 2.99, EU),
        ServerType(115, "cx33", _COST, 4, 8, 80, 4.99, EU),
        ServerType(116, "cx43", _COST, 8, 16, 160, 8.99, EU),
        ServerType(117, "cx53", _COST, 16, 32, 320, 16.99, EU),
        ServerType(22, "cpx11", _REGULAR, 2, 2, 40, 3.85, _WORLD, retired=EU),
        ServerType(23, "cpx21", _REGULAR, 3, 4, 80, 7.05, _WORLD, retired=EU),
        ServerType(24, "cpx31", _REGULAR, 4, 8, 160, 13.10, _WORLD, retired=EU),
        ServerType(25, "cpx41", _REGULAR, 8, 16, 240, 24.70, _WORLD, retired=EU),
        ServerType(26, "cpx51", _REGULAR, 16, 32, 360, 54.40, _WORLD, retired=EU),
        ServerType(108, "cpx12", _REGULAR, 1, 2, 40, 4.49, (*EU, *ASIA)),
        ServerType(109, "cpx22", _REGULAR, 2, 4, 80, 5.99, (*EU, *ASIA)),
        ServerType(110, "cpx32", _REGULAR, 4, 8, 160, 10.49, (*EU, *ASIA)),
        ServerType(111, "cpx42", _REGULAR, 8, 16, 320, 19.49, (*EU, *ASIA)),
        ServerType(112, "cpx52", _REGULAR, 12, 24, 480, 27.99, (*EU, *ASIA)),
        ServerType(113, "cpx62", _REGULAR, 16, 32, 640, 37.99, (*EU, *ASIA)),
        ServerType(45, "cax11", _COST, 2, 4, 40, 3.29, EU, architecture="arm"),
        ServerType(93, "cax21", _COST, 4, 8, 80, 5.99, EU, architecture="arm"),
        ServerType(94, "cax31", _COST, 8, 16, 160, 11.99, EU, architecture="arm"),
        ServerType(95, "cax41", _COST, 16, 32, 320, 23.99, EU, architecture="arm"),
        ServerType(96, "ccx13", _GENERAL, 2, 8, 80, 11.99, _WORLD, "dedicated"),
        ServerType(97, "ccx23", _GENERAL, 4, 16, 160, 23.99, _WORLD, "dedicated"),
        ServerType(98, "ccx33", _GENERAL, 8, 32, 240, 47.99, _WORLD, "dedicated"),
        ServerType(99, "ccx43", _GENERAL, 16, 64, 360, 95.99, _WORLD, "dedicated"),
        ServerType(100, "ccx53", _GENERAL, 32, 128, 600, 191.99, _WORLD, "dedicated"),
        ServerType(101, "ccx63", _GENERAL, 48, 192, 960, 287.99, _WORLD, "dedicated"),
    )
}


@dataclass(frozen=True)
class Image:
    """A system image."""

    id: int
    name: str
    os_flavor: str
    os_version: str
    architecture: Literal["x86", "arm"]

    def body(self) -> JsonObject:
        """Render as the API does."""
        return {
            "id": self.id,
            "type": "system",
            "status": "available",
            "name": self.name,
            "description": f"{self.os_flavor.capitalize()} {self.os_version}",
            "image_size": None,
            "disk_size": 5,
            "created": "2024-04-25T12:00:00+00:00",
            "created_from": None,
            "bound_to": None,
            "os_flavor": self.os_flavor,
            "os_version": self.os_version,
            "rapid_deploy": True,
            "protection": {"delete": False},
            "deprecated": None,
            "deleted": None,
            "labels": {},
            "architecture": self.architecture,
        }


IMAGES = {
    image.id: image
    for image in (
        Image(114690387, "debian-12", "debian", "12", "x86"),
        Image(114690389, "debian-12", "debian", "12", "arm"),
        Image(161547269, "ubuntu-24.04", "ubuntu", "24.04", "x86"),
        Image(161547270, "ubuntu-24.04", "ubuntu", "24.04", "arm"),
    )
}


def pricing() -> JsonObject:
    """The answer of GET /pricing."""
    types = [
        {"id": t.id, "name": t.name, "prices": t.body()["prices"]} for t in SERVER_TYPES.values()
    ]
    addresses = [
        {
            "type": kind,
            "prices": [
                {
                    "location": location,
                    "price_hourly": money(price / HOURS_A_MONTH),
                    "price_monthly": money(price),
                }
                for location in LOCATIONS
            ],
        }
        for kind, price in (("ipv4", 0.50), ("ipv6", 0.0))
    ]
    return {
        "currency": "EUR",
        "vat_rate": "19.000000",
        "image": {"price_per_gb_month": money(0.0110)},
        "server_backup": {"percentage": "20.0000000000"},
        "volume": {"price_per_gb_month": money(0.0440)},
        "floating_ip": {"price_monthly": money(3.0)},
        "floating_ips": [],
        "primary_ips": addresses,
        "server_types": types,
        "load_balancer_types": [],
    }


def datacenter(location: str) -> JsonObject:
    """The property that the vendor removed in July 2026.

    Kept in answers because providers before 1.67 read it without asking whether it is there;
    newer clients ignore it. Requests may not use it.
    """
    place = LOCATIONS[location]
    return {
        "id": place.id,
        "name": f"{location}-dc1",
        "description": place.description,
        "location": place.body(),
        "server_types": {"supported": [], "available": [], "available_for_migration": []},
    }
