"""The edge: where the public name leads, and what visitors see when it leads nowhere."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.cloud.cloud import Setup
from sandbox.cloud.cloudflare.domain import Monitor
from sandbox.cloud.edge.health import OriginHealth
from sandbox.cloud.edge.origin import expected
from tests.contract.conftest import ZONE, RunningCloud
from tests.contract.fakes import FakeDriver, FakeTailnet
from tests.contract.origins import OriginServer, origin
from tests.support.ports import free_port

FLEET = f"fleet.{ZONE}"


@pytest.fixture
def origin_port() -> int:
    """The port that stands for 443: one for all origins, each on an address of its own."""
    return free_port("127.0.0.2")


@pytest.fixture
def edge(
    setup: Setup, driver: FakeDriver, tailnet: FakeTailnet, origin_port: int
) -> Iterator[RunningCloud]:
    setup = replace(setup, origin_https_port=origin_port, origin_http_port=free_port())
    running = RunningCloud(setup, driver, tailnet)
    yield running
    running.stop()


@pytest.fixture
def primary(origin_port: int, ca_dir: Path) -> Iterator[OriginServer]:
    with origin("vps-01", "127.0.0.1", origin_port, ca_dir) as server:
        yield server


@pytest.fixture
def standby(origin_port: int, ca_dir: Path) -> Iterator[OriginServer]:
    with origin("vps-02", "127.0.0.2", origin_port, ca_dir) as server:
        yield server


def point(edge: RunningCloud, name: str, address: str, proxied: bool = True) -> str:
    client, zone = edge.cloudflare(), edge.setup.zone_id
    made = client.dns.records.create(
        zone_id=zone, type="A", name=name, content=address, ttl=1, proxied=proxied
    )
    return str(made.id)


def choose(edge: RunningCloud, **settings: str) -> None:
    for name, value in settings.items():
        edge.cloudflare().zones.settings.edit(name, zone_id=edge.setup.zone_id, value=value)


def visit(edge: RunningCloud, path: str = "/", host: str = FLEET, **kwargs: Any) -> httpx.Response:
    """Ask the edge as curl would ask the public name."""
    context = ssl.create_default_context(cafile=edge.ca)
    with httpx.Client(verify=context) as client:
        return client.request(
            kwargs.pop("method", "GET"),
            edge.url("edge_https", path),
            headers={"Host": host, **kwargs.pop("headers", {})},
            extensions={"sni_hostname": host},
            **kwargs,
        )


def eventually(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def test_a_proxied_record_leads_to_its_origin_from_the_edges_address(
    edge: RunningCloud, primary: OriginServer
) -> None:
    point(edge, FLEET, "127.0.0.1")
    choose(edge, ssl="strict")
    answer = visit(edge, headers={"X-Forwarded-For": "9.9.9.9", "CF-Connecting-IP": "8.8.8.8"})
    assert answer.text == "vps-01"
    assert answer.headers["Server"] == "cloudflare"
    assert primary.sources == [edge.setup.edge_source]
    sent = visit(edge, "/headers", headers={"X-Forwarded-For": "9.9.9.9"}).json()
    assert sent["Host"] == FLEET
    assert sent["CF-Connecting-IP"] == "127.0.0.1"
    assert sent["X-Forwarded-For"] == "9.9.9.9, 127.0.0.1"
    assert sent["X-Forwarded-Proto"] == "https"
    assert sent["CF-Ray"]


def test_what_a_visitor_claims_about_the_edge_is_dropped(
    edge: RunningCloud, primary: OriginServer
) -> None:
    point(edge, FLEET, "127.0.0.1")
    sent = visit(edge, "/headers", headers={"CF-Connecting-IP": "8.8.8.8", "CF-Foo": "x"}).json()
    assert sent["CF-Connecting-IP"] == "127.0.0.1"
    assert "CF-Foo" not in sent


def test_connections_to_an_origin_are_kept_and_bodies_pass(
    edge: RunningCloud, primary: OriginServer
) -> None:
    point(edge, FLEET, "127.0.0.1")
    for _ in range(5):
        visit(edge)
    assert len(primary.connections) == 1
    answer = visit(edge, "/upload", method="POST", content=b"x" * 3_000_000)
    assert (answer.status_code, answer.text) == (201, "3000000")


def test_a_changed_record_moves_the_name_at_once(
    edge: RunningCloud, primary: OriginServer, standby: OriginServer
) -> None:
    record = point(edge, FLEET, "127.0.0.1")
    assert visit(edge).text == "vps-01"
    edge.cloudflare().dns.records.update(
        record, zone_id=edge.setup.zone_id, type="A", name=FLEET, content="127.0.0.2", ttl=1,
        proxied=True,
    )  # fmt: skip
    assert visit(edge).text == "vps-02"


def test_names_follow_aliases_and_wildcards(edge: RunningCloud, primary: OriginServer) -> None:
    client, zone = edge.cloudflare(), edge.setup.zone_id
    point(edge, f"*.{ZONE}", "127.0.0.1")
    client.dns.records.create(
        zone_id=zone, type="CNAME", name="www", content=FLEET, ttl=1, proxied=True
    )
    assert visit(edge, host=f"anything.{ZONE}").text == "vps-01"
    assert visit(edge, host=f"www.{ZONE}").text == "vps-01"


@pytest.mark.parametrize("proxied", [True, False])
def test_a_name_without_a_proxied_record_is_530(edge: RunningCloud, proxied: bool) -> None:
    if not proxied:
        point(edge, FLEET, "127.0.0.1", proxied=False)
    answer = visit(edge)
    assert answer.status_code == 530
    assert "1016" in answer.text


def test_an_origin_that_is_down_is_521(edge: RunningCloud) -> None:
    point(edge, FLEET, "127.0.0.1")
    assert visit(edge).status_code == 521


def test_an_origin_that_swallows_connections_is_522(edge: RunningCloud, origin_port: int) -> None:
    with ExitStack() as stack:
        # A full backlog drops new connections, like a firewall that drops them.
        full = stack.enter_context(socket.create_server(("127.0.0.1", origin_port), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        point(edge, FLEET, "127.0.0.1")
        assert visit(edge, timeout=20).status_code == 522


def test_strict_refuses_certificates_that_full_accepts(
    edge: RunningCloud, origin_port: int, ca_dir: Path, tmp_path: Path
) -> None:
    point(edge, FLEET, "127.0.0.1")
    with origin("vps-01", "127.0.0.1", origin_port, ca_dir, names=("example.com",)):
        choose(edge, ssl="strict")
        assert visit(edge).status_code == 526
        choose(edge, ssl="full")
        assert visit(edge).text == "vps-01"


def test_an_origin_without_tls_is_525_and_flexible_goes_to_port_80(
    edge: RunningCloud, origin_port: int
) -> None:
    point(edge, FLEET, "127.0.0.1")
    with origin("plain", "127.0.0.1", origin_port):
        assert visit(edge).status_code == 525
    with origin("plain", "127.0.0.1", edge.setup.origin_http_port):
        choose(edge, ssl="flexible")
        assert visit(edge).text == "plain"


def test_an_answer_that_breaks_off_breaks_off_at_the_visitor_too(
    edge: RunningCloud, primary: OriginServer
) -> None:
    point(edge, FLEET, "127.0.0.1")
    with pytest.raises(httpx.RemoteProtocolError):
        visit(edge, "/cut")


def test_plain_http_is_redirected_when_the_zone_says_so(
    edge: RunningCloud, primary: OriginServer
) -> None:
    point(edge, FLEET, "127.0.0.1")
    choose(edge, always_use_https="on")
    answer = httpx.get(edge.url("edge_http", "/a?b=c"), headers={"Host": FLEET})
    assert answer.status_code == 301
    port = edge.cloud.ports["edge_https"]
    assert answer.headers["Location"] == f"https://{FLEET}:{port}/a?b=c"


def test_the_minimum_tls_version_of_the_zone_holds(
    edge: RunningCloud, primary: OriginServer
) -> None:
    point(edge, FLEET, "127.0.0.1")
    old = ssl.create_default_context(cafile=edge.ca)
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    def works() -> bool:
        connection = http.client.HTTPSConnection(
            "localhost", edge.cloud.ports["edge_https"], context=old, timeout=5
        )
        try:
            connection.request("GET", "/", headers={"Host": FLEET})
            return connection.getresponse().status == 200
        except ssl.SSLError:
            return False
        finally:
            connection.close()

    assert works()
    choose(edge, min_tls_version="1.3")
    eventually(lambda: not works(), "TLS 1.2 is refused")


def balance(edge: RunningCloud) -> tuple[str, str]:
    client, account = edge.cloudflare(), edge.setup.account_id
    check = client.load_balancers.monitors.create(
        account_id=account,
        type="https",
        path="/leader",
        expected_codes="200",
        header={"Host": [FLEET]},
        interval=5,
        retries=0,
        # The client takes a `timeout` for itself.
        extra_body={"timeout": 1},
    )
    pools = [
        client.load_balancers.pools.create(
            account_id=account,
            name=name,
            monitor=check.id,
            origins=[{"name": name, "address": address}],
        ).id
        for name, address in (("vps-01", "127.0.0.1"), ("vps-02", "127.0.0.2"))
    ]
    client.load_balancers.create(
        zone_id=edge.setup.zone_id,
        name=FLEET,
        default_pools=pools,
        fallback_pool=pools[1],
        proxied=True,
        steering_policy="off",
    )
    return pools[0], pools[1]


def test_the_load_balancer_follows_the_leader_and_fails_back(
    edge: RunningCloud, primary: OriginServer, standby: OriginServer
) -> None:
    primary.leader, standby.leader = True, False
    choose(edge, ssl="strict")
    first, _ = balance(edge)
    eventually(lambda: visit(edge).text == "vps-01", "the leader gets the traffic")

    primary.leader, standby.leader = False, True
    eventually(lambda: visit(edge).text == "vps-02", "traffic moves to the new leader")
    url = f"/client/v4/accounts/{edge.setup.account_id}/load_balancers/pools/{first}/health"
    headers = {"Authorization": f"Bearer {edge.tokens.cloudflare}"}
    report = httpx.get(edge.url("cloudflare", url), headers=headers).json()["result"]
    assert report["pop_health"]["Sandbox"]["healthy"] is False
    assert "503" in str(report)

    primary.leader = True
    eventually(lambda: visit(edge).text == "vps-01", "traffic fails back to the first pool")


def test_with_no_healthy_pool_the_fallback_pool_gets_the_traffic(
    edge: RunningCloud, primary: OriginServer, standby: OriginServer
) -> None:
    primary.leader = standby.leader = False
    balance(edge)
    eventually(lambda: visit(edge).text == "vps-02", "the fallback pool answers")


def test_an_origin_changes_its_health_after_as_many_probes_as_asked() -> None:
    monitor = Monitor(id="m", created_on="", modified_on="", consecutive_down=3, consecutive_up=2)
    health = OriginHealth()
    verdicts = []
    for failure in (None, "x", "x", None, "x", "x", "x", None, "x", None, None):
        health.note(failure, monitor)
        verdicts.append(health.healthy)
    assert verdicts == [True] * 6 + [False] * 4 + [True]


@pytest.mark.parametrize(
    ("status", "codes", "met"),
    [(200, "200", True), (204, "2xx", True), (302, "200, 3xx", True), (503, "200,2xx", False)],
)
def test_expected_codes_are_single_ones_or_classes(status: int, codes: str, met: bool) -> None:
    assert expected(status, codes) is met
