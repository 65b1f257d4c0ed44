"""Monitors at UptimeRobot: made, changed, seen to drift, removed; the key is never shown."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.configuration import parse_settings
from components.setting_problems import SettingsError
from components.uptime_monitor import UptimeMonitorProvider
from components.vendor_api import VendorError
from tests.support.program import config_of, run_program
from tests.support.uptimerobot import KEY, FakeUptimeRobot, running_uptimerobot
from tests.unit.components.test_settings import ALL_TOKENS, good

PROVIDER = UptimeMonitorProvider()
MONITOR = "pulumi-python:dynamic:UptimeMonitor"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUptimeRobot]:
    monkeypatch.setenv("OVERLORD_UPTIMEROBOT_KEY", KEY)
    with running_uptimerobot() as running:
        yield running


def props(account: FakeUptimeRobot, **changes: Any) -> dict[str, Any]:
    return {
        "endpoint": account.url,
        "name": "overlord prod: fleet.example.com",
        "kind": "https",
        "target": "https://fleet.example.com/health",
        "intervalSeconds": 300,
        "contacts": ["101", "102"],
        "paused": False,
        **changes,
    }


def test_a_monitor_is_made_read_changed_and_removed(account: FakeUptimeRobot) -> None:
    wanted = props(account)
    made = PROVIDER.create(wanted)
    [body] = account.monitors.values()
    assert (body["type"], body["interval"], body["url"]) == (1, 300, wanted["target"])
    assert [one["id"] for one in body["alert_contacts"]] == ["101", "102"]

    seen = PROVIDER.read(made.id, made.outs or {})
    assert (seen.id, seen.outs) == (made.id, wanted)
    assert not PROVIDER.diff(made.id, seen.outs or {}, wanted).changes

    slower = props(account, intervalSeconds=600, contacts=["102"])
    assert PROVIDER.diff(made.id, wanted, slower).changes
    PROVIDER.update(made.id, wanted, slower)
    assert PROVIDER.read(made.id, slower).outs == slower

    PROVIDER.delete(made.id, slower)
    assert not account.monitors
    assert not PROVIDER.read(made.id, slower).id
    PROVIDER.delete(made.id, slower)  # gone already


def test_what_somebody_changed_or_paused_by_hand_is_seen_and_put_right(
    account: FakeUptimeRobot,
) -> None:
    wanted = props(account)
    made = PROVIDER.create(wanted)
    body = account.monitors[int(made.id)]
    body["status"], body["interval"] = 0, 900

    seen = PROVIDER.read(made.id, wanted).outs or {}
    assert (seen["paused"], seen["intervalSeconds"]) == (True, 900)
    assert PROVIDER.diff(made.id, seen, wanted).changes
    PROVIDER.update(made.id, seen, wanted)
    assert PROVIDER.read(made.id, wanted).outs == wanted


def test_a_monitor_that_an_interrupted_run_left_is_taken_over(account: FakeUptimeRobot) -> None:
    first = PROVIDER.create(props(account))
    second = PROVIDER.create(props(account, intervalSeconds=600))
    assert first.id == second.id
    assert len(account.monitors) == 1
    assert account.monitors[int(first.id)]["interval"] == 600


def test_it_is_found_behind_a_page_of_others(account: FakeUptimeRobot) -> None:
    for number in range(60):
        PROVIDER.create(
            props(account, name=f"overlord prod: {number}", target=f"https://{number}.example/")
        )
    account.calls.clear()
    again = props(account, name="overlord prod: 59", target="https://59.example/")
    PROVIDER.create(again)
    assert len(account.monitors) == 60
    assert "newMonitor" not in account.calls


def test_another_kind_is_another_monitor(account: FakeUptimeRobot) -> None:
    wanted = props(account)
    ping = props(account, kind="ping", target="vps-01.example.com")
    assert PROVIDER.diff("1", wanted, ping).replaces == ["kind"]
    made = PROVIDER.create(ping)
    assert account.monitors[int(made.id)]["type"] == 3


def test_a_rate_limit_is_waited_out(account: FakeUptimeRobot) -> None:
    account.refuse = 3
    PROVIDER.create(props(account))
    assert account.calls == ["getMonitors", "newMonitor"]
    assert len(account.monitors) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"contacts": ["999"]}, r"newMonitor was refused \(invalid_parameter about alert_contacts"),
        ({"intervalSeconds": 60}, r"about interval.*plan allows"),
    ],
)
def test_a_refusal_names_the_parameter(
    account: FakeUptimeRobot, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(VendorError, match=says):
        PROVIDER.create(props(account, **changes))


def test_a_wrong_key_is_named_with_the_remedy_and_not_shown(
    account: FakeUptimeRobot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLORD_UPTIMEROBOT_KEY", "u1-mistyped")
    with pytest.raises(VendorError, match=r"refused the key.*overlord:uptimerobotKey") as error:
        PROVIDER.create(props(account))
    assert "u1-mistyped" not in str(error.value)


def test_an_account_that_does_not_answer_is_named_with_its_address(
    account: FakeUptimeRobot,
) -> None:
    nowhere = props(account, endpoint="http://127.0.0.1:9/v2")
    with pytest.raises(VendorError, match=r"no answer from http://127.0.0.1:9/v2") as error:
        PROVIDER.create(nowhere)
    assert KEY not in str(error.value)


def checks_problems(checks: dict[str, Any], **tokens: str | None) -> dict[str, tuple[str, str]]:
    with pytest.raises(SettingsError) as error:
        parse_settings({**good(), "externalChecks": checks}, {**ALL_TOKENS, **tokens})
    return {problem.key: (problem.wrong, problem.right) for problem in error.value.problems}


@pytest.mark.parametrize(
    ("checks", "key", "wrong"),
    [
        ({"alertContacts": ["1"], "intervalSeconds": 5}, "intervalSeconds", "30"),
        ({"alertContacts": []}, "alertContacts", "nobody would be told"),
        ({"alertContacts": ["me@example.com"]}, "alertContacts[0]", "no id"),
        ({"intervalSeconds": 300}, "alertContacts", "not set"),
        ({"alertContacts": ["1"], "nodeCheck": "https"}, "nodeCheck", "webSources is cloudflare"),
        ({"alertContacts": ["1"], "endpoint": "http://x.example"}, "endpoint", "unencrypted"),
    ],
)
def test_a_mistake_is_named_by_its_path(checks: dict[str, Any], key: str, wrong: str) -> None:
    found = checks_problems(checks, OVERLORD_UPTIMEROBOT_KEY="set")
    assert list(found) == [f"overlord:externalChecks.{key}"]
    assert wrong in found[f"overlord:externalChecks.{key}"][0]


def test_without_its_key_the_check_says_what_is_missing() -> None:
    found = checks_problems({"alertContacts": ["1"]})
    assert "export OVERLORD_UPTIMEROBOT_KEY" in found["overlord:uptimerobotKey"][1]


@pytest.mark.parametrize("nothing", [None, {}])
def test_without_the_setting_there_is_no_check(nothing: Any) -> None:
    settings = parse_settings({**good(), "externalChecks": nothing}, ALL_TOKENS)
    assert settings.external_checks is None


def test_the_program_checks_the_public_name_and_each_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OVERLORD_UPTIMEROBOT_KEY", KEY)
    config = {
        **config_of("Pulumi.prod.yaml"),
        "overlord:externalChecks": json.dumps({"alertContacts": ["101"]}),
    }
    recording = run_program(monkeypatch, tmp_path, config, stack_name="prod")
    found = {one.inputs["target"]: one.inputs["kind"] for one in recording.of_type(MONITOR)}
    assert found == {
        "https://fleet.example.com/health": "https",
        "vps-01.example.com": "ping",
        "vps-02.example.com": "ping",
    }
    assert KEY not in json.dumps([dict(one.inputs) for one in recording.resources])
