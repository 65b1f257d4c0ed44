"""Buckets with data outlive a destroy, and the next `pulumi up` takes them over: the real engine
and the program as it stands, against the emulated vendors, with servers that only exist there."""

from __future__ import annotations

import json
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
ALL_BUT_THE_KEYS = (*DESTROY, "--exclude-protected")
CIPHER = "secrets-backup-cipher-key"
KEY, CONTENT = "database/backup/overlord/backup.info", b"what must not be lost"


@dataclass(frozen=True)
class Operator:
    """Somebody with the project, a state, and the vendors' keys."""

    cloud: RunningCloud
    project: Path
    env: Mapping[str, str]

    stack: str = STACK

    def try_(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--stack", self.stack],
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
        file = self.project / f"Pulumi.{self.stack}.yaml"
        document = yaml.safe_load(file.read_text())
        document["config"]["overlord:backup"] |= backup
        file.write_text(yaml.safe_dump(document))

    def cipher(self) -> str:
        export = json.loads(self.run("stack", "export", "--show-secrets"))
        resources = export["deployment"]["resources"]
        found = [one for one in resources if one["urn"].endswith(f"::{CIPHER}")]
        return str(found[0]["outputs"]["value"])

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


def test_buckets_with_data_outlive_a_destroy_and_the_next_up_takes_them_over(
    tmp_path: Path,
) -> None:
    (tmp_path / "vendors").mkdir()
    with vendors(tmp_path / "vendors") as cloud:
        env = environment(cloud, tmp_path)
        pair_ = Operator(cloud, pair(cloud, tmp_path / "pair"), env)
        pair_.run("stack", "init")
        pair_.up()
        assert pair_.buckets() == BUCKETS
        owner = with_md5(cloud.s3())
        for bucket in BUCKETS:
            owner.put_object(Bucket=bucket, Key=KEY, Body=CONTENT, ContentMD5=md5(CONTENT))
        lock, cipher = pair_.lock(), pair_.cipher()

        pair_.run(*ALL_BUT_THE_KEYS)
        assert cloud.hetzner().servers.get_all() == []
        assert pair_.buckets() == BUCKETS
        assert pair_.content() == CONTENT

        pair_.up()
        assert pair_.content() == CONTENT
        assert pair_.lock() == lock == ("GOVERNANCE", 14)
        assert pair_.cipher() == cipher
        assert len(cloud.hetzner().servers.get_all()) == 2

        # Whoever forgets the switch is told so, and keeps what the backups are encrypted with.
        code, said = pair_.try_(*DESTROY)
        assert code != 0
        assert f'{CIPHER}" cannot be deleted' in said
        assert cloud.hetzner().servers.get_all() == []
        assert pair_.cipher() == cipher

        # The state is lost too: the same stack takes them over, another one does not.
        (tmp_path / "new-state").mkdir()
        later = {"PULUMI_BACKEND_URL": f"file://{tmp_path / 'new-state'}?metadata=skip"}
        own = pair_.project / f"Pulumi.{STACK}.yaml"
        own.with_name("Pulumi.other.yaml").write_text(own.read_text())
        other = Operator(cloud, pair_.project, {**env, **later}, "other")
        other.run("stack", "init")
        code, said = other.try_("up", "--yes", "--skip-preview")
        assert code != 0
        assert "belongs to the stack overlord/sandbox. To take it over, set overlord:back" in said
        other.run(*ALL_BUT_THE_KEYS)
        again = Operator(cloud, pair_.project, {**env, **later})
        again.run("stack", "init")
        again.up()
        assert again.content() == CONTENT

        data, *others = sorted(BUCKETS, key=lambda name: not name.endswith("-data"))
        again.set(forceDestroy=[data])
        again.up()
        # Without backups nothing is left that the key could open.
        again.run(*DESTROY)
        assert again.buckets() == sorted(others)
