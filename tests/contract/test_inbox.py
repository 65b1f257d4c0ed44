"""The sandbox's inbox takes what people would get, and shows it."""

from __future__ import annotations

import requests

from tests.contract.conftest import RunningCloud


def test_a_message_is_taken_kept_and_shown(cloud: RunningCloud) -> None:
    url = cloud.url("inbox")
    assert requests.post(f"{url}/slack", json={"text": "hello"}, timeout=5).text == "ok"
    assert requests.post(f"{url}/heartbeat/vps-01", data="plain", timeout=5).status_code == 200

    found = requests.get(f"{url}/messages", params={"path": "/slack"}, timeout=5).json()
    assert [(one["path"], one["body"]) for one in found] == [("/slack", {"text": "hello"})]
    everything = requests.get(f"{url}/messages", timeout=5).json()
    assert [one["body"] for one in everything][-1] == "plain"
    page = requests.get(url, timeout=5).text
    assert page.index("/heartbeat/vps-01") < page.index("/slack")
