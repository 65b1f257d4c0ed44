"""The state backend that the documentation shows, tried with the real Pulumi."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sandbox.world import REPOSITORY, World
from tests.support.ports import free_port
from tests.support.programs import native

BUCKET = "state-of-the-pair"
GUIDE = REPOSITORY / "docs/operations/production.md"


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An S3 with nothing in it but the bucket; host and port."""
    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    s3 = boto3.client(  # type: ignore[no-untyped-call]
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield f"127.0.0.1:{port}"
    server.stop()


def documented_backend(endpoint: str) -> str:
    """The address in the guide, with this bucket and this store in it."""
    shown = re.search(r"PULUMI_BACKEND_URL='s3://YOUR-STATE-BUCKET\?([^']+)'", GUIDE.read_text())
    assert shown, "the guide shows no state bucket"
    query = {name: values[0] for name, values in parse_qs(shown[1]).items()}
    assert {"endpoint", "region", "s3ForcePathStyle"} <= set(query)
    # The store of this test has no certificate.
    return f"s3://{BUCKET}?{urlencode({**query, 'endpoint': endpoint, 'disable_https': 'true'})}"


def test_a_stack_lives_in_the_bucket_that_the_guide_shows(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text(
        f"name: empty\nruntime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n"
    )
    (tmp_path / "__main__.py").write_text('import pulumi\n\npulumi.export("kept", "in S3")\n')
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "PATH": f"{World.here().bin}:{os.environ['PATH']}",
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": documented_backend(endpoint),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }

    def pulumi(*arguments: str) -> str:
        done = subprocess.run(
            [native("pulumi") or "pulumi", *arguments, "--non-interactive"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pulumi("stack", "init", "tried")
    pulumi("up", "--yes", "--skip-preview", "--stack", "tried")
    pulumi("preview", "--expect-no-changes", "--stack", "tried")
    assert pulumi("stack", "output", "kept", "--stack", "tried").strip() == "in S3"
    pulumi("stack", "rm", "--yes", "--stack", "tried")
