"""Day 2: a change of the bundle reaches the running pair, standby first, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.e2e.sandbox_world import SandboxWorld, project_copy

RULES = Path("stack/prometheus/rules")


def change_one_alert_rule(project: Path, expression: str) -> str:
    """Set the expression of the first alert of the first rule file; returns the alert's name."""
    file = sorted((project / RULES).glob("*.y*ml"))[0]
    document = yaml.safe_load(file.read_text())
    rule = next(rule for group in document["groups"] for rule in group["rules"] if "alert" in rule)
    rule["expr"] = expression
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return str(rule["alert"])


def expression_on(pair: SandboxWorld, node: str, alert: str) -> str:
    """The expression of an alert as a node's Prometheus evaluates it."""
    text = pair.on_node(node, "curl", "-s", "http://127.0.0.1:9090/api/v1/rules").text
    groups = json.loads(text)["data"]["groups"]
    return next(
        (rule["query"] for group in groups for rule in group["rules"] if rule["name"] == alert), ""
    )


@pytest.fixture(scope="module")
def changed(pair: SandboxWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that differs by one alert rule."""
    return project_copy(tmp_path_factory.mktemp("changed"))


def test_one_changed_alert_rule_shows_one_bundle_and_two_applies_and_no_server(
    pair: SandboxWorld, changed: Path
) -> None:
    change_one_alert_rule(changed, "vector(0) > 1")
    planned = pair.planned(changed)
    applies = {name for name in planned if "-apply-" in name}
    assert len(applies) == 2, planned
    others = set(planned) - applies
    assert len([name for name in others if "bundle" in name]) == 1, planned
    assert not any("server" in name for name in planned), planned


def test_the_changed_rule_runs_on_both_nodes_and_the_standby_had_it_first(
    pair: SandboxWorld, changed: Path
) -> None:
    alert = change_one_alert_rule(changed, "vector(0) > 1")
    run = pair.up(changed).must()
    assert "handing over" not in run.text
    for node in ("vps-02", "vps-01"):
        assert expression_on(pair, node, alert) == "vector(0) > 1"
    print(f"\none alert rule changed: {run.seconds:.1f} s", flush=True)
    applied = {node: pair.status_of(node)["release"] for node in ("vps-01", "vps-02")}
    assert applied["vps-01"] == applied["vps-02"]


def test_a_change_that_cannot_run_fails_the_update_and_leaves_the_previous_stack_running(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    broken = project_copy(tmp_path)
    before = pair.status_of("vps-02")["release"]
    alert = change_one_alert_rule(broken, "this is not a query (")
    run = pair.up(broken)
    assert run.code != 0
    assert "vps-02" in run.text
    assert "prometheus" in run.text.lower()
    for node in ("vps-01", "vps-02"):
        status = pair.status_of(node)
        assert status["healthy"] is True
        assert status["release"] == before
        assert expression_on(pair, node, alert) == "vector(0) > 1"
    assert pair.fetch("/health").code == 200


def test_going_back_to_the_repository_puts_the_rule_back(pair: SandboxWorld) -> None:
    pair.up().must()
    pair.pulumi("preview", "--expect-no-changes").must()
