"""`make destroy` leaves buckets with data, and the next `make up` brings the pair back with it."""

from __future__ import annotations

from sandbox.world import World
from tests.e2e.sandbox_world import SandboxWorld, command

DEVICES = "SELECT string_agg(id || enrolled_at, ' ' ORDER BY id) FROM devices"


def test_the_pair_comes_back_with_its_data_after_all_but_the_buckets_went(
    pair: SandboxWorld,
) -> None:
    pair.on_node("vps-01", "overlordctl", "backup", "now", timeout=600)
    before = pair.query("vps-01", DEVICES).strip()
    assert before
    gone = command(["make", "--no-print-directory", "destroy"], timeout=300).must()
    assert "buckets with data: overlord-sandbox-bundles, overlord-sandbox-data" in gone.text
    world = World.here()
    assert not world.state.exists()

    back = command(["make", "--no-print-directory", "up"], timeout=900).must()
    print(f"\nmake destroy: {gone.seconds:.1f} s, make up: {back.seconds:.1f} s", flush=True)
    assert "Buckets of the last sandbox are back" in back.text
    assert pair.query("vps-01", DEVICES).strip() == before
    pair.pulumi("preview", "--expect-no-changes").must()
