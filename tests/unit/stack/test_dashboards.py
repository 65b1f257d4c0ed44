"""Grafana's dashboards, read as Grafana reads them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from stack.dashboards import BOARDS, render_dashboards
from stack.dashboards.grafana import SOURCES
from stack.dashboards.logs import LOGS
from stack.dashboards.model import Board

EVERY = pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board.uid))


def rendered(board: Board) -> dict[str, Any]:
    found = render_dashboards()[f"grafana/dashboards/{board.uid.removeprefix('overlord-')}.json"]
    document: dict[str, Any] = json.loads(found)
    return document


def test_there_is_one_for_each_question() -> None:
    names = {name.rpartition("/")[2] for name in render_dashboards()}
    assert names == {
        f"{name}.json" for name in ("fleet", "device", "node", "postgres", "ingest", "logs", "slo")
    }
    assert len({board.uid for board in BOARDS}) == len(BOARDS)


@EVERY
def test_every_panel_asks_a_datasource_that_is_provisioned(board: Board) -> None:
    for panel in rendered(board)["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        for target in (panel, *panel["targets"]):
            assert target["datasource"]["uid"] in SOURCES.values(), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)) == len(panel["targets"]), panel["title"]


@EVERY
def test_panels_have_their_own_place_and_number(board: Board) -> None:
    panels = rendered(board)["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


@EVERY
def test_every_variable_that_a_query_uses_is_a_choice_of_the_dashboard(board: Board) -> None:
    document = rendered(board)
    choices = {variable["name"] for variable in document["templating"].get("list", [])}
    used = set()
    for panel in document["panels"]:
        for target in panel.get("targets", []):
            used |= set(re.findall(r"\$(?!__)(\w+)", target["expr"]))
    assert used == choices


@EVERY
def test_a_dashboard_is_not_edited_in_the_page(board: Board) -> None:
    assert rendered(board)["editable"] is False


def test_rendering_needs_no_builder_before_there_is_something_to_render() -> None:
    program = "import sys, stack.dashboards; print('grafana_foundation_sdk' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


def test_a_panel_that_counts_in_windows_has_one_point_in_each() -> None:
    panels = {panel["title"]: panel for panel in rendered(LOGS)["panels"]}

    for title in ("Lines of the nodes' services", "Warnings and worse"):
        assert panels[title]["interval"] == "300s"
        assert all("[5m]" in target["expr"] for target in panels[title]["targets"])
    assert "interval" not in panels["Refused lines"]


def test_a_table_shows_what_is_now_and_not_a_range() -> None:
    panels = {panel["title"]: panel for panel in rendered(LOGS)["panels"]}

    (target,) = panels["Loudest devices"]["targets"]
    assert target["queryType"] == "instant"
