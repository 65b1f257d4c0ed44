"""Chooses a server type: the first of the preference list that can be ordered in the location."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pulumi

from components.hetzner_api import Offer
from components.sizing import Size


class NoServerTypeError(pulumi.RunError):
    """No type of the list can be ordered; the message lists what was tried and why."""


def choose_server_type(
    node: str,
    location: str,
    preferred: Sequence[str],
    offers: Mapping[str, Offer],
    size: Size,
    now: datetime,
) -> str:
    """First type that the API says can be ordered in the location and that is large enough.

    Args:
        node: the node, for the message.
        location: Hetzner location.
        preferred: types, most wanted first.
        offers: what the location offers, by type.
        size: what the fleet needs.
        now: the time to judge announced withdrawals by.

    Raises:
        NoServerTypeError: none can be ordered.
    """
    tried = []
    for name in preferred:
        reason = _reason_against(offers.get(name), size, now)
        if reason is None:
            return name
        tried.append(f"  {name}: {reason}")
    raise NoServerTypeError(
        "\n".join(
            [
                f"{node}: no server type of the list can be ordered in {location}. Tried:",
                *tried,
                "Wait, choose another overlord:locations, or name other types in "
                "overlord:serverTypes.",
                f"In {location} these can be ordered and are large enough: "
                + (", ".join(_usable(offers, size, now)) or "none"),
            ]
        )
    )


def _reason_against(offer: Offer | None, size: Size, now: datetime) -> str | None:
    if offer is None:
        return "Hetzner knows no such type"
    if offer.unavailable_after and offer.unavailable_after <= now:
        return f"retired, not sold there since {offer.unavailable_after:%Y-%m-%d}"
    if not offer.offered:
        return "not sold in this location"
    if not offer.available:
        return "sold out at the moment"
    small = [
        f"{have:g} {unit} of {need}"
        for have, need, unit in (
            (offer.cores, size.cores, "cores"),
            (offer.memory_gb, size.memory_gb, "GB memory"),
            (offer.disk_gb, size.disk_gb, "GB disk"),
        )
        if have < need
    ]
    if small:
        return f"too small for {size.fleet_size} devices: {', '.join(small)}"
    return None


def _usable(offers: Mapping[str, Offer], size: Size, now: datetime) -> list[str]:
    return sorted(
        name
        for name, offer in offers.items()
        if offer.architecture == "x86" and _reason_against(offer, size, now) is None
    )
