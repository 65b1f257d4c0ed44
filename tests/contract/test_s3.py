"""The emulated B2, through boto3: what works there works here, what it refuses is refused."""

from __future__ import annotations

import base64
import gc
import hashlib
import io
import logging
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from botocore.exceptions import ClientError
from moto.s3.models import s3_backends

from sandbox.cloud.cloud import Setup
from sandbox.cloud.s3.request import S3Request
from tests.contract.conftest import RunningCloud
from tests.contract.fakes import FakeDriver, FakeTailnet

LIFECYCLE = {
    "Rules": [
        {
            "ID": "backups",
            "Status": "Enabled",
            "Filter": {"Prefix": "pgbackrest/"},
            "Expiration": {"Days": 30},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        }
    ]
}


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def with_md5(client: Any) -> Any:
    """Have boto3 announce MD5 where it would announce a CRC32, which B2 does not know."""

    def announce(request: Any, **_: Any) -> None:
        for name in list(request.headers):
            if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-", "content-md5")):
                del request.headers[name]
        body = request.data.encode() if isinstance(request.data, str) else request.data
        request.headers["Content-MD5"] = md5(body)

    for operation in (
        "PutBucketLifecycleConfiguration",
        "PutBucketVersioning",
        "PutBucketEncryption",
        "PutObjectLockConfiguration",
        "PutObjectRetention",
        "PutBucketAcl",
        "DeleteObjects",
    ):
        client.meta.events.register(f"before-sign.s3.{operation}", announce)
    return client


def refused(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as error:
        call(*args, **kwargs)
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def retain(client: Any, bucket: str, mode: str, days: int) -> None:
    """Lock what will be put into a bucket."""
    rule = {"DefaultRetention": {"Mode": mode, "Days": days}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )


@pytest.fixture
def client(cloud: RunningCloud) -> Any:
    return with_md5(cloud.s3())


@pytest.fixture
def bucket(client: Any) -> str:
    client.create_bucket(Bucket="overlord-plain")
    return "overlord-plain"


@pytest.fixture
def locked(client: Any) -> str:
    name = "overlord-locked"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    retain(client, name, "GOVERNANCE", 7)
    return name


@pytest.mark.parametrize("key", ["plain", "a b/ü+%.txt", "a%2Fb", "tree//twice", "x" * 900])
def test_objects_are_stored_under_any_key(client: Any, bucket: str, key: str) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=b"hello", Metadata={"made": "today"})
    answer = client.get_object(Bucket=bucket, Key=key)
    assert answer["Body"].read() == b"hello"
    assert answer["Metadata"] == {"made": "today"}
    assert [o["Key"] for o in client.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_lists_come_in_pages(client: Any, bucket: str) -> None:
    for number in range(5):
        client.put_object(Bucket=bucket, Key=f"key-{number}", Body=b"")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    )
    assert [len(page["Contents"]) for page in pages] == [2, 2, 1]


def test_large_objects_come_in_parts(client: Any, bucket: str) -> None:
    data = bytes(range(256)) * 4096 * 9  # 9 MiB: two parts of boto3's default size
    client.upload_fileobj(io.BytesIO(data), bucket, "large")
    got = io.BytesIO()
    client.download_fileobj(bucket, "large", got)
    assert got.getvalue() == data
    part = client.get_object(Bucket=bucket, Key="large", Range="bytes=256-511")
    assert part["Body"].read() == data[256:512]


def test_a_bucket_takes_the_settings_of_a_backup_store(client: Any, locked: str) -> None:
    client.put_bucket_lifecycle_configuration(Bucket=locked, LifecycleConfiguration=LIFECYCLE)
    rules = client.get_bucket_lifecycle_configuration(Bucket=locked)["Rules"]
    assert rules[0]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    client.put_bucket_encryption(Bucket=locked, ServerSideEncryptionConfiguration=encryption)
    kept = client.get_bucket_encryption(Bucket=locked)["ServerSideEncryptionConfiguration"]
    assert kept["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert client.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    lock = client.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"]["Days"] == 7
    assert client.get_bucket_acl(Bucket=locked)["Grants"][0]["Permission"] == "FULL_CONTROL"


