"""Buckets with data outlive `pulumi destroy` and `make destroy`, and the next `make up` brings the
pair back with what is in them."""

from __future__ import annotations

from pathlib import Path

from sandbox.world import World
from tests.e2e.sandbox_world import SandboxWorld, command, project_copy
from tests.e2e.test_pair import enrol

DEVICES = "SELECT string_agg(id || enrolled_at, ' ' ORDER BY id) FROM devices"
KEPT = "buckets with data: overlord-sandbox-bundles, overlord-sandbox-data"


def test_the_pair_comes_back_with_its_data_after_all_but_the_buckets_went(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    enrol(pair, "pi-before")
    pair.on_node("vps-01", "overlordctl", "backup", "now", timeout=600)
    before = pair.query("vps-01", DEVICES).strip()
    assert "pi-before" in before

    # As it is said in docs/operations/production.md.
    unprotected = project_copy(tmp_path / "unprotected", config={"overlord:protect": False})
    pair.up(unprotected).must()
    pair.pulumi(
        "destroy", "--yes", "--skip-preview", "--run-program", "--exclude-protected",
        project=unprotected,
    ).must()  # fmt: skip
    assert pair.hetzner.servers.get_all() == []
    gone = command(["make", "--no-print-directory", "destroy"], timeout=300).must()
    assert KEPT in " ".join(gone.text.split())
    assert not World.here().state.exists()

    back = command(["make", "--no-print-directory", "up"], timeout=900)
    print(f"\nmake destroy: {gone.seconds:.1f} s, make up: {back.seconds:.1f} s", flush=True)
    back.must()
    assert "Buckets of the last sandbox are back" in back.text
    assert pair.query("vps-01", DEVICES).strip() == before
    pair.pulumi("preview", "--expect-no-changes").must()
