"""The monthly cost is a sum that an operator can check and correct."""

from typing import Any

import pytest

from components.prices import PRICES, monthly_cost
from components.sizing import SIZES

PAIR = {"vps-01": "cpx32", "vps-02": "cx33"}
LEAST: dict[str, Any] = {
    "hetzner_backups": False,
    "load_balancer": False,
    "second_repository": False,
    "overrides": {},
}


def test_the_total_is_the_sum_of_the_items() -> None:
    cost = monthly_cost(
        PAIR, hetzner_backups=True, load_balancer=True, second_repository=True, overrides={}
    )
    assert cost["total"] == pytest.approx(sum(cost["items"].values()))
    assert cost["items"]["vps-01 (cpx32)"] == PRICES["cpx32"]
    assert cost["items"]["vps-01 backups"] == pytest.approx(0.2 * PRICES["cpx32"], abs=0.01)
    assert cost["items"]["B2 storage, second repository (60 GB)"] == pytest.approx(0.36)
    assert cost["currency"] == "EUR"
    assert cost["asOf"] == "2026-11-01"


def test_what_is_not_used_costs_nothing() -> None:
    cost = monthly_cost(PAIR, **LEAST)
    assert not any(
        word in item for item in cost["items"] for word in ("backups", "balancer", "second")
    )


def test_an_operators_price_replaces_that_of_the_table() -> None:
    cost = monthly_cost(PAIR, **LEAST | {"overrides": {"cpx32": 1.23}})
    assert cost["items"]["vps-01 (cpx32)"] == 1.23


def test_a_type_without_a_price_is_named_and_not_counted_as_free() -> None:
    cost = monthly_cost({"vps-01": "zz99"}, **LEAST)
    assert cost["unknown"] == ["vps-01 (zz99)"]


def test_every_type_of_the_size_table_has_a_price() -> None:
    assert {name for size in SIZES.values() for name in size.server_types} <= set(PRICES)