def test_a_bucket_without_settings_says_so(client: Any, bucket: str) -> None:
    assert refused(client.get_bucket_encryption, Bucket=bucket)[0] == 404
    missing = refused(client.get_bucket_lifecycle_configuration, Bucket=bucket)
    assert missing == (404, "NoSuchLifecycleConfiguration")
    assert refused(client.get_object_lock_configuration, Bucket=bucket)[0] == 404


def test_lifecycle_rules_need_versioning(client: Any, bucket: str) -> None:
    put = client.put_bucket_lifecycle_configuration
    assert refused(put, Bucket=bucket, LifecycleConfiguration=LIFECYCLE) == (400, "InvalidRequest")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put(Bucket=bucket, LifecycleConfiguration=LIFECYCLE)


def test_a_write_to_a_locked_bucket_needs_its_md5(client: Any, locked: str) -> None:
    put = client.put_object
    assert refused(put, Bucket=locked, Key="a", Body=b"x") == (400, "InvalidRequest")
    wrong = refused(put, Bucket=locked, Key="a", Body=b"x", ContentMD5=md5(b"y"))
    assert wrong == (400, "BadDigest")
    assert refused(put, Bucket=locked, Key="a", Body=b"x", ContentMD5="x")[1] == "InvalidDigest"
    put(Bucket=locked, Key="a", Body=b"x", ContentMD5=md5(b"x"))


def test_a_locked_version_stays_and_hiding_it_is_allowed(client: Any, locked: str) -> None:
    version = client.put_object(Bucket=locked, Key="a", Body=b"x", ContentMD5=md5(b"x"))
    delete = {"Bucket": locked, "Key": "a", "VersionId": version["VersionId"]}
    assert refused(client.delete_object, **delete) == (403, "AccessDenied")
    assert client.delete_object(Bucket=locked, Key="a")["DeleteMarker"] is True
    kept = client.get_object(**delete)
    assert kept["Body"].read() == b"x"
    client.delete_object(**delete, BypassGovernanceRetention=True)


def test_a_prefix_of_which_everything_is_hidden_is_not_listed(client: Any, locked: str) -> None:
    """As at B2, where a prefix is part of a visible file's name; elsewhere it goes on being listed,
    and pgBackRest takes an interrupted backup that it removed for one that is there (pgBackRest
    issue 2792)."""
    for key in ("backups/one/a", "backups/one/b", "backups/two/a", "backups/plain"):
        client.put_object(Bucket=locked, Key=key, Body=b"data", ContentMD5=md5(b"data"))
    hidden = [{"Key": "backups/one/a"}, {"Key": "backups/one/b"}]

    def listed(prefix: str) -> tuple[list[str], list[str]]:
        answer = client.list_objects_v2(Bucket=locked, Prefix=prefix, Delimiter="/")
        folders = [one["Prefix"] for one in answer.get("CommonPrefixes", ())]
        return folders, [one["Key"] for one in answer.get("Contents", ())]

    assert listed("backups/") == (["backups/one/", "backups/two/"], ["backups/plain"])
    assert listed("") == (["backups/"], [])
    client.delete_objects(Bucket=locked, Delete={"Objects": hidden})
    assert listed("backups/") == (["backups/two/"], ["backups/plain"])
    every = client.list_objects_v2(Bucket=locked)["Contents"]
    assert [one["Key"] for one in every] == ["backups/plain", "backups/two/a"]


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_checksum_headers_are_refused(cloud: RunningCloud, bucket: str, checksums: str) -> None:
    client = cloud.s3(request_checksum_calculation=checksums)
    calls: list[Callable[[], Any]] = [
        lambda: client.put_object(Bucket=bucket, Key="a", Body=b"x", ChecksumAlgorithm="SHA256"),
        lambda: client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}]}),
    ]
    if checksums == "when_supported":
        calls.append(lambda: client.put_object(Bucket=bucket, Key="a", Body=b"x"))
    for call in calls:
        assert refused(call) == (400, "InvalidArgument")


def test_conditional_writes_are_refused(client: Any, bucket: str) -> None:
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"abc"'}):
        answer = refused(client.put_object, Bucket=bucket, Key="a", Body=b"x", **condition)
        assert answer == (501, "NotImplemented")


