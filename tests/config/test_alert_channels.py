"""What people get, from a real Alertmanager with the rendered configuration.

Only the addresses, the place of the secret files and the waiting times differ from a node's.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from overlord.errors import OverlordError
from overlord.rehearsal import rehearse
from stack import alerting
from stack.alerting import AlertChannels
from stack.render import StackContext
from tests.config.conftest import written
from tests.support.ports import free_port
from tests.support.programs import check, command
from tests.support.receivers import (
    HttpReceiver,
    MailServer,
    http_receiver,
    mail_server,
    wait_for,
)
from tests.support.stack import VPS_01, VPS_02

PASSWORD = "not a real one"
RUNBOOKS = "https://git.example.com/overlord/docs/runbooks"


def channels(http: HttpReceiver, smtp_port: int) -> AlertChannels:
    """Every channel, each at its own path of the receiver."""
    return AlertChannels(
        email=alerting.Email(
            to=("oncall@example.com", "chief@example.com"),
            sender="overlord@example.com",
            smarthost=f"127.0.0.1:{smtp_port}",
            username="overlord",
        ),
        slack=alerting.Slack("#fleet"),
        discord=True,
        pagerduty=alerting.PagerDuty(http.url("/pagerduty")),
        opsgenie=alerting.Opsgenie(http.url("/opsgenie/")),
        sms=alerting.Sms(bearer=True),
        heartbeat=True,
        runbooks=RUNBOOKS,
    )


def secret_files(http: HttpReceiver, node: str) -> dict[str, str]:
    return {
        alerting.SMTP_PASSWORD: PASSWORD,
        alerting.SLACK_URL: http.url("/slack"),
        alerting.DISCORD_URL: http.url("/discord"),
        alerting.PAGERDUTY_KEY: "key of pagerduty",
        alerting.OPSGENIE_KEY: "key of opsgenie",
        alerting.SMS_URL: http.url("/sms"),
        alerting.SMS_TOKEN: "token of sms",
        alerting.HEARTBEAT_URL: http.url(f"/heartbeat/{node}"),
    }


@dataclass(frozen=True)
class Running:
    """An Alertmanager that runs."""

    url: str
    folder: Path
    log: Path

    def alert(self, *, resolved: bool = False, summary: str = "", **labels: str) -> None:
        """Report an alert as Prometheus would."""
        now = datetime.now(UTC)
        alert = {
            "labels": {"environment": "test", **labels},
            "annotations": {
                "summary": summary,
                "description": "What it means.",
                "runbook": "docs/runbooks/node-down.md",
            },
            "startsAt": (now - timedelta(minutes=3)).isoformat(),
            **({"endsAt": now.isoformat()} if resolved else {}),
        }
        requests.post(f"{self.url}/api/v2/alerts", json=[alert], timeout=5).raise_for_status()


@contextmanager
def alertmanager(
    context: StackContext,
    secrets: dict[str, str],
    environment: dict[str, str],
    cluster: tuple[int, int] | None = None,
) -> Iterator[Running]:
    """Alertmanager with a node's configuration, quick instead of patient."""
    with ExitStack() as stack:
        node = stack.enter_context(written(context))
        folder = node.folder / "secrets"
        folder.mkdir()
        for name, value in secrets.items():
            (folder / name).write_text(value)
        config = node.folder / "alertmanager/alertmanager.yml"
        text = config.read_text().replace("/run/secrets", str(folder))
        text = re.sub(r"group_wait: \w+", "group_wait: 1s", text)
        config.write_text(re.sub(r"group_interval: \w+", "group_interval: 1s", text))
        check("amtool", "check-config", config)
        port, log = free_port(), node.folder / "log"
        gossip = ["--cluster.listen-address="]
        if cluster:
            own, other = (f"127.0.0.1:{number}" for number in cluster)
            gossip = [f"--cluster.listen-address={own}", f"--cluster.peer={other}"]
        line = command(
            "alertmanager",
            f"--config.file={config}",
            f"--storage.path={node.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=receiver-name-in-metrics",
            *gossip,
        )
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(line, env=environment, stdout=output, stderr=subprocess.STDOUT)
        stack.callback(process.wait, timeout=20)
        stack.callback(process.terminate)
        url = f"http://127.0.0.1:{port}"
        wait_for(f"Alertmanager ready\n{log.read_text()}", lambda: _answers(url), 30)
        yield Running(url, node.folder, log)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=2).ok
    except requests.RequestException:
        return False


