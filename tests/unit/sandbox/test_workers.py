"""What the sandbox tells workerd, and where workerd comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.cloud.cloudflare.domain import Worker
from sandbox.cloud.workers.config import configuration, environment, module_file
from sandbox.stamps import Stamps
from sandbox.toolchain.fetched import WORKERD
from sandbox.world import REPOSITORY, World


def worker(bindings: list[dict[str, Any]], **changes: Any) -> Worker:
    fields = {
        "name": "witness",
        "created_on": "",
        "modified_on": "",
        "etag": "",
        "metadata": {
            "main_module": "main.js",
            "compatibility_date": "2026-11-01",
            "bindings": bindings,
        },
        "modules": {"main.js": "", "other/part.js": ""},
        **changes,
    }
    return Worker(**fields)


def test_texts_of_bindings_are_in_the_environment_and_not_in_the_configuration() -> None:
    given = worker(
        [
            {"name": "PLAIN", "type": "plain_text", "text": "fleet.example.com"},
            {"name": "HIDDEN", "type": "secret_text", "text": "hidden"},
        ]
    )
    text = configuration(given, Path("/state/storage"), "127.0.0.1:1")
    assert environment(given) == {"BINDING_0": "fleet.example.com", "BINDING_1": "hidden"}
    assert '(name = "HIDDEN", fromEnvironment = "BINDING_1")' in text
    assert "hidden" not in text
    assert "fleet.example.com" not in text


def test_a_class_gets_its_storage_under_a_key_of_its_own() -> None:
    binding = {"name": "ARBITER", "type": "durable_object_namespace", "class_name": "Arbiter"}
    text = configuration(worker([binding], classes=["Arbiter"]), Path("/s"), "127.0.0.1:1")
    assert '(name = "ARBITER", durableObjectNamespace = "Arbiter")' in text
    assert '(className = "Arbiter", uniqueKey = "witness-Arbiter", enableSql = true)' in text


def test_the_main_module_comes_first_and_no_module_leaves_the_folder() -> None:
    text = configuration(worker([]), Path("/s"), "127.0.0.1:1")
    main, other = text.index('(name = "main.js"'), text.index('(name = "other/part.js"')
    assert main < other
    assert module_file("../../other.js") == "module-.._.._other.js"
    assert "/" not in module_file("../../other.js")


def test_a_name_cannot_break_out_of_the_configuration() -> None:
    binding = {"name": 'X", text = "y', "type": "plain_text", "text": ""}
    text = configuration(worker([binding]), Path("/s"), "127.0.0.1:1")
    assert '(name = "X\\", text = \\"y", fromEnvironment' in text


def test_the_tests_of_the_arbiter_and_the_sandbox_run_the_same_workerd() -> None:
    sandbox = json.loads((WORKERD.folder / "package.json").read_text())
    witness = json.loads((REPOSITORY / "witness" / "package.json").read_text())
    pinned = sandbox["dependencies"]["workerd"]
    assert pinned == witness["devDependencies"]["workerd"]
    lock = json.loads((WORKERD.folder / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/workerd"]["version"] == pinned


@pytest.mark.parametrize("folder", ["witness", "sandbox/toolchain/workerd"])
def test_a_lock_file_names_checksums_and_no_registry(folder: str) -> None:
    lock = json.loads((REPOSITORY / folder / "package-lock.json").read_text())
    for name, package in lock["packages"].items():
        if name:
            assert package["integrity"].startswith("sha512-"), name
            assert "resolved" not in package, name


def test_workerd_is_fetched_again_when_its_lock_file_changes(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert not WORKERD.is_ready(world)
    world.bin.mkdir(parents=True)
    (world.bin / WORKERD.name).touch()
    assert not WORKERD.is_ready(world)
    Stamps(world.stamps).write(WORKERD.mark, WORKERD.stamp())
    assert WORKERD.is_ready(world)
    Stamps(world.stamps).write(WORKERD.mark, "another")
    assert not WORKERD.is_ready(world)