def test_conditional_reads_are_allowed(client: Any, bucket: str) -> None:
    etag = client.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
    assert refused(client.get_object, Bucket=bucket, Key="a", IfNoneMatch=etag)[0] == 304


def test_calls_that_b2_lacks_are_refused(client: Any, bucket: str) -> None:
    block = {"BlockPublicAcls": True}
    calls: list[Callable[[], Any]] = [
        lambda: client.get_public_access_block(Bucket=bucket),
        lambda: client.get_bucket_tagging(Bucket=bucket),
        lambda: client.get_bucket_policy(Bucket=bucket),
        lambda: client.get_bucket_website(Bucket=bucket),
        lambda: client.get_object_tagging(Bucket=bucket, Key="a"),
        lambda: client.get_bucket_ownership_controls(Bucket=bucket),
    ]
    for call in calls:
        assert refused(call) == (501, "NotImplemented")
    assert refused(
        client.put_public_access_block, Bucket=bucket, PublicAccessBlockConfiguration=block
    )[0] in (400, 501)
    kms = {"ServerSideEncryption": "aws:kms"}
    assert refused(client.put_object, Bucket=bucket, Key="a", Body=b"x", **kms)[0] == 400
    cold = {"StorageClass": "GLACIER"}
    assert refused(client.put_object, Bucket=bucket, Key="a", Body=b"x", **cold)[0] == 400


def test_a_bucket_with_anything_in_it_is_not_deleted(client: Any, locked: str) -> None:
    version = client.put_object(Bucket=locked, Key="a", Body=b"x", ContentMD5=md5(b"x"))
    assert refused(client.delete_bucket, Bucket=locked) == (409, "BucketNotEmpty")
    marker = client.delete_object(Bucket=locked, Key="a")
    client.delete_object(
        Bucket=locked, Key="a", VersionId=version["VersionId"], BypassGovernanceRetention=True
    )
    assert refused(client.delete_bucket, Bucket=locked) == (409, "BucketNotEmpty")
    client.delete_object(Bucket=locked, Key="a", VersionId=marker["VersionId"])
    client.delete_bucket(Bucket=locked)
    assert refused(client.head_bucket, Bucket=locked)[0] == 404


def test_bucket_names_are_checked_and_taken_once(client: Any, bucket: str) -> None:
    assert refused(client.create_bucket, Bucket=bucket) == (409, "BucketAlreadyOwnedByYou")
    for name in ("short", "b2-reserved", "under_score"):
        assert refused(client.create_bucket, Bucket=name) == (400, "InvalidBucketName")


def test_a_bucket_in_the_region_of_the_endpoint_may_name_it_or_not(client: Any) -> None:
    client.create_bucket(Bucket="overlord-one")
    where = {"LocationConstraint": "eu-central-003"}
    client.create_bucket(Bucket="overlord-two", CreateBucketConfiguration=where)
    for name in ("overlord-one", "overlord-two"):
        place = client.get_bucket_location(Bucket=name)["LocationConstraint"]
        assert place == "eu-central-003"


def test_signatures_are_checked(cloud: RunningCloud, bucket: str) -> None:
    wrong = cloud.s3(key="wrong")
    assert refused(wrong.list_buckets) == (403, "SignatureDoesNotMatch")
    unknown = cloud.s3(key_id="unknown")
    assert refused(unknown.list_buckets) == (403, "InvalidAccessKeyId")
    unsigned = httpx.get(cloud.url("s3", f"/{bucket}/a"), verify=cloud.trust)
    assert (unsigned.status_code, "AccessDenied" in unsigned.text) == (403, True)


def test_presigned_urls_work_until_they_expire_and_for_their_object_only(
    cloud: RunningCloud, client: Any, bucket: str
) -> None:
    client.put_object(Bucket=bucket, Key="a b", Body=b"bundle")
    params = {"Bucket": bucket, "Key": "a b"}
    url = client.generate_presigned_url("get_object", Params=params, ExpiresIn=60)
    assert httpx.get(url, verify=cloud.trust).content == b"bundle"
    assert httpx.get(url.replace("a%20b", "other"), verify=cloud.trust).status_code == 403
    assert httpx.put(url, content=b"x", verify=cloud.trust).status_code == 403

    short = client.generate_presigned_url("get_object", Params=params, ExpiresIn=1)
    deadline = time.monotonic() + 10
    while httpx.get(short, verify=cloud.trust).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    expired = httpx.get(short, verify=cloud.trust)
    assert (expired.status_code, "Request has expired" in expired.text) == (403, True)


