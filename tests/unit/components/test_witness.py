"""The arbiter as the program deploys it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import responses

from components.durable_object import DurableObjectClassProvider
from components.settings import NODES
from components.vendor_api import VendorError
from components.worker_script import SOURCE, worker_script
from tests.support.program import Recording, config_of, run_program

SCRIPT = "cloudflare:index/workersScript:WorkersScript"
CLOUDFLARE = "https://api.cloudflare.com/client/v4"
SCRIPTS = f"{CLOUDFLARE}/accounts/a/workers/scripts"
PROPS = {
    "endpoint": CLOUDFLARE,
    "accountId": "a",
    "scriptName": "overlord-prod-witness",
    "className": "Arbiter",
}


def bindings(recording: Recording) -> dict[str, dict[str, Any]]:
    (script,) = recording.of_type(SCRIPT)
    assert "bindings" in script.secret_inputs
    return {binding["name"]: binding for binding in script.inputs["bindings"]}


@pytest.fixture
def balanced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recording:
    config = {
        **config_of("Pulumi.prod.yaml"),
        "overlord:steering": "loadBalancer",
        "overlord:arbiter": '{"enabled": true, "leaseSeconds": 20}',
    }
    return run_program(monkeypatch, tmp_path, config, stack_name="prod")


def test_the_worker_is_told_what_it_needs_and_keeps_secrets_secret(prod: Recording) -> None:
    found = bindings(prod)
    assert found["ARBITER"]["className"] == "Arbiter"
    kinds = {name: binding["type"] for name, binding in found.items() if name != "ARBITER"}
    assert kinds == {
        "NODES": "plain_text",
        "LEASE_SECONDS": "plain_text",
        "STEERING": "plain_text",
        "CLOUDFLARE_API": "plain_text",
        "ZONE_ID": "plain_text",
        "PUBLIC_NAME": "plain_text",
        "NODE_TOKENS": "secret_text",
        "OPERATOR_TOKEN": "secret_text",
        "DNS_TOKEN": "secret_text",
    }
    assert found["STEERING"]["text"] == "worker"
    assert found["DNS_TOKEN"]["text"] == "token-overlord_arbiter_dns_token"
    nodes = json.loads(found["NODES"]["text"])
    assert list(nodes) == list(NODES)
    assert nodes["vps-01"]["leader"] == "https://vps-01.example.com/leader"


def test_the_addresses_are_those_of_the_nodes(prod: Recording) -> None:
    nodes = json.loads(bindings(prod)["NODES"]["text"])
    for node in NODES:
        (record,) = [
            one
            for one in prod.of_type("cloudflare:index/dnsRecord:DnsRecord")
            if one.inputs["name"] == f"{node}.example.com" and one.inputs["type"] == "A"
        ]
        assert nodes[node]["address"] == record.inputs["content"]


def test_each_node_may_come_with_its_token_and_the_one_before(prod: Recording) -> None:
    tokens = json.loads(bindings(prod)["NODE_TOKENS"]["text"])
    assert tokens == {
        node: [
            f"value-of-secrets-arbiter-token-{node}",
            f"value-of-secrets-arbiter-token-{node}-before",
        ]
        for node in NODES
    }


def test_with_a_load_balancer_the_worker_cannot_write_records(balanced: Recording) -> None:
    found = bindings(balanced)
    assert found["STEERING"]["text"] == "none"
    assert found["LEASE_SECONDS"]["text"] == "20"
    assert not {"DNS_TOKEN", "ZONE_ID", "CLOUDFLARE_API"} & set(found)


def test_the_worker_answers_on_its_name_and_looks_every_minute(prod: Recording) -> None:
    domain = prod.named("witness-domain")
    assert domain.inputs["hostname"] == "witness.example.com"
    assert domain.inputs["service"] == "overlord-prod-witness"
    assert prod.named("witness-cron").inputs["schedules"] == [{"cron": "* * * * *"}]
    assert prod.outputs["arbiterUrl"] == "https://witness.example.com"


def test_the_script_never_speaks_of_migrations(prod: Recording) -> None:
    assert prod.named("witness-script").inputs.get("migrations") is None


def test_the_script_is_one_module_with_one_way_in() -> None:
    text = worker_script()
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("import ")] == [
        'import { DurableObject } from "cloudflare:workers";'
    ]
    exports = [line for line in lines if line.startswith("export ")]
    assert exports == ["export default worker;", "export { Arbiter };"]
    for file in SOURCE.glob("*.js"):
        assert f"// {file.name}\n" in text, f"{file.name} is not part of the script"


def test_the_script_is_the_same_text_every_time() -> None:
    assert worker_script() == worker_script()


def test_two_files_that_declare_the_same_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "worker.js").write_text('import { a } from "./a.js";\n\nconst LIMIT = a;\n')
    (tmp_path / "a.js").write_text("const LIMIT = 1;\nexport const a = LIMIT;\n")
    with pytest.raises(ValueError, match=r"a\.js and worker\.js both declare LIMIT"):
        worker_script(tmp_path)


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def answer(result: Any) -> dict[str, Any]:
    return {"success": True, "result": result}


def test_the_class_is_made_once(http: responses.RequestsMock) -> None:
    http.get(SCRIPTS, json=answer([{"id": "another", "migration_tag": "v1"}]))
    http.put(f"{SCRIPTS}/overlord-prod-witness", json=answer({"id": "overlord-prod-witness"}))
    DurableObjectClassProvider().create(dict(PROPS))
    body = http.calls[-1].request.body
    assert isinstance(body, bytes)
    assert b'"migrations": {"new_tag": "v1", "new_sqlite_classes": ["Arbiter"]}' in body
    assert b"export class Arbiter" in body


def test_a_class_of_an_interrupted_run_is_kept_with_its_storage(
    http: responses.RequestsMock,
) -> None:
    http.get(SCRIPTS, json=answer([{"id": "overlord-prod-witness", "migration_tag": "v1"}]))
    DurableObjectClassProvider().create(dict(PROPS))
    assert [call.request.method for call in http.calls] == ["GET"]


def test_a_class_whose_script_was_deleted_is_seen(http: responses.RequestsMock) -> None:
    http.get(SCRIPTS, json=answer([]))
    assert DurableObjectClassProvider().read("x", dict(PROPS)).id is None


def test_a_refused_upload_says_which_call_and_why(http: responses.RequestsMock) -> None:
    http.get(SCRIPTS, json=answer([]))
    error = {"code": 10079, "message": "Actor migration tag precondition failed"}
    http.put(
        f"{SCRIPTS}/overlord-prod-witness",
        status=412,
        json={"success": False, "errors": [error]},
    )
    with pytest.raises(VendorError, match="precondition failed"):
        DurableObjectClassProvider().create(dict(PROPS))
