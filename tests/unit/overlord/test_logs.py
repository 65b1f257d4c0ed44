"""The node's journal on its way to Loki."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from overlord.errors import OverlordError
from overlord.logs.journal import (
    BATCH_BYTES,
    BATCH_ENTRIES,
    LONGEST_LINE,
    Entry,
    command,
    parse,
    read,
    take,
)
from overlord.logs.loki import Verdict, push, push_body, verdict
from overlord.logs.ship import LONGEST_PAUSE_SECONDS, Shipper


def line(number: int = 1, **fields: Any) -> bytes:
    """A line as journalctl writes it."""
    return json.dumps(
        {
            "__CURSOR": f"s=1;i={number}",
            "__REALTIME_TIMESTAMP": str(1_790_000_000_000_000 + number),
            "MESSAGE": "hello",
            **fields,
        }
    ).encode()


def labels_of(**fields: Any) -> dict[str, str]:
    entry = parse(line(**fields))
    assert entry is not None
    return dict(entry.labels)


def test_a_containers_line_is_found_by_its_service() -> None:
    assert labels_of(
        COM_DOCKER_COMPOSE_SERVICE="api", _SYSTEMD_UNIT="docker.service", PRIORITY="3"
    ) == {"job": "container", "service": "api"}


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("ssh.service", "ssh.service"),
        ("session-17.scope", "scope"),
        ("user@1000.service", "user@.service"),
        ("run-r3f2a.service", "run.service"),
        (None, "kernel"),
    ],
)
def test_a_units_name_has_few_values(unit: str | None, shown: str) -> None:
    assert labels_of(_SYSTEMD_UNIT=unit, PRIORITY="4") == {
        "job": "journal",
        "level": "warning",
        "unit": shown,
    }


def test_bytes_that_are_no_text_and_endless_lines_do_not_stop_it() -> None:
    odd = parse(line(MESSAGE=[104, 105, 255]))
    long = parse(line(MESSAGE="é" * LONGEST_LINE))
    assert odd is not None
    assert odd.text == "hi\ufffd"
    assert long is not None
    assert len(long.text.encode()) <= LONGEST_LINE
    assert parse(b'{"__CURSOR": "s=1') is None
    assert parse(line(MESSAGE=None)) is None


def test_a_batch_is_bounded_by_lines_and_by_bytes() -> None:
    many, more = take(line(number) for number in range(BATCH_ENTRIES + 1))
    large, larger = take(line(number, MESSAGE="x" * LONGEST_LINE) for number in range(100))
    few, rest = take([line()])
    assert (len(many), more, larger, rest) == (BATCH_ENTRIES, True, True, False)
    assert sum(len(entry.text) for entry in large) < BATCH_BYTES + LONGEST_LINE
    assert len(few) == 1


def test_it_goes_on_after_the_cursor_and_begins_with_this_boot() -> None:
    assert command("s=1;i=2")[-1] == "--after-cursor=s=1;i=2"
    assert command(None)[-1] == "--boot"


def fake_journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_a_full_batch_ends_journalctl_and_an_endless_journal_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_journalctl(tmp_path, monkeypatch, f"while :; do echo '{line().decode()}'; done")
    assert len(read(None)) == BATCH_ENTRIES


def test_a_failing_journalctl_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_journalctl(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(OverlordError, match="journalctl ended with 1"):
        read("s=1")


def test_each_set_of_labels_is_one_stream_with_the_nodes_name() -> None:
    entries = [
        Entry("1", 10, (("job", "container"), ("service", "api")), "a"),
        Entry("2", 11, (("job", "journal"), ("unit", "ssh.service")), "b"),
        Entry("3", 12, (("job", "container"), ("service", "api")), "c"),
    ]
    assert json.loads(push_body("vps-01", entries)) == {
        "streams": [
            {
                "stream": {"node": "vps-01", "job": "container", "service": "api"},
                "values": [["10", "a"], ["12", "c"]],
            },
            {
                "stream": {"node": "vps-01", "job": "journal", "unit": "ssh.service"},
                "values": [["11", "b"]],
            },
        ]
    }


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(204, "taken"), (400, "refused"), (413, "refused"), (429, "later"), (503, "later")],
)
def test_what_loki_answers_decides_whether_it_is_asked_again(status: int, meaning: str) -> None:
    assert verdict(status) is Verdict(meaning)


@pytest.fixture
def loki() -> Iterator[tuple[str, list[Any]]]:
    """A Loki that takes everything: its address and what it got."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", got
    server.shutdown()
    server.server_close()


def test_a_batch_travels_over_http(loki: tuple[str, list[Any]]) -> None:
    url, got = loki
    assert push(url, push_body("vps-01", [Entry("1", 10, (), "a")])) is Verdict.TAKEN
    assert got == [{"streams": [{"stream": {"node": "vps-01"}, "values": [["10", "a"]]}]}]
    assert push("http://127.0.0.1:9", b"{}") is Verdict.LATER


class Story:
    """A journal of numbered entries, and a Loki with moods."""

    def __init__(self, folder: Path, count: int, answers: list[Verdict]) -> None:
        self.sent: list[str] = []
        self.said: list[str] = []
        self.answers = answers
        self.known = True
        self.count = count
        self.shipper = Shipper(
            "vps-01", "http://loki", folder / "own.cursor", self.said.append, self.read, self.push
        )

    def read(self, cursor: str | None) -> list[Entry]:
        if cursor is not None and not self.known:
            raise OverlordError("journalctl ended with 1", "see `journalctl --verify`")
        first = int(cursor) + 1 if cursor else 0
        return [Entry(str(n), n, (), f"line {n}") for n in range(first, min(first + 2, self.count))]

    def push(self, _url: str, body: bytes) -> Verdict:
        answer = self.answers.pop(0) if self.answers else Verdict.TAKEN
        if answer is Verdict.TAKEN:
            values = json.loads(body)["streams"][0]["values"]
            self.sent += [text for _, text in values]
        return answer


def test_an_outage_loses_and_doubles_nothing_and_is_said_once(tmp_path: Path) -> None:
    story = Story(tmp_path, 6, [Verdict.TAKEN, Verdict.LATER, Verdict.LATER, Verdict.LATER])
    pauses = [story.shipper.round() for _ in range(7)]

    assert story.sent == [f"line {n}" for n in range(6)]
    assert len(story.said) == 2, story.said
    assert pauses[1:4] == [5, 10, 20]


def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Story(tmp_path, 2, [])
    first.shipper.round()
    second = Story(tmp_path, 4, [])
    second.shipper.round()
    assert second.sent == ["line 2", "line 3"]


def test_what_is_refused_for_good_does_not_stop_the_rest(tmp_path: Path) -> None:
    story = Story(tmp_path, 4, [Verdict.REFUSED])
    story.shipper.round()
    story.shipper.round()
    assert story.sent == ["line 2", "line 3"]
    assert "refused 2 lines" in story.said[0]


def test_a_place_that_the_journal_does_not_know_is_forgotten(tmp_path: Path) -> None:
    story = Story(tmp_path, 2, [])
    story.shipper.round()
    story.known = False
    assert story.shipper.round() == LONGEST_PAUSE_SECONDS
    assert not (tmp_path / "own.cursor").exists()
    story.shipper.round()
    assert story.sent[-2:] == ["line 0", "line 1"]