def test_a_public_bucket_is_public_by_its_acl(cloud: RunningCloud, client: Any) -> None:
    client.create_bucket(Bucket="overlord-public", ACL="public-read")
    client.put_object(Bucket="overlord-public", Key="a", Body=b"x")
    assert httpx.get(cloud.url("s3", "/overlord-public/a"), verify=cloud.trust).content == b"x"
    assert refused(client.create_bucket, Bucket="overlord-open", ACL="public-read-write")[0] == 400


def test_the_nodes_key_reads_and_writes_and_can_destroy_nothing(
    cloud: RunningCloud, client: Any, locked: str
) -> None:
    node = with_md5(cloud.node_s3())
    made = node.put_object(Bucket=locked, Key="wal/1", Body=b"x", ContentMD5=md5(b"x"))
    assert node.get_object(Bucket=locked, Key="wal/1")["Body"].read() == b"x"
    assert node.list_objects_v2(Bucket=locked)["KeyCount"] == 1
    upload = node.create_multipart_upload(Bucket=locked, Key="big")["UploadId"]
    node.abort_multipart_upload(Bucket=locked, Key="big", UploadId=upload)
    node.delete_object(Bucket=locked, Key="wal/1")

    version = {"Bucket": locked, "Key": "wal/1", "VersionId": made["VersionId"]}
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": "2026-01-01"}
    one = {"Objects": [{"Key": "wal/1", "VersionId": made["VersionId"]}]}
    calls: list[Callable[[], Any]] = [
        lambda: node.delete_object(**version),
        lambda: node.delete_object(**version, BypassGovernanceRetention=True),
        lambda: node.delete_objects(Bucket=locked, Delete=one),
        lambda: node.put_object_retention(**version, Retention=retention),
        lambda: node.put_bucket_lifecycle_configuration(
            Bucket=locked, LifecycleConfiguration=LIFECYCLE
        ),
        lambda: node.delete_bucket_lifecycle(Bucket=locked),
        lambda: node.put_bucket_acl(Bucket=locked, ACL="public-read"),
        lambda: node.create_bucket(Bucket="overlord-mine"),
        lambda: node.delete_bucket(Bucket=locked),
    ]
    for number, call in enumerate(calls):
        status, code = refused(call)
        assert (status, code) == (403, "AccessDenied"), number
    assert client.get_object(**version)["Body"].read() == b"x"


def test_a_fault_of_the_store_reaches_boto3(cloud: RunningCloud, client: Any) -> None:
    body = "<Error><Code>ServiceUnavailable</Code><Message>no tomes available</Message></Error>"
    fault = {"vendor": "s3", "method": "PUT", "status": 503, "body": body}
    httpx.post(cloud.url("control", "/faults"), json=fault).raise_for_status()
    assert refused(client.create_bucket, Bucket="overlord-new") == (503, "ServiceUnavailable")
    client.create_bucket(Bucket="overlord-new")


