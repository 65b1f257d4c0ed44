"""Workers at the emulated Cloudflare API, through the vendor's own client."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import cloudflare
import dns.rcode
import pytest

from sandbox.cloud.workers.schedule import is_due
from tests.contract.conftest import ZONE, RunningCloud
from tests.contract.test_dns import ask, texts

SOURCE = "export class Counter {}\nexport default {};\n"
CLASS = {"type": "durable_object_namespace", "name": "COUNTER", "class_name": "Counter"}


def upload(cloud: RunningCloud, name: str = "arbiter", **metadata: Any) -> Any:
    return cloud.cloudflare().workers.scripts.update(
        name,
        account_id=cloud.setup.account_id,
        metadata={"main_module": "main.js", **metadata},
        files=[("main.js", SOURCE.encode(), "application/javascript+module")],
    )


def refusal(error: pytest.ExceptionInfo[cloudflare.APIStatusError]) -> tuple[int, int | None]:
    return error.value.status_code, error.value.errors[0].code


def made(cloud: RunningCloud) -> None:
    upload(cloud, migrations={"new_tag": "v1", "new_sqlite_classes": ["Counter"]})


def test_a_script_is_listed_with_the_tag_of_its_migration(cloud: RunningCloud) -> None:
    made(cloud)
    (script,) = cloud.cloudflare().workers.scripts.list(account_id=cloud.setup.account_id)
    assert (script.id, script.migration_tag) == ("arbiter", "v1")


def test_the_same_migration_is_refused_a_second_time(cloud: RunningCloud) -> None:
    made(cloud)
    with pytest.raises(cloudflare.APIStatusError) as error:
        made(cloud)
    assert refusal(error) == (412, 10079)


def test_an_upload_without_a_migration_keeps_classes_and_tag(cloud: RunningCloud) -> None:
    made(cloud)
    upload(cloud, bindings=[CLASS])
    (script,) = cloud.cloudflare().workers.scripts.list(account_id=cloud.setup.account_id)
    assert script.migration_tag == "v1"


def test_a_class_without_storage_cannot_be_bound(cloud: RunningCloud) -> None:
    with pytest.raises(cloudflare.APIStatusError) as error:
        upload(cloud, bindings=[CLASS])
    assert refusal(error) == (400, 10061)


def test_the_free_plan_has_sqlite_classes_only(cloud: RunningCloud) -> None:
    with pytest.raises(cloudflare.APIStatusError) as error:
        upload(cloud, migrations={"new_tag": "v1", "new_classes": ["Counter"]})
    assert refusal(error) == (400, 10097)


def test_a_script_answers_on_a_name_until_the_name_or_the_script_is_gone(
    cloud: RunningCloud,
) -> None:
    domains, account = cloud.cloudflare().workers.domains, cloud.setup.account_id
    upload(cloud)
    fields = {"hostname": f"witness.{ZONE}", "service": "arbiter", "zone_id": cloud.setup.zone_id}
    attached = domains.update(account_id=account, **fields)
    assert (attached.hostname, attached.zone_name) == (f"witness.{ZONE}", ZONE)
    assert domains.update(account_id=account, **fields).id == attached.id
    assert domains.get(attached.id, account_id=account).service == "arbiter"
    assert [one.id for one in domains.list(account_id=account)] == [attached.id]

    domains.delete(attached.id, account_id=account)
    with pytest.raises(cloudflare.NotFoundError):
        domains.get(attached.id, account_id=account)
    again = domains.update(account_id=account, **fields)
    cloud.cloudflare().workers.scripts.delete("arbiter", account_id=account)
    with pytest.raises(cloudflare.NotFoundError):
        domains.get(again.id, account_id=account)


def test_the_name_of_a_script_leads_to_the_edge(cloud: RunningCloud) -> None:
    name = f"witness.{ZONE}"
    assert ask(cloud, name).rcode() == dns.rcode.NXDOMAIN
    upload(cloud)
    cloud.cloudflare().workers.domains.update(
        account_id=cloud.setup.account_id,
        hostname=name,
        service="arbiter",
        zone_id=cloud.setup.zone_id,
    )
    assert texts(ask(cloud, name)) == [cloud.setup.edge_address]


def test_a_name_that_has_a_record_is_not_given_to_a_script(cloud: RunningCloud) -> None:
    client = cloud.cloudflare()
    upload(cloud)
    client.dns.records.create(
        zone_id=cloud.setup.zone_id, type="A", name=f"x.{ZONE}", content="203.0.113.9", ttl=1
    )
    with pytest.raises(cloudflare.APIStatusError) as error:
        client.workers.domains.update(
            account_id=cloud.setup.account_id,
            hostname=f"x.{ZONE}",
            service="arbiter",
            zone_id=cloud.setup.zone_id,
        )
    assert refusal(error) == (409, 100117)


def test_a_token_for_records_edits_records_and_nothing_else(cloud: RunningCloud) -> None:
    assert cloud.tokens.cloudflare_dns is not None
    client, zone = cloud.cloudflare(cloud.tokens.cloudflare_dns), cloud.setup.zone_id
    record = client.dns.records.create(
        zone_id=zone, type="A", name="fleet", content="203.0.113.9", ttl=1, proxied=True
    )
    moved = client.dns.records.edit(
        record.id,
        zone_id=zone,
        type="A",
        name=record.name,
        ttl=1,
        content="203.0.113.10",
    )
    assert moved.content == "203.0.113.10"
    with pytest.raises(cloudflare.PermissionDeniedError):
        client.zones.settings.edit("ssl", zone_id=zone, value="off")
    with pytest.raises(cloudflare.PermissionDeniedError):
        list(client.workers.scripts.list(account_id=cloud.setup.account_id))


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("* * * * *", True),
        ("*/5 * * * *", True),
        ("*/8 * * * *", False),
        ("35 12 27 11 6", True),
        ("35 12 27 11 5", False),
        ("30-40 0,12 * * *", True),
    ],
)
def test_a_cron_expression_is_due_in_its_minutes(expression: str, due: bool) -> None:
    friday = datetime(2026, 11, 27, 12, 35, tzinfo=UTC)
    assert is_due(expression, friday) is due


@pytest.mark.parametrize("expression", ["* * * *", "60 * * * *", "often * * * *"])
def test_a_cron_expression_of_another_form_is_an_error(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        is_due(expression, datetime.now(UTC))


def test_metadata_and_modules_are_kept_as_they_came(cloud: RunningCloud) -> None:
    made(cloud)
    state = json.loads((cloud.setup.state_dir / "cloud.json").read_text())
    worker = state["cloudflare"]["workers"]["arbiter"]
    assert worker["modules"] == {"main.js": SOURCE}
    assert worker["classes"] == ["Counter"]
