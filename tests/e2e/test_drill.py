"""Both servers burn down while devices post; `pulumi up` brings the pair back with its data."""

from __future__ import annotations

import json
from pathlib import Path

from drill.disaster import rehearse
from tests.e2e.sandbox_world import SandboxWorld

RECOVERY_SECONDS = 300
LOST_SECONDS = 90


def test_both_servers_burn_down_and_a_plain_up_brings_the_pair_back_with_its_data(
    pair: SandboxWorld, artefacts: Path
) -> None:
    outcome = rehearse(pair, megabytes=16, devices=3, say=lambda line: print(line, flush=True))
    (artefacts / "drill.json").write_text(json.dumps(outcome.as_json(), indent=1) + "\n")
    print(
        f"\nrecovery time {outcome.recovery_seconds:.0f} s, "
        f"recovery point {outcome.lost_seconds:.0f} s",
        flush=True,
    )
    assert outcome.recovery_seconds < RECOVERY_SECONDS
    assert outcome.lost_seconds < LOST_SECONDS


def test_the_standby_proves_that_the_newest_backup_restores(pair: SandboxWorld) -> None:
    pair.on_node("vps-01", "overlordctl", "backup", "now", timeout=600)
    proof = pair.on_node("vps-02", "overlordctl", "backup", "verify", timeout=600)
    assert "is good" in proof.text
    metrics = pair.on_node("vps-02", "curl", "-s", "http://127.0.0.1:9600/metrics").text
    assert 'overlord_restore_test_ok{repository="1"} 1.0' in metrics


def test_the_standby_keeps_a_copy_that_a_database_comes_out_of_without_the_bucket(
    pair: SandboxWorld,
) -> None:
    copied = pair.on_node("vps-02", "overlordctl", "backup", "copy", timeout=600)
    assert "copy on this node: " in copied.text
    pair.fault(vendor="s3", status=503, count=None)
    try:
        restored = pair.on_node(
            "vps-02", "overlordctl", "restore", "--from-copy", "--to", "/var/lib/overlord/found",
            timeout=600,
        )  # fmt: skip
    finally:
        pair.fair_weather()
    print(f"\n{restored.text}", flush=True)
    found = pair.on_node("vps-02", "ls", "/var/lib/overlord/found/pgdata").text
    assert "PG_VERSION" in found
    pair.on_node("vps-02", "rm", "-r", "/var/lib/overlord/found")
