"""Alert channels: every mistake by its key, and no secret in a message or a bundle."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.alert_settings import alert_tokens
from components.arbiter_settings import ARBITER_DNS_TOKEN
from components.configuration import parse_settings
from components.credentials import TOKENS
from components.setting_problems import SettingsError
from components.settings import NODES
from stack.alerting import AlertChannels
from tests.support.program import config_of, run_program
from tests.unit.components.test_settings import good

EVERYTHING: dict[str, Any] = {
    "email": {
        "to": ["oncall@example.com"],
        "from": "overlord@example.com",
        "smarthost": "smtp.example.com:587",
        "username": "overlord",
    },
    "slack": {"channel": "#fleet"},
    "discord": {},
    "pagerduty": {},
    "opsgenie": {"url": "https://api.eu.opsgenie.com"},
    "sms": {"bearer": True},
    "heartbeat": {},
    "runbooks": "https://git.example.com/overlord/docs/runbooks/",
}
TOKEN_VALUES: dict[str, str | None] = {
    **{token.variable: "set" for token in (*TOKENS, ARBITER_DNS_TOKEN)},
    **{
        token.variable: f"https://hook.example.com/secret-{number}"
        for number, token in enumerate(alert_tokens(NODES))
    },
}


def channels_of(alerts: dict[str, Any]) -> AlertChannels:
    return parse_settings({**good(), "alerts": alerts}, TOKEN_VALUES).alerts.channels


def problems_of(alerts: Any, **tokens: str | None) -> dict[str, tuple[str, str]]:
    with pytest.raises(SettingsError) as error:
        parse_settings({**good(), "alerts": alerts}, {**TOKEN_VALUES, **tokens})
    return {problem.key: (problem.wrong, problem.right) for problem in error.value.problems}


def email(**changes: Any) -> dict[str, Any]:
    return {"email": {**EVERYTHING["email"], **changes}}


def test_without_a_channel_nothing_is_needed() -> None:
    tokens: dict[str, str | None] = {
        token.variable: "set" for token in (*TOKENS, ARBITER_DNS_TOKEN)
    }
    assert parse_settings(good(), tokens).alerts.channels == AlertChannels()


def test_every_channel_is_understood() -> None:
    channels = channels_of(EVERYTHING)
    assert channels.email is not None
    assert channels.email.require_tls
    assert channels.pagerduty is not None
    assert channels.pagerduty.url == "https://events.pagerduty.com/v2/enqueue"
    assert channels.opsgenie is not None
    assert channels.opsgenie.url == "https://api.eu.opsgenie.com/"
    assert channels.runbooks == "https://git.example.com/overlord/docs/runbooks"
    assert len(channels.secrets) == 8


@pytest.mark.parametrize(
    ("alerts", "key", "wrong", "right"),
    [
        (email(to=[]), "email.to", "nobody would get", "such as [oncall@"),
        (email(to=["everybody"]), "email.to[0]", "no plain mail address", "such as [oncall@"),
        ({"email": {"to": ["a@b.example"]}}, "email.from", "not set", "address in From"),
        (email(smarthost="smtp.example.com"), "email.smarthost", "no port", "host:port"),
        (email(smarthost="smtp:99999"), "email.smarthost", "no port", "host:port"),
        (email(smarthost="my server:25"), "email.smarthost", "no host name", "host:port"),
        (email(requireTls=False), "email.requireTls", "unencrypted", "no overlord:alerts.email.u"),
        (email(password="x"), "email.password", "no such setting", "Pulumi.yaml"),
        ({"slack": {"channel": "fleet"}}, "slack.channel", "no channel of Slack", "'#fleet'"),
        ({"slack": {"chanel": "#a"}}, "slack.chanel", "no such setting", "did you mean channel?"),
        ({"slak": {}}, "slak", "no such setting", "did you mean slack?"),
        ({"pagerduty": {"url": "http://p.example.com"}}, "pagerduty.url", "unencrypted", "eu."),
        ({"sms": {"bearer": "perhaps"}}, "sms.bearer", "boolean", "bearer token"),
        ({"runbooks": "docs"}, "runbooks", "no http or https", "docs/runbooks"),
    ],
)
def test_a_mistake_is_named_by_its_path_with_what_is_wrong_and_what_is_right(
    alerts: dict[str, Any], key: str, wrong: str, right: str
) -> None:
    found = problems_of(alerts)
    assert f"overlord:alerts.{key}" in found
    assert wrong in found[f"overlord:alerts.{key}"][0]
    assert right in found[f"overlord:alerts.{key}"][1]


@pytest.mark.parametrize("token", alert_tokens(NODES), ids=lambda token: token.variable)
def test_a_credential_that_a_channel_needs_is_missed_by_name(token: Any) -> None:
    found = problems_of(EVERYTHING, **{token.variable: None})
    assert list(found) == [token.key]
    assert f"export {token.variable}" in found[token.key][1]
    assert f"pulumi config set --secret {token.key}" in found[token.key][1]


def test_an_address_that_would_travel_unencrypted_is_refused_without_repeating_it() -> None:
    for value in ("http://hooks.example.com/T0", "hooks.example.com/T0", "https://a b/T0"):
        found = problems_of({"slack": {}}, OVERLORD_ALERT_SLACK_URL=value)
        assert "no address that a message may be sent to" in found["overlord:alertSlackUrl"][0]
        assert "T0" not in str(found)
    sms: dict[str, Any] = {"alerts": {"sms": {}}}
    tokens = {**TOKEN_VALUES, "OVERLORD_ALERT_SMS_URL": "http://10.0.0.9:8080/send"}
    assert parse_settings({**good(), **sms}, tokens)


def test_a_secret_in_the_wrong_place_is_not_repeated_in_the_message() -> None:
    for alerts in (
        {"slack": "https://hooks.example.com/T0"},
        {"slack": {"url": "https://hooks.example.com/T0"}},
        "https://hooks.example.com/T0",
        {"email": {**EVERYTHING["email"], "to": ["me:T0@x y"]}},
    ):
        assert "T0" not in str(problems_of(alerts))


def test_one_switch_for_both_nodes_is_a_mistake() -> None:
    same = "https://hc.example.com/one"
    found = problems_of(
        {"heartbeat": {}}, OVERLORD_HEARTBEAT_URL_VPS_01=same, OVERLORD_HEARTBEAT_URL_VPS_02=same
    )
    assert "neither's death" in found["overlord:heartbeatUrlVps02"][0]


def test_the_nodes_get_the_secrets_of_the_channels_in_use_and_the_bundle_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alerts = {name: EVERYTHING[name] for name in ("slack", "heartbeat")}
    config = {**config_of("Pulumi.sandbox.yaml"), "overlord:alerts": json.dumps(alerts)}
    recording = run_program(monkeypatch, tmp_path, config)
    beats = set()
    for node in NODES:
        document = json.loads(recording.named(f"bootstrap-apply-{node}").inputs["stdin"])
        sent = {name for name in document if name.startswith("alert_")}
        assert sent == {"alert_slack_url", "alert_heartbeat_url"}
        beats.add(document["alert_heartbeat_url"])
    assert len(beats) == 2
    [bundle] = tmp_path.glob("*")
    assert b"alert_slack_url" in bundle.read_bytes()
    assert b"hook.example.com" not in bundle.read_bytes()
    assert "hook.example.com" not in json.dumps(recording.outputs)
    for one in recording.resources:
        plain = {name: value for name, value in one.inputs.items() if name not in one.secret_inputs}
        assert "hook.example.com" not in json.dumps(plain), one.name
