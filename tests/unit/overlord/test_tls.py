"""Which certificate nginx shows, and how the node gets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from overlord.actions.tls import Tls
from overlord.errors import OverlordError
from overlord.facts.certificate import days_left, last_error, shown_source
from overlord.node import Acme, Node, parse_node, read_boot_settings
from overlord.paths import Paths
from overlord.runner import Command, Result
from overlord.tls.certificate import Certificate, choose
from overlord.tls.dns_hook import run
from overlord.tls.self_signed import self_signed
from tests.unit.overlord.fakes import FakeRunner, write_boot

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NAME = "fleet.example.com"
ACME = Acme("https://acme.example/dir", "ops@example.com", "https://dns.example", "z" * 32, 15)


def certificate(source: str, **fields: object) -> Certificate:
    fine: dict[str, object] = {
        "source": source, "chain": b"", "key": b"", "names": frozenset({NAME}),
        "ends": NOW + timedelta(days=60), "key_fits": True,
    }  # fmt: skip
    return Certificate(**{**fine, **fields})  # type: ignore[arg-type]


def chosen(*candidates: Certificate) -> str | None:
    found = choose(candidates, NAME, NOW)
    return found.source if found else None


def test_the_one_of_a_public_authority_comes_first() -> None:
    assert chosen(*map(certificate, ("self-signed", "origin", "acme"))) == "acme"


@pytest.mark.parametrize(
    "fault",
    [
        {"ends": NOW - timedelta(seconds=1)},
        {"names": frozenset({"other.example.com"})},
        {"key_fits": False},
    ],
)
def test_one_that_cannot_be_shown_gives_way_to_the_next(fault: dict[str, object]) -> None:
    assert chosen(certificate("acme", **fault), certificate("origin")) == "origin"
    assert chosen(certificate("acme", **fault)) is None


def test_a_wildcard_serves_the_name() -> None:
    assert chosen(certificate("origin", names=frozenset({"*.example.com"}))) == "origin"


def away(_: Command) -> Result:
    return Result(1, errors="the authority does not answer")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return write_boot(tmp_path)


@pytest.fixture
def node(paths: Paths) -> Node:
    data = {"node": "vps-01", "role": "primary", "public_name": NAME, "domain": "example.com"}
    return parse_node(data, read_boot_settings(paths))


def store_origin(paths: Paths, ends: datetime = NOW) -> None:
    chain, key = self_signed((NAME,), ends)
    paths.secrets.mkdir(parents=True, exist_ok=True)
    (paths.secrets / "origin_tls_cert").write_bytes(chain)
    (paths.secrets / "origin_tls_key").write_bytes(key)


def issue_to(paths: Paths) -> Callable[[Command], Result]:
    def certbot(command: Command) -> Result:
        live = paths.acme / "live/overlord"
        live.mkdir(parents=True, exist_ok=True)
        chain, key = self_signed((NAME, "vps-01.example.com"), NOW)
        (live / "fullchain.pem").write_bytes(chain)
        (live / "privkey.pem").write_bytes(key)
        return Result(0)

    return certbot


def tls(paths: Paths, node: Node, shell: FakeRunner, now: datetime = NOW) -> Tls:
    return Tls(paths, shell, node, lambda: now)


def test_a_node_without_any_certificate_makes_one_so_that_nginx_starts(
    paths: Paths, node: Node
) -> None:
    outcome = tls(paths, node, FakeRunner({"certbot": away})).install()
    assert outcome.changed
    assert shown_source(paths) == "self-signed"
    assert days_left(paths.shown_certificate, NOW) == pytest.approx(30)
    assert (paths.shown_certificate.with_name("key.pem").stat().st_mode & 0o777) == 0o600


def test_the_origin_certificate_is_shown_without_asking_anybody(paths: Paths, node: Node) -> None:
    store_origin(paths)
    shell = FakeRunner({"certbot": away})
    assert tls(paths, node, shell).renew().error is None
    assert shown_source(paths) == "origin"
    assert not shell.ran("certbot")


def test_installing_it_again_changes_nothing(paths: Paths, node: Node) -> None:
    store_origin(paths)
    shell = FakeRunner({"certbot": away})
    tls(paths, node, shell).renew()
    before = shell.lines
    assert not tls(paths, node, shell).renew().changed
    assert shell.lines == before


def test_a_new_certificate_is_shown_and_nginx_told_to_read_it(paths: Paths, node: Node) -> None:
    store_origin(paths)
    shell = FakeRunner({"certbot": issue_to(paths)})
    wanting = replace(node, acme=ACME)
    tls(paths, wanting, shell).install()
    outcome = tls(paths, wanting, shell).renew()
    assert (outcome.certificate.source, outcome.changed) == ("acme", True)
    assert "kill --signal HUP nginx" in shell.lines[-1]


def test_when_dns_fails_the_public_name_is_proved_by_http(paths: Paths, node: Node) -> None:
    def certbot(command: Command) -> Result:
        by_http = "--webroot" in command.args
        return issue_to(paths)(command) if by_http else away(command)

    shell = FakeRunner({"certbot": certbot})
    outcome = tls(paths, replace(node, acme=ACME), shell).renew()
    assert (outcome.certificate.source, outcome.error) == ("acme", None)


def test_an_authority_that_is_away_leaves_the_next_best_and_its_reason(
    paths: Paths, node: Node
) -> None:
    store_origin(paths)
    outcome = tls(paths, replace(node, acme=ACME), FakeRunner({"certbot": away})).renew()
    assert outcome.certificate.source == "origin"
    assert "the authority does not answer" in str(outcome.error)
    assert "the authority does not answer" in str(last_error(paths))


def test_an_issued_certificate_that_ended_gives_way_by_itself(paths: Paths, node: Node) -> None:
    shell = FakeRunner({"certbot": issue_to(paths)})
    wanting = replace(node, acme=ACME)
    tls(paths, wanting, shell).renew()
    later = NOW + timedelta(days=31)
    store_origin(paths, later)
    outcome = tls(paths, wanting, FakeRunner({"certbot": away}), later).renew()
    assert (outcome.certificate.source, outcome.changed) == ("origin", True)


def test_old_certificates_do_not_pile_up(paths: Paths, node: Node) -> None:
    for number in range(8):
        store_origin(paths, NOW + timedelta(seconds=number))
        tls(paths, node, FakeRunner({"certbot": away})).install()
    folders = [one for one in (paths.tls / "shown").iterdir() if not one.is_symlink()]
    assert len(folders) == 4


class Zone:
    """Records what would be written."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []

    def add(self, name: str, content: str) -> None:
        self.calls.append(("add", name, content))

    def remove(self, name: str, content: str) -> None:
        self.calls.append(("remove", name, content))


def test_the_proof_is_written_and_waited_for_once_at_the_last_name() -> None:
    zone = Zone()
    slept: list[float] = []
    for left, name in (("1", NAME), ("0", "vps-01.example.com")):
        environment = {
            "CERTBOT_DOMAIN": name,
            "CERTBOT_VALIDATION": f"proof of {name}",
            "CERTBOT_REMAINING_CHALLENGES": left,
        }
        run("auth", environment, zone, 15, slept.append)  # type: ignore[arg-type]
    assert zone.calls == [
        ("add", f"_acme-challenge.{NAME}", f"proof of {NAME}"),
        ("add", "_acme-challenge.vps-01.example.com", "proof of vps-01.example.com"),
    ]
    assert slept == [15]


def test_a_public_name_that_no_certificate_can_be_made_for_is_an_error(
    paths: Paths, node: Node
) -> None:
    # Its end lies before the clock of the node: what is made is over at once.
    broken = Tls(
        paths,
        FakeRunner({"certbot": away}),
        node,
        iter([NOW, NOW, NOW + timedelta(days=40)]).__next__,
    )
    with pytest.raises(OverlordError, match="no certificate for fleet"):
        broken.install()
