"""Metrics from before come back: by an operator's word, and into a new node by itself."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from overlord.backup.objects import Bucket
from overlord.firstboot import data
from tests.unit.overlord.fakes import FakeRunner
from tests.unit.overlord.test_backup_copy import FakeClient, Node, Operator
from tests.unit.overlord.test_firstboot import make_context

BLOCK = "01KB2N4Y5T3X8Z7QWERTGHJKMN"
NEWEST = "metrics/vps-01/2026-11-27T020000Z.tar"


def snapshot(content: bytes = b"{}") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(f"./{BLOCK}/meta.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    found = Node(tmp_path)
    found.client.put(NEWEST, snapshot(), 1000)
    found.paths.prometheus_volume.mkdir(parents=True)
    return found


def block(node: Node) -> Path:
    return node.paths.prometheus_volume / BLOCK / "meta.json"


def test_an_operator_puts_the_newest_snapshot_back(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = Operator(node, monkeypatch)
    code, said = operator.does("restore", "--metrics", "--dry-run")
    assert (code, NEWEST in said, block(node).exists()) == (0, True, False)
    code, said = operator.does("restore", "--metrics")
    assert (code, "1 blocks" in said, block(node).exists()) == (0, True, True)


def test_or_that_of_the_nodes_own_copy_while_there_is_no_bucket(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = Operator(node, monkeypatch)
    operator.does("backup", "copy")
    node.client.away = True
    assert operator.does("restore", "--metrics")[0] == 1
    code, said = operator.does("restore", "--metrics", "--from-copy")
    assert code == 0, said
    assert block(node).read_bytes() == b"{}"


@pytest.mark.parametrize("option", ["--at", "--to", "--bucket-as-of"])
def test_what_is_of_the_database_alone_is_refused(
    node: Node, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    code, said = Operator(node, monkeypatch).does("restore", "--metrics", option, "2026-01-01")
    assert (code, "--metrics takes the newest snapshot" in said) == (1, True)


def boots(node: Node, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the step of a first boot says."""
    bucket = Bucket("overlord-data", node.client)
    monkeypatch.setattr("overlord.firstboot.data.data_bucket", lambda _: bucket)
    context = make_context(node.paths.root / "boot", FakeRunner())
    [said] = data.metrics(replace(context, paths=node.paths))
    return said


def test_a_new_node_gets_them_and_one_that_has_some_keeps_them(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert boots(node, monkeypatch) == f"1 blocks of {NEWEST}"
    assert block(node).exists()
    assert boots(node, monkeypatch) == "kept what is there"


def test_no_failure_of_it_stops_a_boot(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.client.put(NEWEST, snapshot()[:700], 1000)
    assert boots(node, monkeypatch).startswith("none from before: the archive is damaged")
    node.client.away = True
    assert "restore --metrics` tries again" in boots(node, monkeypatch)
    node.client = FakeClient()
    assert boots(node, monkeypatch) == "there are none"


def test_a_backup_now_stores_a_snapshot_too_on_the_node_that_leads(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[str] = []

    def back_up_samples(*_: object) -> tuple[str, int]:
        stored.append("metrics/x")
        return stored[0], 77

    monkeypatch.setattr("overlord.backup.manager.back_up_samples", back_up_samples)
    operator = Operator(node, monkeypatch)
    assert operator.does("backup", "now")[0] == 1
    assert stored == []
    operator.leads = True
    said = operator.does("backup", "now")[1]
    assert "snapshot of the metrics stored" in said
    assert stored == ["metrics/x"]
