"""The bundle is the same bytes for the same inputs, and any machine can open it."""

import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.bundle import BundleFacts, bundle_files, pack
from components.configuration import parse_settings
from components.credentials import SECOND_TOKENS
from components.settings import NODES
from components.sizing import SIZES
from tests.unit.components.test_settings import ALL_TOKENS, good

FACTS = BundleFacts(
    addresses={
        "vps-01": {"ipv4": "198.51.100.1", "ipv6": "2001:db8::1"},
        "vps-02": {"ipv4": "198.51.100.2", "ipv6": "2001:db8:1::1"},
    },
    web_proxies=["192.0.2.0/24"],
    buckets={"data": "d", "bundles": "b", "logs": "l"},
)
FILES = {"b/run": b"#!/bin/sh\n", "a.txt": b"x" * 200_000, "b/c/empty": b""}


def contents(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {entry.name: entry for entry in opened}


def test_the_order_of_the_files_does_not_matter() -> None:
    assert pack(FILES) == pack(dict(reversed(FILES.items())))


def test_the_archive_holds_every_file_unchanged() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(FILES)), mode="r:gz") as opened:
        for name, content in FILES.items():
            member = opened.extractfile(name)
            assert member is not None
            assert member.read() == content


def test_entries_belong_to_root_have_no_time_and_can_be_read_by_containers() -> None:
    entries = contents(pack(FILES))
    assert list(entries) == ["a.txt", "b", "b/c", "b/c/empty", "b/run"]
    for entry in entries.values():
        assert (entry.uid, entry.gid, entry.mtime, entry.uname) == (0, 0, 0, "root")
    modes = {name: oct(entry.mode) for name, entry in entries.items()}
    assert modes == {
        "a.txt": "0o644",
        "b": "0o755",
        "b/c": "0o755",
        "b/c/empty": "0o644",
        "b/run": "0o755",
    }


def test_the_archive_does_not_depend_on_the_build_of_zlib() -> None:
    packed = pack({"a": b"a" * 10_000})
    assert len(packed) > 10_000  # stored, not deflated
    assert packed[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert zlib.decompress(packed, wbits=31)


def test_an_empty_bundle_is_still_an_archive() -> None:
    assert contents(pack({})) == {}


def test_the_bundle_has_the_agent_and_the_stack_of_both_nodes() -> None:
    files = bundle_files(parse_settings(good(), ALL_TOKENS), SIZES[50], FACTS)
    document = json.loads(files.pop("bundle.json"))
    assert document == {
        "version": 1,
        "nodes": list(NODES),
        "files": {path: hashlib.sha256(content).hexdigest() for path, content in files.items()},
    }
    assert "overlord/ctl.py" in files
    assert not [path for path in files if "__pycache__" in path]
    for node, peer in (("vps-01", "vps-02"), ("vps-02", "vps-01")):
        assert f"nodes/{node}/compose.yaml" in files
        document = json.loads(files[f"nodes/{node}/node.json"])
        assert document["node"] == node
        assert document["peer"] == peer
        assert document["backup"]["buckets"]["bundles"] == "b"
        assert document["peers"][peer]["ipv4"] == FACTS.addresses[peer]["ipv4"]
    assert json.loads(files["nodes/vps-01/node.json"])["role"] == "primary"
    assert json.loads(files["nodes/vps-02/node.json"])["role"] == "standby"


def test_a_node_knows_where_the_second_repository_is_or_that_there_is_none() -> None:
    def second(buckets: dict[str, str], **backup: Any) -> Any:
        given = good()
        tokens = {**ALL_TOKENS, **dict.fromkeys((one.variable for one in SECOND_TOKENS), "set")}
        settings = parse_settings({**given, "backup": {**given["backup"], **backup}}, tokens)
        facts = replace(FACTS, buckets={**FACTS.buckets, **buckets})
        files = bundle_files(settings, SIZES[50], facts)
        return json.loads(files["nodes/vps-01/node.json"])["backup"]["second"]

    assert second({}) is None
    where = {"endpoint": "https://s3.us-west-004.backblazeb2.com", "region": "us-west-004"}
    asked = {**where, "bucketPrefix": "overlord-elsewhere"}
    assert second({"second": "overlord-elsewhere-data"}, second=asked) == where


def test_a_node_knows_where_the_arbiter_is_or_that_there_is_none() -> None:
    def arbiter(**changes: Any) -> Any:
        settings = parse_settings({**good(), **changes}, ALL_TOKENS)
        files = bundle_files(settings, SIZES[50], FACTS)
        return json.loads(files["nodes/vps-01/node.json"])["arbiter"]

    assert arbiter() == {"url": "https://witness.example.com", "lease_seconds": 15}
    elsewhere = {"url": "https://198.51.100.1:8807", "leaseSeconds": 20}
    assert arbiter(arbiter=elsewhere) == {"url": elsewhere["url"], "lease_seconds": 20}
    assert arbiter(steering="loadBalancer") is None


def test_the_bundle_is_the_same_in_every_order_of_the_facts() -> None:
    settings = parse_settings(good(), ALL_TOKENS)
    turned = BundleFacts(
        addresses=dict(reversed(list(FACTS.addresses.items()))),
        web_proxies=list(reversed(FACTS.web_proxies)),
        buckets=dict(reversed(list(FACTS.buckets.items()))),
    )
    one = pack(bundle_files(settings, SIZES[50], FACTS))
    assert one == pack(bundle_files(settings, SIZES[50], turned))


def test_no_secret_and_no_credential_is_in_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ALL_TOKENS:
        monkeypatch.setenv(variable, f"very-secret-{variable}")
    packed = pack(bundle_files(parse_settings(good(), ALL_TOKENS), SIZES[50], FACTS))
    assert b"very-secret" not in packed
    assert b"PRIVATE KEY-----\n" not in packed


def test_every_fleet_size_can_be_rendered() -> None:
    for size in SIZES.values():
        settings = parse_settings({**good(), "fleetSize": size.fleet_size}, ALL_TOKENS)
        assert bundle_files(settings, size, FACTS)


def test_the_repository_path_is_not_in_the_bundle() -> None:
    files = bundle_files(parse_settings(good(), ALL_TOKENS), SIZES[50], FACTS)
    here = str(Path(__file__).resolve().parents[3]).encode()
    assert not [path for path, content in files.items() if here in content]
