"""What the pair costs a month: one dated table, which `overlord:prices` overrides by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# When the table was last compared with the vendors' price lists. Prices in EUR a month without
# VAT, for Germany and Finland; B2's and Cloudflare's dollars at par, which errs on the safe side.
PRICES_AS_OF = "2026-11-01"

PRICES: Mapping[str, float] = {
    # Hetzner servers; `hetznerBackups` adds 20 %
    "cx23": 3.49,
    "cx33": 5.49,
    "cx43": 9.49,
    "cx53": 17.49,
    "cpx22": 6.49,
    "cpx32": 10.99,
    "cpx42": 19.99,
    "cpx52": 28.49,
    "cpx62": 38.99,
    "ccx13": 12.49,
    "ccx23": 24.49,
    "ccx33": 48.49,
    "ccx43": 96.49,
    "ccx53": 192.49,
    "primaryIpv4": 0.50,
    # Backblaze B2: a gigabyte a month
    "b2Gigabyte": 0.006,
    # Cloudflare Load Balancing: the product with two origins
    "loadBalancer": 5.00,
}
BACKUP_SURCHARGE = 0.20
# What is in the buckets once retention is full: 30 GB of database backups (part 2 of the design
# of VPS-01), metrics and logs, doubled for versions under lock.
BACKUP_GIGABYTES = 100
# The second repository has the database's backups alone.
SECOND_GIGABYTES = 60


def monthly_cost(
    server_types: Mapping[str, str],
    *,
    hetzner_backups: bool,
    load_balancer: bool,
    second_repository: bool,
    overrides: Mapping[str, float],
) -> dict[str, Any]:
    """Cost per item and in total, in EUR a month without VAT.

    Args:
        server_types: server type by node.
        hetzner_backups: whether Hetzner backs the servers up.
        load_balancer: whether Cloudflare's paid load balancer is used.
        second_repository: whether the database is backed up twice.
        overrides: prices that replace those of the table.

    Returns:
        currency, asOf, items, total, and unknown: items without a price, which are not in the sum.
    """
    prices = {**PRICES, **overrides}
    items: dict[str, float] = {}
    unknown: list[str] = []

    def add(item: str, price: str, factor: float = 1.0) -> None:
        if price in prices:
            items[item] = round(prices[price] * factor, 2)
        else:
            unknown.append(item)

    for node, server_type in server_types.items():
        add(f"{node} ({server_type})", server_type)
        if hetzner_backups:
            add(f"{node} backups", server_type, BACKUP_SURCHARGE)
        add(f"{node} IPv4 address", "primaryIpv4")
    add(f"B2 storage ({BACKUP_GIGABYTES} GB)", "b2Gigabyte", BACKUP_GIGABYTES)
    if second_repository:
        add(
            f"B2 storage, second repository ({SECOND_GIGABYTES} GB)", "b2Gigabyte", SECOND_GIGABYTES
        )
    if load_balancer:
        add("Cloudflare load balancer", "loadBalancer")
    return {
        "currency": "EUR",
        "asOf": PRICES_AS_OF,
        "items": items,
        "total": round(sum(items.values()), 2),
        "unknown": unknown,
    }
