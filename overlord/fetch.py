"""Downloads."""

from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from overlord.errors import OverlordError
from overlord.node import BundleStore
from overlord.s3 import s3_client


def download(url: str) -> bytes:
    """A public file. Raises OverlordError."""
    session = requests.Session()
    retry = Retry(total=6, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    host = urlsplit(url).hostname
    try:
        answer = session.get(url, timeout=(10, 60))
    except requests.RequestException as error:
        raise OverlordError(
            f"{host} did not answer: {type(error).__name__}", "check the node's network and DNS"
        ) from error
    if answer.status_code != 200:
        raise OverlordError(
            f"{url} answered HTTP {answer.status_code}", "has the vendor moved the file?"
        )
    return answer.content


def fetch_bundle(store: BundleStore, key_id: str, key: str, sha256: str) -> bytes:
    """A bundle from its bucket, unchecked. Raises OverlordError."""
    # Slow to import, and only needed here.
    from botocore.exceptions import BotoCoreError, ClientError

    name = f"bundles/{sha256}.tar.gz"
    client = s3_client(store, key_id, key)
    where = f"{name} in bucket {store.bucket} at {store.endpoint}"
    try:
        body: bytes = client.get_object(Bucket=store.bucket, Key=name)["Body"].read()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "?")
        remedies = {
            "404": "run `pulumi up`, which uploads it before it applies it",
            "NoSuchKey": "run `pulumi up`, which uploads it before it applies it",
            "AccessDenied": "the node's B2 key may not read the bucket: check its rights",
            "InvalidAccessKeyId": "the node's B2 key was removed: run `pulumi up` with a new one",
        }
        remedy = remedies.get(code, "run `pulumi up` again")
        raise OverlordError(f"{where}: {code}", remedy) from error
    except BotoCoreError as error:
        raise OverlordError(
            f"{where}: {type(error).__name__}", "is the endpoint reachable from the node?"
        ) from error
    return body
