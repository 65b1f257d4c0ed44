"""The first type of the list that can be ordered in the location is taken."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.server_types import NoServerTypeError, choose_server_type
from components.sizing import SIZES
from tests.support.program import offer

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def choose(offers: dict[str, Any], preferred: tuple[str, ...] = ("cpx32", "cx33")) -> str:
    return choose_server_type("vps-01", "fsn1", preferred, offers, SIZES[50], NOW)


def test_the_most_wanted_type_is_taken_when_it_can_be_ordered() -> None:
    assert choose({"cpx32": offer("cpx32"), "cx33": offer("cx33")}) == "cpx32"


def test_a_type_that_is_sold_out_is_passed_over() -> None:
    assert choose({"cpx32": offer("cpx32", available=False), "cx33": offer("cx33")}) == "cx33"


def test_a_type_that_is_withdrawn_soon_can_still_be_ordered() -> None:
    soon = offer("cpx32", unavailable_after=NOW + timedelta(days=3))
    assert choose({"cpx32": soon}) == "cpx32"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "Hetzner knows no such type"),
        ({"cpx32": offer("cpx32", offered=False)}, "not sold in this location"),
        ({"cpx32": offer("cpx32", available=False)}, "sold out at the moment"),
        (
            {"cpx32": offer("cpx32", unavailable_after=NOW - timedelta(days=1))},
            "retired, not sold there since 2026-11-22",
        ),
        ({"cpx32": offer("cpx32", memory_gb=4)}, "too small for 50 devices: 4 GB memory of 8"),
        ({"cpx32": offer("cpx32", disk_gb=40)}, "40 GB disk of 80"),
        ({"cpx32": offer("cpx32", cores=2)}, "2 cores of 4"),
    ],
)
def test_when_none_can_be_ordered_the_error_says_what_was_tried_and_why(
    found: dict[str, Any], reason: str
) -> None:
    with pytest.raises(NoServerTypeError) as error:
        choose(found, ("cpx32",))
    assert "vps-01" in str(error.value)
    assert "fsn1" in str(error.value)
    assert re.search(rf"cpx32: .*{re.escape(reason)}", str(error.value))
    assert "overlord:serverTypes" in str(error.value)


def test_the_error_names_types_that_could_be_ordered_instead() -> None:
    with pytest.raises(NoServerTypeError, match=r"large enough: ccx33, cx53"):
        choose(
            {
                "cx53": offer("cx53"),
                "ccx33": offer("ccx33"),
                "cx23": offer("cx23", disk_gb=40),
                "cax41": offer("cax41", architecture="arm"),
            },
            ("cpx32",),
        )


@pytest.mark.parametrize("size", SIZES.values(), ids=lambda size: str(size.fleet_size))
def test_a_larger_fleet_never_gets_less(size: Any) -> None:
    smaller = [other for other in SIZES.values() if other.fleet_size < size.fleet_size]
    assert all(other.memory_gb <= size.memory_gb for other in smaller)
    assert all(other.disk_gb <= size.disk_gb for other in smaller)
    assert int(size.retention_size.removesuffix("GB")) < size.disk_gb / 2 + 50
    assert len(size.server_types) >= 2
