"""The arbiter as the program uploads it, run by the emulated Cloudflare under workerd."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from components.durable_object import DurableObjectClassProvider
from components.witness import CLASS, COMPATIBILITY_DATE, MODULE
from components.worker_script import worker_script
from sandbox.cloud.cloud import Setup
from sandbox.toolchain.fetched import WORKERD
from sandbox.world import World
from tests.contract.conftest import ZONE, RunningCloud
from tests.contract.origins import OriginServer, origin
from tests.support.ports import free_port

PROGRAM = World.here().bin / WORKERD.name
NAME = "overlord-test-witness"
LEASE_SECONDS = 1
DEADLINE_SECONDS = 20
NODE_TOKENS = {"vps-01": secrets.token_hex(20), "vps-02": secrets.token_hex(20)}
OPERATOR_TOKEN = secrets.token_hex(20)

pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(), reason="workerd is not installed; `make install` fetches it"
)


class Witness:
    """The arbiter of one test, deployed with the requests that the program makes."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self.http = httpx.Client(base_url=cloud.url("workers"), verify=cloud.trust, timeout=10)

    def deploy(self) -> None:
        account, zone = self.cloud.setup.account_id, self.cloud.setup.zone_id
        nodes = {
            node: {"address": f"127.0.0.{number}", "leader": f"https://{node}.{ZONE}/leader"}
            for number, node in enumerate(NODE_TOKENS, start=1)
        }
        api = self.cloud.url("cloudflare", "/client/v4")
        texts = {
            "NODES": json.dumps(nodes),
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "STEERING": "worker",
            "NODE_TOKENS": json.dumps({node: [token] for node, token in NODE_TOKENS.items()}),
            "OPERATOR_TOKEN": OPERATOR_TOKEN,
            "CLOUDFLARE_API": api,
            "ZONE_ID": zone,
            "PUBLIC_NAME": f"fleet.{ZONE}",
            "DNS_TOKEN": self.cloud.tokens.cloudflare_dns,
        }
        client = self.cloud.cloudflare()
        client.workers.scripts.update(
            NAME,
            account_id=account,
            metadata={
                "main_module": MODULE,
                "compatibility_date": COMPATIBILITY_DATE,
                "bindings": [
                    {"name": "ARBITER", "type": "durable_object_namespace", "class_name": CLASS},
                    *({"name": n, "type": "secret_text", "text": t} for n, t in texts.items()),
                ],
            },
            files=[(MODULE, worker_script().encode(), "application/javascript+module")],
        )
        client.workers.domains.update(
            account_id=account, hostname=f"witness.{ZONE}", service=NAME, zone_id=zone
        )

    def post(self, path: str, body: dict[str, Any], token: str) -> httpx.Response:
        return self.http.post(path, json=body, headers={"Authorization": f"Bearer {token}"})

    def acquire(self, node: str) -> httpx.Response:
        return self.post("/v1/lease/acquire", {"node": node}, NODE_TOKENS[node])

    def granted(self, node: str) -> dict[str, Any]:
        until(lambda: self.acquire(node).status_code == 200, f"{node} gets the lease")
        granted: dict[str, Any] = self.state()
        return granted

    def state(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        state: dict[str, Any] = self.http.get("/v1/state", headers=headers).json()
        return state

    def minute(self) -> str:
        answer = httpx.post(self.cloud.url("control", f"/workers/{NAME}/cron"), timeout=60)
        outcome: str = answer.json()["outcome"]
        return outcome


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.05)


Nodes = tuple[OriginServer, OriginServer]


@pytest.fixture
def nodes(ca_dir: Path) -> Iterator[Nodes]:
    """Both nodes, as the edge reaches them. The first one leads."""
    port = free_port("127.0.0.2")
    with (
        origin("vps-01", "127.0.0.1", port, ca_dir) as one,
        origin("vps-02", "127.0.0.2", port, ca_dir) as two,
    ):
        two.leader = False
        yield one, two


@pytest.fixture
def setup(setup: Setup, nodes: Nodes) -> Setup:
    return replace(setup, workerd=PROGRAM, origin_https_port=nodes[0].port)


