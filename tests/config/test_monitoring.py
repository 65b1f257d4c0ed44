"""Prometheus and Alertmanager take what is rendered for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.config.conftest import RenderedNode
from tests.support.dashboards import queries
from tests.support.programs import check

RULE_TESTS = sorted(Path("tests/config/rules").glob("*.yml"))


def test_prometheus_takes_its_configuration(rendered: RenderedNode) -> None:
    output = check(
        "promtool", "check", "config", "--lint=all", rendered.folder / "prometheus/prometheus.yml"
    )
    count = len(list(Path("stack/prometheus/rules").glob("*.yml")))
    assert f"{count} rule files found" in output


def test_the_rules_have_no_flaw_that_promtool_knows() -> None:
    check(
        "promtool", "check", "rules", "--lint=all", "--lint-fatal",
        *sorted(Path("stack/prometheus/rules").glob("*.yml")),
    )  # fmt: skip


@pytest.mark.parametrize("tests", RULE_TESTS, ids=lambda path: str(path.stem))
def test_the_rules_fire_when_they_should(tests: Path) -> None:
    check("promtool", "test", "rules", tests)


def test_every_file_of_rules_has_a_file_of_tests() -> None:
    rules = {path.name for path in Path("stack/prometheus/rules").glob("*.yml")}
    assert rules == {path.name for path in RULE_TESTS}


def test_the_blackbox_exporter_takes_its_configuration(rendered: RenderedNode) -> None:
    check(
        "blackbox_exporter", "--config.check",
        f"--config.file={rendered.folder / 'blackbox/blackbox.yml'}",
    )  # fmt: skip


def test_loki_takes_its_configuration(rendered: RenderedNode) -> None:
    check("loki", "-verify-config", f"-config.file={rendered.folder / 'loki/loki.yaml'}")


def test_alertmanager_takes_its_configuration(rendered: RenderedNode) -> None:
    check("amtool", "check-config", rendered.folder / "alertmanager/alertmanager.yml")


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=Watchdog", "severity=none", "node=vps-01"], ["heartbeat-vps-01", "nobody"]),
        (["alertname=Watchdog", "severity=none", "node=vps-02"], ["nobody", "heartbeat-vps-02"]),
        (["alertname=NodeDown", "severity=P1"], ["page", "page"]),
        (["alertname=ServiceDown", "severity=P2"], ["today", "today"]),
        (["alertname=CpuHigh", "severity=P3"], ["later", "later"]),
        (["alertname=Rehearsal", "severity=P1", "rehearsal=now"], ["page", "page"]),
        (["alertname=Anything"], ["today", "today"]),
    ],
)
def test_an_alert_goes_to_its_receiver(
    rendered: RenderedNode, labels: list[str], receiver: list[str]
) -> None:
    expected = receiver[rendered.context.node == "vps-02"]
    check(
        "amtool", "config", "routes", "test", f"--verify.receivers={expected}",
        f"--config.file={rendered.folder / 'alertmanager/alertmanager.yml'}", *labels,
    )  # fmt: skip


def test_prometheus_understands_every_query_of_the_dashboards(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}:query", "expr": asked.expr}
        for number, asked in enumerate(queries({"node": ".+", "device": "device-001"}))
        if asked.panel.source == "prometheus"
    ]
    assert len(rules) > 60
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    check("promtool", "check", "rules", "--lint=none", file)
