"""The zone's name server, asked over UDP and TCP."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.contract.conftest import ZONE, RunningCloud


@pytest.fixture
def zone(cloud: RunningCloud) -> RunningCloud:
    for fields in (
        {"type": "A", "name": "vps-01", "content": "203.0.113.10", "ttl": 120},
        {"type": "AAAA", "name": "vps-01", "content": "2001:db8:0:1::1", "ttl": 120},
        {"type": "A", "name": "fleet", "content": "203.0.113.10", "ttl": 1, "proxied": True},
        {"type": "CNAME", "name": "alias", "content": f"vps-01.{ZONE}", "ttl": 1},
        {"type": "CNAME", "name": "outside", "content": "example.com", "ttl": 1},
        {"type": "A", "name": "a.deep", "content": "203.0.113.12", "ttl": 1},
        {"type": "A", "name": "*.wild", "content": "203.0.113.13", "ttl": 1},
        {
            "type": "CAA",
            "name": "@",
            "ttl": 1,
            "data": {"flags": 0, "tag": "issue", "value": "letsencrypt.org"},
        },
        *({"type": "TXT", "name": "long", "content": f"{n}" * 250, "ttl": 1} for n in range(8)),
    ):
        options: dict[str, Any] = dict(fields)
        cloud.cloudflare().dns.records.create(zone_id=cloud.setup.zone_id, **options)
    return cloud


def ask(cloud: RunningCloud, name: str, kind: str = "A", tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=False)
    send: Any = dns.query.tcp if tcp else dns.query.udp
    answer: dns.message.Message = send(query, "127.0.0.1", 5, cloud.cloud.ports["dns"])
    return answer


def texts(answer: dns.message.Message) -> list[str]:
    return [item.to_text() for rrset in answer.answer for item in rrset]


@pytest.mark.parametrize("tcp", [False, True])
def test_records_are_answered_with_authority(zone: RunningCloud, tcp: bool) -> None:
    answer = ask(zone, f"vps-01.{ZONE}", tcp=tcp)
    assert answer.flags & dns.flags.AA
    assert texts(answer) == ["203.0.113.10"]
    assert answer.answer[0].ttl == 120
    assert texts(ask(zone, f"VPS-01.{ZONE}", "AAAA", tcp)) == ["2001:db8:0:1::1"]


def test_a_proxied_name_is_at_the_edge(zone: RunningCloud) -> None:
    assert texts(ask(zone, f"fleet.{ZONE}")) == [zone.setup.edge_address]
    assert texts(ask(zone, f"fleet.{ZONE}", "AAAA")) == []


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("alias", "A", [f"vps-01.{ZONE}.", "203.0.113.10"]),
        ("outside", "A", ["example.com."]),
        ("x.wild", "A", ["203.0.113.13"]),
        ("a.deep", "A", ["203.0.113.12"]),
    ],
)
def test_aliases_and_wildcards_are_followed_inside_the_zone(
    zone: RunningCloud, name: str, kind: str, expected: list[str]
) -> None:
    assert texts(ask(zone, f"{name}.{ZONE}", kind)) == expected


def test_the_top_of_the_zone_has_its_records(zone: RunningCloud) -> None:
    assert texts(ask(zone, ZONE, "CAA")) == ['0 issue "letsencrypt.org"']
    assert len(texts(ask(zone, ZONE, "NS"))) == 2
    assert texts(ask(zone, ZONE, "SOA"))[0].startswith(f"ns1.{ZONE}.")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (f"missing.{ZONE}", dns.rcode.NXDOMAIN),
        (f"deep.{ZONE}", dns.rcode.NOERROR),
        ("example.com", dns.rcode.REFUSED),
        ("localhost", dns.rcode.REFUSED),
    ],
)
def test_what_is_not_there_is_denied_and_never_looked_up(
    zone: RunningCloud, name: str, code: dns.rcode.Rcode
) -> None:
    answer = ask(zone, name)
    assert answer.rcode() == code
    assert answer.answer == []
    assert bool(answer.authority) == (code != dns.rcode.REFUSED)


def test_an_answer_too_long_for_udp_is_cut_and_complete_over_tcp(zone: RunningCloud) -> None:
    short = ask(zone, f"long.{ZONE}", "TXT")
    assert short.flags & dns.flags.TC
    assert len(texts(ask(zone, f"long.{ZONE}", "TXT", tcp=True))) == 8


def test_a_changed_record_is_answered_at_once(zone: RunningCloud) -> None:
    client, identifier = zone.cloudflare(), zone.setup.zone_id
    found = next(
        iter(client.dns.records.list(zone_id=identifier, name={"exact": f"vps-01.{ZONE}"}))
    )
    client.dns.records.delete(found.id, zone_id=identifier)
    assert ask(zone, f"vps-01.{ZONE}", str(found.type)).answer == []
