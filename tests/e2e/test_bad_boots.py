"""A first boot that meets bad luck: a clear step, a remedy, and the documented way on works.

Each test asks for a rebuild of VPS-02, spoils one thing the moment the new server is there, and
then goes on as `docs/operations/production.md` says.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import requests

from sandbox.world import TAILSCALE_URL
from tests.e2e.sandbox_world import STACK, Run, SandboxWorld, eventually, project_copy

NODE = "vps-02"


def rebuild(pair: SandboxWorld, folder: Path, spoil: Callable[[], None]) -> Run:
    """Ask for a rebuild and spoil something once the new server runs."""
    project = project_copy(folder, config={"overlord:rebuild": NODE})
    before = pair.servers()[NODE]["id"]
    pulumi = shutil.which("pulumi", path=pair.env["PATH"]) or "pulumi"
    log = folder / "up.log"
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [pulumi, "up", "--yes", "--skip-preview", "-s", STACK, "--non-interactive"],
            cwd=project,
            env={**os.environ, **pair.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        eventually(
            f"a new {NODE}",
            lambda: (
                pair.servers().get(NODE, {}).get("id", before) != before
                and pair.servers()[NODE]["status"] == "running"
            ),
            120,
            pause=0.05,
        )
        spoil()
        process.wait(timeout=900)
    return Run(process.returncode, log.read_text(), time.monotonic() - started)


def healthy(pair: SandboxWorld) -> bool:
    """Whether the node says that it is well."""
    return bool(pair.status_of(NODE)["healthy"])


def test_a_bundle_with_a_wrong_checksum_is_refused_and_the_right_one_is_taken_by_the_next_up(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    bucket = pair.output("buckets")["bundles"]
    key = f"bundles/{pair.output('bundleSha256')}.tar.gz"
    wrong = b"something else"
    spoilt: dict[str, str] = {}

    def replace_the_bundle() -> None:
        answer = pair.s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=wrong,
            ContentMD5=base64.b64encode(hashlib.md5(wrong).digest()).decode(),
        )
        spoilt["version"] = answer["VersionId"]

    run = rebuild(pair, tmp_path, replace_the_bundle)
    pair.s3.delete_object(
        Bucket=bucket, Key=key, VersionId=spoilt["version"], BypassGovernanceRetention=True
    )
    assert run.code != 0
    assert "step bundle failed" in run.text
    assert "checksum is" in run.text
    assert NODE in run.text
    pair.up().must()
    assert healthy(pair)


def test_a_full_disk_at_boot_is_named_and_the_boot_goes_on_once_there_is_room(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    def fill_the_disk() -> None:
        pair.on_node(NODE, "mkdir", "-p", "/opt/overlord")
        pair.on_node(NODE, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/opt/overlord")

    run = rebuild(pair, tmp_path, fill_the_disk)
    assert run.code != 0
    assert "no space left on the disk" in run.text
    pair.on_node(NODE, "umount", "/opt/overlord")
    pair.up().must()
    assert healthy(pair)


def test_an_expired_mesh_key_is_named_and_a_second_rebuild_brings_a_new_one(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    def revoke_the_keys() -> None:
        headers = {"Authorization": f"Bearer {pair.env['TAILSCALE_API_KEY']}"}
        keys = f"{TAILSCALE_URL}/api/v2/tailnet/sandbox/keys"
        for key in requests.get(keys, headers=headers, timeout=10).json()["keys"]:
            requests.delete(f"{keys}/{key['id']}", headers=headers, timeout=10).raise_for_status()

    first = tmp_path / "first"
    run = rebuild(pair, first, revoke_the_keys)
    assert run.code != 0
    assert "step tailnet failed" in run.text
    assert "overlord:rebuild" in run.text
    assert pair.up().code != 0
    asked = project_copy(tmp_path / "second", config={"overlord:rebuild": NODE})
    pair.up(asked).must()
    assert healthy(pair)
    pair.up().must()
    pair.pulumi("preview", "--expect-no-changes").must()