@pytest.fixture
def witness(cloud: RunningCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", cloud.tokens.cloudflare)
    DurableObjectClassProvider().create(
        {
            "endpoint": cloud.url("cloudflare", "/client/v4"),
            "accountId": cloud.setup.account_id,
            "scriptName": NAME,
            "className": CLASS,
        }
    )
    running = Witness(cloud)
    running.deploy()
    yield running
    running.http.close()


def record(cloud: RunningCloud, name: str, content: str, **fields: Any) -> str:
    made = cloud.cloudflare().dns.records.create(
        zone_id=cloud.setup.zone_id, type="A", name=name, content=content, ttl=1, **fields
    )
    return str(made.id)


def content(cloud: RunningCloud, record_id: str) -> str:
    found = cloud.cloudflare().dns.records.get(record_id, zone_id=cloud.setup.zone_id)
    return str(found.content)


def test_a_lease_is_granted_on_the_address_and_on_the_name(witness: Witness) -> None:
    assert witness.acquire("vps-01").json()["reason"] == "waking"
    assert witness.granted("vps-01")["holder"] == "vps-01"
    headers = {"Authorization": f"Bearer {OPERATOR_TOKEN}", "Host": f"witness.{ZONE}"}
    url = witness.cloud.url("edge_https", "/v1/state")
    named = httpx.get(url, headers=headers, verify=witness.cloud.trust)
    assert named.json()["last_holder"] == "vps-01"
    assert named.headers["server"] == "cloudflare"


def test_the_public_record_follows_the_holder_with_the_narrow_token(witness: Witness) -> None:
    record_id = record(witness.cloud, f"fleet.{ZONE}", "127.0.0.9", proxied=True)
    witness.granted("vps-01")
    until(lambda: content(witness.cloud, record_id) == "127.0.0.1", "the record moved")
    until(lambda: witness.state()["steering"]["agrees"], "the arbiter knows")


def test_a_failing_dns_api_is_asked_until_it_works(witness: Witness) -> None:
    record_id = record(witness.cloud, f"fleet.{ZONE}", "127.0.0.9", proxied=True)
    fault = {
        "vendor": "cloudflare",
        "method": "PATCH",
        "path_regex": "dns_records",
        "status": 503,
        "count": 2,
    }
    httpx.post(witness.cloud.url("control", "/faults"), json=fault).raise_for_status()
    witness.granted("vps-01")
    until(lambda: witness.state()["steering"]["attempts"] > 0, "an attempt failed")
    until(lambda: content(witness.cloud, record_id) == "127.0.0.1", "the record moved")


def test_leases_survive_a_restart_of_the_cloud_and_a_new_upload(witness: Witness) -> None:
    epoch = witness.granted("vps-01")["epoch"]
    witness.deploy()
    assert witness.state()["epoch"] == epoch
    witness.cloud.restart()
    assert Witness(witness.cloud).state()["epoch"] == epoch


def test_an_arbiter_that_is_killed_comes_back_with_what_it_knew(witness: Witness) -> None:
    epoch = witness.granted("vps-01")["epoch"]

    def processes() -> list[psutil.Process]:
        folder = str(witness.cloud.setup.state_dir)
        found = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):  # it ends while it is looked at
                if folder in " ".join(child.cmdline()):
                    found.append(child)
        return found

    (killed,) = processes()
    killed.kill()
    until(lambda: [one for one in processes() if one != killed] != [], "another one is started")
    until(lambda: witness.acquire("vps-02").status_code == 409, "it answers")
    assert witness.state()["epoch"] == epoch


def test_an_arbiter_that_is_wiped_knows_nothing(witness: Witness) -> None:
    epoch = witness.granted("vps-01")["epoch"]
    control = witness.cloud.url("control", f"/workers/{NAME}/storage")
    httpx.delete(control, timeout=30).raise_for_status()
    assert witness.state()["epoch"] == 0 < epoch


def test_an_arbiter_that_is_cut_off_answers_nobody_until_the_fault_is_lifted(
    witness: Witness,
) -> None:
    faults = witness.cloud.url("control", "/faults")
    cut = {"vendor": "workers", "drop": True, "count": None}
    httpx.post(faults, json=cut).raise_for_status()
    with pytest.raises(httpx.HTTPError):
        witness.state()
    httpx.delete(faults).raise_for_status()
    assert witness.state()["epoch"] == 0


def test_the_check_from_outside_reaches_the_nodes_as_the_edge_does(
    witness: Witness, nodes: Nodes
) -> None:
    for node, server in zip(NODE_TOKENS, nodes, strict=True):
        record(witness.cloud, f"{node}.{ZONE}", server.address)
    client = witness.cloud.cloudflare()
    client.zones.settings.edit("ssl", zone_id=witness.cloud.setup.zone_id, value="strict")
    witness.granted("vps-01")
    assert witness.minute() == "ok"
    assert witness.state()["health"] == {"failures": 0, "detail": "HTTP 200"}
    nodes[0].leader = False
    assert witness.minute() == "ok"
    assert witness.state()["health"] == {"failures": 1, "detail": "HTTP 503"}


def test_a_worker_reaches_nobody_outside_the_zone(witness: Witness) -> None:
    witness.granted("vps-01")
    assert witness.minute() == "ok"
    # No node has a record here, and nothing else is asked in its place.
    assert witness.state()["health"]["detail"] == "HTTP 530"


def test_a_script_that_does_not_start_is_refused_and_the_old_one_runs_on(
    witness: Witness,
) -> None:
    with pytest.raises(Exception, match="Uncaught"):
        witness.cloud.cloudflare().workers.scripts.update(
            NAME,
            account_id=witness.cloud.setup.account_id,
            metadata={"main_module": "bad.js", "compatibility_date": COMPATIBILITY_DATE},
            files=[("bad.js", b"export default {", "application/javascript+module")],
        )
    assert witness.state()["epoch"] == 0


def test_the_secrets_of_a_worker_are_in_no_file_but_the_clouds_own_state(witness: Witness) -> None:
    folder = witness.cloud.setup.state_dir / "workers" / NAME
    for file in folder.rglob("*"):
        if file.is_file():
            assert OPERATOR_TOKEN.encode() not in file.read_bytes(), file
