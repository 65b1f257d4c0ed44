"""The alert rules as text; tests/config runs them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path("stack/prometheus/rules")


def alerts() -> Iterator[dict[str, Any]]:
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def test_an_alert_is_defined_once() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("alert", list(alerts()), ids=lambda alert: str(alert["alert"]))
def test_every_alert_has_a_severity_a_topic_a_summary_and_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"P1", "P2", "P3", "none"}
    assert alert["labels"]["topic"]
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    runbook = Path(alert["annotations"]["runbook"])
    assert runbook.is_file(), f"{runbook} is missing"
    assert f"`{alert['alert']}`" in runbook.read_text(), f"{runbook} does not speak of the alert"


def test_the_list_of_runbooks_names_every_alert() -> None:
    listed = set(re.findall(r"\b[A-Z][A-Za-z]+\b", (Path("docs/runbooks/README.md")).read_text()))
    assert {alert["alert"] for alert in alerts()} - listed == set()


def test_every_alert_is_tried_by_a_rule_test() -> None:
    tried = {
        case["alertname"]
        for path in Path("tests/config/rules").glob("*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case.get("exp_alerts")
    }
    assert {alert["alert"] for alert in alerts()} - tried == set()


def test_every_alert_but_the_watchdog_is_seen_to_end_by_a_rule_test() -> None:
    ended: set[str] = set()
    for path in Path("tests/config/rules").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            firing: set[str] = set()
            for case in test.get("alert_rule_test", []):
                if case.get("exp_alerts"):
                    firing.add(case["alertname"])
                elif case["alertname"] in firing:
                    ended.add(case["alertname"])
            # All at once: those that fire at one time and no more at a later one.
            before: set[str] = set()
            for case in test.get("promql_expr_test", []):
                samples = " ".join(sample["labels"] for sample in case["exp_samples"])
                now = set(re.findall(r'alertname="(\w+)"', samples))
                ended |= before - now
                before = now
    assert {alert["alert"] for alert in alerts()} - ended == {"Watchdog"}