def test_a_service_that_stops_ends_the_requests_under_way_in_order(
    setup: Setup, driver: FakeDriver, tailnet: FakeTailnet, caplog: pytest.LogCaptureFixture
) -> None:
    """Both sides may go at once: a container is killed, and its bucket stops."""
    cloud = RunningCloud(setup, driver, tailnet)
    client = cloud.s3()
    client.create_bucket(Bucket="half-way")
    client.put_object(Bucket="half-way", Key="large", Body=b"x" * 20_000_000)
    params = {"Bucket": "half-way", "Key": "large"}
    with ExitStack() as connections:
        for verb, size, begun in (("put", 30_000_000, "x"), ("get", 0, "")):
            url = urlsplit(client.generate_presigned_url(f"{verb}_object", Params=params))
            plain = socket.create_connection((url.hostname, url.port), timeout=10)
            connection = connections.enter_context(
                cloud.trust.wrap_socket(plain, server_hostname=url.hostname)
            )
            line = f"{verb.upper()} {url.path}?{url.query} HTTP/1.1"
            headers = (f"Host: {url.netloc}", f"Content-Length: {size}")
            connection.sendall("\r\n".join((line, *headers, "", begun)).encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        cloud.stop()
    s3_backends.reset()
    # Of a task that never ended asyncio complains when it is forgotten.
    del cloud
    gc.collect()
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_a_request_is_taken_apart_by_its_raw_path() -> None:
    scope = {
        "type": "http",
        "method": "PUT",
        "raw_path": b"/bucket/a%2Fb/c?x",
        "query_string": b"partNumber=1&uploadId=u",
        "headers": [],
    }
    request = S3Request.of(scope)
    assert (request.bucket, request.key, request.writes_object) == ("bucket", "a/b/c", True)


def test_buckets_that_were_saved_are_in_the_next_cloud_with_versions_and_locks(
    setup: Setup, driver: FakeDriver, tailnet: FakeTailnet, tmp_path: Path
) -> None:
    keeping = replace(setup, saved_buckets=tmp_path / "kept" / "buckets")
    first = RunningCloud(keeping, driver, tailnet)
    client = with_md5(first.s3())
    for name in ("kept-data", "empty-one", "named-one"):
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    retain(client, "kept-data", "COMPLIANCE", 3)
    client.put_bucket_lifecycle_configuration(Bucket="kept-data", LifecycleConfiguration=LIFECYCLE)
    for body in (b"first", b"second" * 1_000_000):
        client.put_object(Bucket="kept-data", Key="a/b c", Body=body, ContentMD5=md5(body))
    client.put_object(Bucket="kept-data", Key="hidden", Body=b"x", ContentMD5=md5(b"x"))
    client.delete_object(Bucket="kept-data", Key="hidden")
    client.put_object(Bucket="named-one", Key="x", Body=b"x", ContentMD5=md5(b"x"))

    def versions(of: Any) -> list[tuple[str, str, int | None]]:
        page = of.list_object_versions(Bucket="kept-data")
        return [
            (one["Key"], one["VersionId"], one.get("Size"))
            for one in (*page["Versions"], *page["DeleteMarkers"])
        ]

    before = versions(client)
    assert len(before) == 4
    url = first.url("control", "/buckets/save")
    answer = httpx.post(url, json={"leave_out": ["named-one"]}).raise_for_status()
    assert [one["name"] for one in answer.json()["saved"]] == ["kept-data"]
    first.stop()
    s3_backends.reset()

    second = RunningCloud(keeping, driver, tailnet)
    client = with_md5(second.s3())
    assert [one["Name"] for one in client.list_buckets()["Buckets"]] == ["kept-data"]
    assert versions(client) == before
    assert client.get_object(Bucket="kept-data", Key="a/b c")["Body"].read()[:6] == b"second"
    lock = client.get_object_lock_configuration(Bucket="kept-data")["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"]["Mode"] == "COMPLIANCE"
    with pytest.raises(ClientError, match="Access"):
        client.delete_object(Bucket="kept-data", Key="a/b c", VersionId=before[0][1])
    rules = client.get_bucket_lifecycle_configuration(Bucket="kept-data")["Rules"]
    assert rules[0]["Expiration"]["Days"] == 30

    url = second.url("control", "/buckets/save")
    httpx.post(url, json={"leave_out": ["kept-data"]}).raise_for_status()
    assert list((tmp_path / "kept" / "buckets").iterdir()) == []
    second.stop()
    s3_backends.reset()


def test_the_lock_of_a_bucket_with_data_can_be_changed(cloud: RunningCloud) -> None:
    client = with_md5(cloud.s3())
    client.create_bucket(Bucket="locked-one", ObjectLockEnabledForBucket=True)
    client.put_bucket_versioning(Bucket="locked-one", VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket="locked-one", Key="x", Body=b"x", ContentMD5=md5(b"x"))
    retain(client, "locked-one", "GOVERNANCE", 9)
    lock = client.get_object_lock_configuration(Bucket="locked-one")["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"]["Days"] == 9
