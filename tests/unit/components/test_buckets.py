"""Buckets, bundles and launch tickets at Backblaze B2, against moto in this process, which answers
as the sandbox's does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet
from moto import mock_aws

from components import bundle_object, s3
from components.bundle_object import BundleObjectProvider, keep_content, object_key
from components.launch_ticket import LaunchTicketProvider
from components.s3 import S3Error
from components.s3_bucket import OWNER_KEY, LifecycleRule, S3BucketProvider
from sandbox.cloud.s3 import moto_as_b2

ENDPOINT = "https://s3.eu-central-003.example.com"
REGION = "us-east-1"  # the only one where moto, like B2, wants no location constraint


@pytest.fixture
def b2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setenv("MOTO_S3_CUSTOM_ENDPOINTS", ENDPOINT)
    monkeypatch.setenv("OVERLORD_B2_KEY_ID", "key-id")
    monkeypatch.setenv("OVERLORD_B2_KEY", "key")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setattr(bundle_object, "WORK_DIR", tmp_path)
    moto_as_b2.apply()
    with mock_aws():
        # One client for all tests of this file: making one takes longer than most of them.
        client = s3.s3_client(ENDPOINT, REGION, lambda _: None)
        client.meta.events.register(
            "before-send.s3", refuse_what_b2_refuses, unique_id="as-strict-as-b2"
        )
        yield client


def refuse_what_b2_refuses(request: Any, **_: Any) -> None:
    for header in request.headers:
        assert not header.lower().startswith(("x-amz-checksum", "x-amz-sdk-checksum")), header
        assert not header.lower().startswith("if-"), header


def bucket(**changes: Any) -> dict[str, Any]:
    return {
        "endpoint": ENDPOINT,
        "region": REGION,
        "name": "example-data",
        "versioning": True,
        "encryption": "AES256",
        "public": False,
        "lockDays": 14,
        "lockMode": "governance",
        "lifecycle": [
            LifecycleRule("metrics/", 7, 3).as_property(),
            LifecycleRule("database/", 30, 3).as_property(),
        ],
        "owner": "overlord/prod",
        "adopt": False,
        "forceDestroy": False,
        **changes,
    }


PROVIDER = S3BucketProvider()


def test_a_new_bucket_is_locked_versioned_encrypted_private_and_expires_its_objects(
    b2: Any,
) -> None:
    PROVIDER.create(bucket())
    lock = b2.get_object_lock_configuration(Bucket="example-data")["ObjectLockConfiguration"]
    retention = lock["Rule"]["DefaultRetention"]
    assert (retention["Mode"], retention["Days"]) == ("GOVERNANCE", 14)
    assert b2.get_bucket_versioning(Bucket="example-data")["Status"] == "Enabled"
    rules = b2.get_bucket_lifecycle_configuration(Bucket="example-data")["Rules"]
    assert {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules} == {
        "database/": 30,
        "metrics/": 7,
    }
    assert all(rule["NoncurrentVersionExpiration"]["NoncurrentDays"] == 3 for rule in rules)
    encryption = b2.get_bucket_encryption(Bucket="example-data")
    assert "AES256" in json.dumps(encryption)


def test_what_was_created_shows_no_difference_and_a_refresh_neither(b2: Any) -> None:
    outs = PROVIDER.create(bucket()).outs
    assert outs is not None
    assert not PROVIDER.diff("example-data", outs, bucket()).changes
    read = PROVIDER.read("example-data", outs)
    assert read.outs == outs
    assert not PROVIDER.diff("example-data", read.outs or {}, bucket()).changes


@pytest.mark.parametrize(
    "drift",
    [
        lambda b2: b2.delete_bucket_lifecycle(Bucket="example-data"),
        lambda b2: b2.put_bucket_acl(Bucket="example-data", ACL="public-read"),
        lambda b2: b2.delete_bucket_encryption(Bucket="example-data"),
        lambda b2: b2.delete_object(Bucket="example-data", Key=OWNER_KEY),
        lambda b2: b2.put_object_lock_configuration(
            Bucket="example-data",
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
            },
        ),
    ],
    ids=["lifecycle", "access", "encryption", "owner", "lock"],
)
def test_a_change_from_outside_is_seen_and_put_right(b2: Any, drift: Any) -> None:
    outs = PROVIDER.create(bucket()).outs or {}
    drift(b2)
    drifted = PROVIDER.read("example-data", outs).outs or {}
    diff = PROVIDER.diff("example-data", drifted, bucket())
    assert diff.changes
    assert diff.replaces == []
    PROVIDER.update("example-data", drifted, bucket())
    assert PROVIDER.read("example-data", outs).outs == outs


def test_a_bucket_that_is_gone_is_made_again(b2: Any) -> None:
    outs = PROVIDER.create(bucket()).outs or {}
    PROVIDER.delete("example-data", bucket())
    assert PROVIDER.read("example-data", outs).id is None


def test_a_bucket_that_an_interrupted_run_left_half_made_is_finished(b2: Any) -> None:
    b2.create_bucket(Bucket="example-data", ObjectLockEnabledForBucket=True)
    outs = PROVIDER.create(bucket()).outs or {}
    assert not PROVIDER.diff("example-data", outs, bucket()).changes


def test_an_empty_bucket_without_the_lock_is_made_again_with_it(b2: Any) -> None:
    b2.create_bucket(Bucket="example-data")
    outs = PROVIDER.create(bucket()).outs or {}
    assert outs["lockEnabled"]


def test_a_bucket_with_data_is_not_taken_over_unasked(b2: Any) -> None:
    b2.create_bucket(Bucket="example-data")
    b2.put_object(Bucket="example-data", Key="precious", Body=b"1")
    with pytest.raises(S3Error, match=r"example-data exists .* holds data .*backup\.adopt"):
        PROVIDER.create(bucket())
    PROVIDER.create(bucket(lockDays=0, lockMode="", adopt=True))
    assert b2.get_object(Bucket="example-data", Key="precious")["Body"].read() == b"1"
    assert b2.get_object(Bucket="example-data", Key=OWNER_KEY)["Body"].read() == b"overlord/prod"


def test_a_bucket_of_the_same_stack_is_taken_over_with_its_data_and_its_lock(b2: Any) -> None:
    PROVIDER.create(bucket(lockDays=20))
    md5 = s3.content_md5(b"1")
    b2.put_object(Bucket="example-data", Key="precious", Body=b"1", ContentMD5=md5)
    outs = PROVIDER.create(bucket(lockDays=20)).outs or {}
    assert not PROVIDER.diff("example-data", outs, bucket(lockDays=20)).changes
    assert b2.get_object(Bucket="example-data", Key="precious")["Body"].read() == b"1"


def test_a_bucket_of_another_stack_is_not_taken_over_even_while_it_is_empty(b2: Any) -> None:
    PROVIDER.create(bucket())
    another = bucket(owner="overlord/other")
    refused = r"example-data .* belongs to the stack overlord/prod\. .*backup\.adopt"
    with pytest.raises(S3Error, match=refused):
        PROVIDER.create(another)
    outs = PROVIDER.create({**another, "adopt": True}).outs or {}
    assert outs["owner"] == "overlord/other"
    # The stack that had it before does not write into it any more.
    drifted = PROVIDER.read("example-data", bucket()).outs or {}
    assert PROVIDER.diff("example-data", drifted, bucket()).changes
    with pytest.raises(S3Error, match="belongs to the stack overlord/other"):
        PROVIDER.update("example-data", drifted, bucket())


def test_the_owners_mark_outlasts_no_lock_of_the_data(b2: Any) -> None:
    PROVIDER.create(bucket(lockMode="compliance"))
    mark = b2.head_object(Bucket="example-data", Key=OWNER_KEY)
    assert mark["ObjectLockMode"] == "GOVERNANCE"
    PROVIDER.delete("example-data", bucket(lockMode="compliance"))
    assert b2.list_buckets()["Buckets"] == []


def test_a_bucket_with_data_refuses_to_be_deleted_unless_told_so(b2: Any) -> None:
    props = bucket(lockDays=0, lockMode="")
    PROVIDER.create(props)
    b2.put_object(Bucket="example-data", Key="precious", Body=b"1")
    with pytest.raises(S3Error, match=r"holds data and is not deleted.*forceDestroy"):
        PROVIDER.delete("example-data", props)
    PROVIDER.delete("example-data", {**props, "forceDestroy": True})
    assert b2.list_buckets()["Buckets"] == []


def test_a_deleted_object_that_is_only_hidden_still_counts_as_data(b2: Any) -> None:
    props = bucket(lockDays=0, lockMode="")
    PROVIDER.create(props)
    b2.put_object(Bucket="example-data", Key="precious", Body=b"1")
    b2.delete_object(Bucket="example-data", Key="precious")
    with pytest.raises(S3Error, match="holds data"):
        PROVIDER.delete("example-data", props)


def test_an_empty_bucket_is_deleted_and_twice_is_fine(b2: Any) -> None:
    PROVIDER.create(bucket())
    PROVIDER.delete("example-data", bucket())
    PROVIDER.delete("example-data", bucket())


def test_only_another_place_or_name_replaces_a_bucket() -> None:
    def replaces(**changes: Any) -> list[str] | None:
        return PROVIDER.diff("x", bucket(), bucket(**changes)).replaces

    assert replaces(name="other-name") == ["name"]
    assert replaces(endpoint="https://elsewhere.example.com") == ["endpoint"]
    in_place: list[dict[str, Any]] = [
        {"lockDays": 20},
        {"lifecycle": []},
        {"forceDestroy": True},
        {"adopt": True},
    ]
    for changes in in_place:
        diff = PROVIDER.diff("x", bucket(), bucket(**changes))
        assert diff.changes
        assert diff.replaces == []


def test_the_order_of_lifecycle_rules_is_no_difference() -> None:
    turned = bucket(lifecycle=list(reversed(bucket()["lifecycle"])))
    assert not PROVIDER.diff("x", bucket(), turned).changes


@pytest.mark.parametrize(
    ("changes", "property_name"),
    [
        ({"name": "UPPER"}, "name"),
        ({"name": "abc"}, "name"),
        ({"lifecycle": [{"prefix": ""}, {"prefix": "a/"}]}, "lifecycle"),
    ],
)
def test_what_b2_would_refuse_half_way_is_refused_before(
    changes: dict[str, Any], property_name: str
) -> None:
    failures = PROVIDER.check({}, bucket(**changes)).failures
    assert [failure.property for failure in failures] == [property_name]


def test_without_a_key_the_error_says_how_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERLORD_B2_KEY_ID", raising=False)
    monkeypatch.delenv("OVERLORD_B2_KEY", raising=False)
    with pytest.raises(S3Error, match=r"OVERLORD_B2_KEY_ID.*pulumi config set --secret"):
        PROVIDER.read("example-data", bucket())


def test_errors_never_hold_the_key(b2: Any) -> None:
    class RefusedError(Exception):
        response = {"Error": {"Code": "SignatureDoesNotMatch", "Message": "no"}}  # noqa: RUF012

    missing = S3Error("no B2 key: export it")
    assert s3.explain(missing, "bundle") is missing
    text = str(s3.explain(RefusedError(), "bucket example-data"))
    assert "check OVERLORD_B2_KEY" in text
    assert "bucket example-data" in text


@pytest.fixture
def bundles(b2: Any) -> Any:
    PROVIDER.create(bucket(name="example-bundles"))
    return b2


def stored(sha256: str) -> dict[str, Any]:
    return {
        "endpoint": ENDPOINT,
        "region": REGION,
        "bucket": "example-bundles",
        "sha256": sha256,
    }


def test_a_bundle_is_put_under_its_checksum_into_a_locked_bucket(
    bundles: Any, tmp_path: Path
) -> None:
    sha256 = keep_content(b"content", tmp_path)
    outs = BundleObjectProvider().create(stored(sha256)).outs
    body = bundles.get_object(Bucket="example-bundles", Key=object_key(sha256))["Body"].read()
    assert body == b"content"
    assert not BundleObjectProvider().diff("x", outs or {}, stored(sha256)).changes


def test_a_bundle_of_an_interrupted_run_is_not_put_twice(bundles: Any, tmp_path: Path) -> None:
    sha256 = keep_content(b"content", tmp_path)
    BundleObjectProvider().create(stored(sha256))
    BundleObjectProvider().create(stored(sha256))
    found = bundles.list_object_versions(Bucket="example-bundles", Prefix=object_key(sha256))
    assert len(found["Versions"]) == 1


def test_a_bundle_that_is_gone_is_seen(bundles: Any, tmp_path: Path) -> None:
    sha256 = keep_content(b"content", tmp_path)
    provider = BundleObjectProvider()
    outs = provider.create(stored(sha256)).outs or {}
    assert provider.read("x", outs).id == "x"
    provider.delete("x", outs)
    assert provider.read("x", outs).id is None


def test_a_bundle_whose_file_was_tampered_with_is_not_put(bundles: Any, tmp_path: Path) -> None:
    sha256 = keep_content(b"content", tmp_path)
    (tmp_path / f"{sha256}.tar.gz").write_bytes(b"other")
    with pytest.raises(S3Error, match="was changed"):
        BundleObjectProvider().create(stored(sha256))


def test_only_the_newest_packed_bundles_stay_on_disk(tmp_path: Path) -> None:
    for number in range(9):
        keep_content(str(number).encode(), tmp_path)
    assert len(list(tmp_path.glob("*.tar.gz"))) == 5


def ticket(generation: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "endpoint": ENDPOINT,
        "region": REGION,
        "bucket": "example-bundles",
        "node": "vps-01",
        "generation": generation,
        "bundleSha256": "a" * 64,
        "document": '{"secret": "x"}',
        **changes,
    }


def test_a_ticket_seals_the_document_and_its_link_opens_it(bundles: Any) -> None:
    outs = LaunchTicketProvider().create(ticket()).outs or {}
    sealed = requests.get(outs["secretsUrl"], timeout=5).content
    assert b"secret" not in sealed
    assert Fernet(outs["secretsKey"]).decrypt(sealed) == b'{"secret": "x"}'
    assert "document" not in outs
    assert "X-Amz-Expires=3600" in outs["bundleUrl"]


def test_a_new_ticket_hides_the_one_that_an_interrupted_run_left(bundles: Any) -> None:
    LaunchTicketProvider().create(ticket())
    second = LaunchTicketProvider().create(ticket())
    found = bundles.list_objects_v2(Bucket="example-bundles", Prefix="boot/vps-01/")["Contents"]
    assert [entry["Key"] for entry in found] == [second.id]


def test_only_another_generation_makes_another_ticket() -> None:
    provider = LaunchTicketProvider()
    same = provider.diff("x", ticket(), ticket(bundleSha256="b" * 64, document="{}"))
    assert not same.changes
    assert provider.diff("x", ticket(1), ticket(2)).replaces == ["generation"]


def test_a_used_ticket_is_hidden_when_it_goes(bundles: Any) -> None:
    created = LaunchTicketProvider().create(ticket())
    LaunchTicketProvider().delete(created.id, created.outs or {})
    assert "Contents" not in bundles.list_objects_v2(Bucket="example-bundles", Prefix="boot/")


def test_a_bucket_at_the_second_account_is_made_with_that_accounts_key(
    b2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(S3Error, match="OVERLORD_SECOND_B2_KEY_ID") as error:
        PROVIDER.create(bucket(account="second"))
    assert "overlord:secondB2KeyId" in str(error.value)
    monkeypatch.setenv("OVERLORD_SECOND_B2_KEY_ID", "second-id")
    monkeypatch.setenv("OVERLORD_SECOND_B2_KEY", "second")
    asked: list[str] = []
    real = s3._client

    def client(endpoint: str, region: str, key_id: str, key: str) -> Any:
        asked.append(key_id)
        return real(endpoint, region, "key-id", "key")

    monkeypatch.setattr(s3, "_client", client)
    outs = PROVIDER.create(bucket(account="second")).outs or {}
    assert asked == ["second-id"]
    assert outs["account"] == "second"
    assert not PROVIDER.diff("example-data", outs, bucket(account="second")).changes
    assert PROVIDER.read("example-data", outs).outs == outs


def test_a_refusal_at_the_second_account_names_its_key() -> None:
    refused = Exception()
    refused.response = {"Error": {"Code": "InvalidAccessKeyId"}}  # type: ignore[attr-defined]
    assert "check OVERLORD_SECOND_B2_KEY_ID" in str(s3.explain(refused, "x", "second"))
    assert "check OVERLORD_B2_KEY_ID" in str(s3.explain(refused, "x"))