@dataclass(frozen=True)
class World:
    """All channels, and the Alertmanager of vps-01 before them."""

    http: HttpReceiver
    mail: MailServer
    alertmanager: Running

    def received(self) -> dict[str, int]:
        """Messages by channel."""
        paths = ("slack", "discord", "pagerduty", "opsgenie", "sms")
        counts = {name: len(self.http.at(f"/{name}")) for name in paths}
        return {**counts, "email": len(self.mail.mails)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with http_receiver() as http, mail_server(tmp_path, "overlord", PASSWORD) as mail:
        context = replace(VPS_01, alerts=channels(http, mail.port))
        environment = {"SSL_CERT_FILE": str(mail.certificate)}
        secrets = secret_files(http, "vps-01")
        assert set(secrets) == set(context.alerts.secrets)
        with alertmanager(context, secrets, environment) as running:
            yield World(http, mail, running)


def test_a_page_arrives_by_every_channel_and_so_does_its_end(world: World) -> None:
    labels: dict[str, Any] = {
        "alertname": "NodeDown",
        "severity": "P1",
        "topic": "node",
        "node": "vps-02",
    }
    world.alertmanager.alert(summary="vps-02 does not answer", **labels)
    wait_for("every channel", lambda: all(world.received().values()), 30)

    title = "P1 vps-02 does not answer"
    link = f"{RUNBOOKS}/node-down.md"
    [slack] = world.http.at("/slack")
    [attachment] = slack.body["attachments"]
    assert slack.body["channel"] == "#fleet"
    assert attachment["title"] == title
    assert attachment["color"] == "danger"
    assert link in attachment["text"]
    assert "Environment: test" in attachment["text"]

    [discord] = world.http.at("/discord")
    [embed] = discord.body["embeds"]
    assert embed["title"] == title
    assert link in embed["description"]

    [pagerduty] = world.http.at("/pagerduty")
    assert pagerduty.body["routing_key"] == "key of pagerduty"
    assert pagerduty.body["event_action"] == "trigger"
    assert pagerduty.body["payload"]["summary"] == title
    assert pagerduty.body["payload"]["severity"] == "critical"
    assert pagerduty.body["payload"]["component"] == "vps-02"
    assert link in pagerduty.body["payload"]["custom_details"]["alerts"]

    [opsgenie] = world.http.at("/opsgenie")
    assert opsgenie.path == "/opsgenie/v2/alerts"
    assert opsgenie.headers["authorization"] == "GenieKey key of opsgenie"
    assert opsgenie.body["message"] == title
    assert opsgenie.body["priority"] == "P1"

    [sms] = world.http.at("/sms")
    assert sms.headers["authorization"] == "Bearer token of sms"
    assert sms.body["status"] == "firing"
    assert sms.body["alerts"][0]["annotations"]["summary"] == "vps-02 does not answer"

    [mail] = world.mail.mails
    assert mail["Subject"] == title
    assert mail["From"] == "overlord@example.com"
    assert world.mail.recipients == [["oncall@example.com", "chief@example.com"]]
    assert link in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]

    world.alertmanager.alert(resolved=True, summary="vps-02 does not answer", **labels)
    wait_for("every channel again", lambda: min(world.received().values()) == 2, 30)
    assert world.mail.mails[1]["Subject"] == "Resolved: vps-02 does not answer"
    assert world.http.at("/pagerduty")[1].body["event_action"] == "resolve"
    assert world.http.at("/opsgenie")[1].path.endswith("/close?identifierType=alias")
    assert world.http.at("/slack")[1].body["attachments"][0]["color"] == "good"


def test_the_same_day_goes_to_chat_and_mail_and_the_next_day_to_mail(world: World) -> None:
    world.alertmanager.alert(
        alertname="ServiceDown", severity="P2", topic="service", node="vps-01", summary="two"
    )
    wait_for("the mail", lambda: world.mail.mails, 30)
    wait_for("the chat", lambda: world.http.at("/slack") and world.http.at("/discord"), 30)
    world.alertmanager.alert(
        alertname="CpuHigh", severity="P3", topic="cpu", node="vps-01", summary="three"
    )
    wait_for("the second mail", lambda: len(world.mail.mails) == 2, 30)
    assert [mail["Subject"] for mail in world.mail.mails] == ["P2 two", "P3 three"]
    assert world.received() == {
        "slack": 1, "discord": 1, "pagerduty": 0, "opsgenie": 0, "sms": 0, "email": 2
    }  # fmt: skip


def test_one_dead_node_is_one_page(world: World) -> None:
    node: dict[str, Any] = {"node": "vps-02", "severity": "P1"}
    world.alertmanager.alert(alertname="NodeDown", topic="node", summary="down", **node)
    wait_for("the page", lambda: world.http.at("/pagerduty"), 30)
    for topic in ("postgres", "metrics", "fleet"):
        world.alertmanager.alert(alertname=f"Dead{topic}", topic=topic, summary=topic, **node)
    # Another node's alert comes later and is through: what was held back before it stays so.
    world.alertmanager.alert(
        alertname="PostgresDown", severity="P1", topic="postgres", node="vps-01", summary="other"
    )
    wait_for("the other node's page", lambda: len(world.http.at("/pagerduty")) == 2, 30)
    summaries = {one.body["payload"]["summary"] for one in world.http.at("/pagerduty")}
    assert summaries == {"P1 down", "P1 other"}
    [*alerts] = requests.get(f"{world.alertmanager.url}/api/v2/alerts", timeout=5).json()
    held_back = {
        one["labels"]["alertname"] for one in alerts if one["status"]["state"] == "suppressed"
    }
    assert held_back == {"Deadpostgres", "Deadmetrics", "Deadfleet"}


