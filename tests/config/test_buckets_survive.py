"""Buckets with data outlive a destroy, and the next `pulumi up` takes them over: the real engine
and the program as it stands, against the emulated vendors, without servers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.preview import environment, pair, vendors
from tests.contract.conftest import RunningCloud
from tests.contract.test_s3 import md5, with_md5
from tests.e2e.sandbox_world import STACK

pytestmark = pytest.mark.timeout(600)
PREFIX = "overlord-sandbox"
BUCKETS = [f"{PREFIX}-{purpose}" for purpose in ("bundles", "data", "logs")]
DESTROY = ("destroy", "--yes", "--skip-preview", "--run-program")
KEY, CONTENT = "database/backup/overlord/backup.info", b"what must not be lost"


@dataclass(frozen=True)
class Operator:
    """Somebody with the project, a state, and the vendors' keys."""

    cloud: RunningCloud
    project: Path
    env: Mapping[str, str]

    def try_(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--stack", STACK],
            cwd=self.project,
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=200,
        )
        return done.returncode, done.stdout

    def run(self, *arguments: str) -> str:
        code, said = self.try_(*arguments)
        assert code == 0, f"{arguments}\n{said[-4000:]}"
        return said

    def up(self) -> None:
        self.run("up", "--yes", "--skip-preview")

    def set(self, **backup: Any) -> None:
        file = self.project / f"Pulumi.{STACK}.yaml"
        document = yaml.safe_load(file.read_text())
        document["config"]["overlord:backup"] |= backup
        file.write_text(yaml.safe_dump(document))

    def buckets(self) -> list[str]:
        # Those of earlier tests are there too: moto keeps them in the process.
        names = [one["Name"] for one in self.cloud.s3().list_buckets()["Buckets"]]
        return sorted(name for name in names if name.startswith(PREFIX))

    def content(self) -> bytes:
        answer = self.cloud.s3().get_object(Bucket=f"{PREFIX}-data", Key=KEY)
        return bytes(answer["Body"].read())

    def lock(self) -> tuple[str, int]:
        answer = self.cloud.s3().get_object_lock_configuration(Bucket=f"{PREFIX}-data")
        retention = answer["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
        return retention["Mode"], retention["Days"]


def test_buckets_with_data_outlive_a_destroy_and_are_taken_over_with_their_lock(
    tmp_path: Path,
) -> None:
    (tmp_path / "vendors").mkdir()
    with vendors(tmp_path / "vendors") as cloud:
        env = environment(cloud, tmp_path)
        first = Operator(cloud, pair(cloud, tmp_path / "pair"), env)
        first.run("stack", "init")
        first.up()
        assert first.buckets() == BUCKETS
        owner = with_md5(cloud.s3())
        for bucket in BUCKETS:
            owner.put_object(Bucket=bucket, Key=KEY, Body=CONTENT, ContentMD5=md5(CONTENT))
        lock = first.lock()

        first.run(*DESTROY)
        assert cloud.hetzner().servers.get_all() == []
        assert first.buckets() == BUCKETS
        assert first.content() == CONTENT

        # The state is lost too.
        (tmp_path / "new-state").mkdir()
        later = {"PULUMI_BACKEND_URL": f"file://{tmp_path / 'new-state'}?metadata=skip"}
        second = Operator(cloud, first.project, {**env, **later})
        second.run("stack", "init")
        code, said = second.try_("up", "--yes", "--skip-preview")
        assert code != 0
        assert "holds data. To take it over, set overlord:backup.adopt to true" in said
        second.set(adopt=True)
        second.up()
        assert second.content() == CONTENT
        assert second.lock() == lock == ("GOVERNANCE", 14)

        data, *others = sorted(BUCKETS, key=lambda name: not name.endswith("-data"))
        second.set(forceDestroy=[data])
        second.up()
        second.run(*DESTROY)
        assert second.buckets() == sorted(others)