def test_a_rehearsal_goes_the_way_of_its_severity_and_tells_what_each_channel_did(
    world: World,
) -> None:
    outcomes = rehearse("vps-01", "test", "P1", url=world.alertmanager.url)
    assert {outcome.channel: outcome.state for outcome in outcomes} == dict.fromkeys(
        ("discord", "email", "opsgenie", "pagerduty", "slack", "webhook"), "sent"
    )
    assert min(world.received().values()) == 1
    assert world.mail.mails[0]["Subject"] == "P1 Rehearsal from vps-01"

    again = rehearse("vps-01", "test", "P3", url=world.alertmanager.url)
    assert [outcome.line for outcome in again] == [f"email: sent, {again[0].seconds:.0f} s"]
    assert len(world.mail.mails) == 2


def test_a_rehearsal_names_the_channel_that_refuses(tmp_path: Path) -> None:
    with http_receiver() as http:
        slack = replace(VPS_01, alerts=AlertChannels(slack=alerting.Slack(), discord=True))
        secrets = {
            # Nobody listens there.
            alerting.SLACK_URL: f"http://127.0.0.1:{free_port()}/slack",
            alerting.DISCORD_URL: http.url("/discord"),
        }
        with alertmanager(slack, secrets, {}) as running:
            outcomes = rehearse("vps-01", "test", "P2", url=running.url, timeout=20)
    assert {outcome.channel: outcome.state for outcome in outcomes} == {
        "discord": "sent",
        "slack": "failed",
    }


def test_a_rehearsal_without_a_channel_says_so() -> None:
    with (
        alertmanager(VPS_01, {}, {}) as running,
        pytest.raises(OverlordError, match="no channel is configured for P1"),
    ):
        rehearse("vps-01", "test", "P1", url=running.url)


def test_a_channel_that_is_not_configured_is_not_rendered_and_needs_no_secret() -> None:
    with written(VPS_01) as node:
        text = (node.folder / "alertmanager/alertmanager.yml").read_text()
        check("amtool", "check-config", node.folder / "alertmanager/alertmanager.yml")
    assert "_configs" not in text
    assert "/run/secrets" not in text.split("global:")[1]


def test_each_nodes_dead_mans_switch_hears_of_its_own_prometheus_alone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        http = stack.enter_context(http_receiver())
        gossip = free_port(), free_port()
        managers = {}
        for context, ports in ((VPS_01, gossip), (VPS_02, gossip[::-1])):
            one = replace(context, alerts=AlertChannels(heartbeat=True))
            secrets = {alerting.HEARTBEAT_URL: http.url(f"/heartbeat/{one.node}")}
            managers[one.node] = stack.enter_context(alertmanager(one, secrets, {}, ports))

        stack.enter_context(prometheus(VPS_01, managers, tmp_path))
        wait_for("heartbeat of vps-01", lambda: http.at("/heartbeat/vps-01"), 60)
        # The Alertmanager of vps-02 knows of it as well, and keeps still.
        wait_for("the other Alertmanager", lambda: watchdogs(managers["vps-02"]), 30)
        time.sleep(2)  # two of its rounds, in which it could speak
        assert watchdogs(managers["vps-02"]) == {"vps-01"}
        assert not http.at("/heartbeat/vps-02")

        stack.enter_context(prometheus(VPS_02, managers, tmp_path))
        wait_for("heartbeat of vps-02", lambda: http.at("/heartbeat/vps-02"), 60)
        assert watchdogs(managers["vps-02"]) == {"vps-01", "vps-02"}
        for node in ("vps-01", "vps-02"):
            for beat in http.at(f"/heartbeat/{node}"):
                assert {alert["labels"]["node"] for alert in beat.body["alerts"]} == {node}


def watchdogs(manager: Running) -> set[str]:
    """Nodes whose watchdog an Alertmanager knows."""
    found = requests.get(
        f"{manager.url}/api/v2/alerts", params={"filter": "alertname=Watchdog"}, timeout=5
    ).json()
    return {alert["labels"]["node"] for alert in found}


@contextmanager
def prometheus(context: StackContext, managers: dict[str, Running], folder: Path) -> Iterator[None]:
    """Prometheus with a node's rules and alerting, and nothing to scrape."""
    with ExitStack() as stack:
        node = stack.enter_context(written(context))
        config = node.folder / "prometheus/prometheus.yml"
        text = config.read_text().split("scrape_configs:")[0]
        own, other = managers[context.node].url, managers[context.peer].url
        text = text.replace("127.0.0.1:9093", own.removeprefix("http://"))
        text = text.replace(f"{context.peer}:9093", other.removeprefix("http://"))
        config.write_text(text.replace("evaluation_interval: 15s", "evaluation_interval: 2s"))
        log = stack.enter_context((folder / f"{context.node}.log").open("wb"))
        process = subprocess.Popen(
            command(
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={node.folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{free_port()}",
                # The first try comes before it has found an Alertmanager.
                "--rules.alert.resend-delay=2s",
            ),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        stack.callback(process.wait, timeout=20)
        stack.callback(process.terminate)
        yield
