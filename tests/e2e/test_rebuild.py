"""A node is rebuilt when its rebuild is asked for by name, or when it is gone."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.sandbox_world import SandboxWorld, project_copy


def identities(pair: SandboxWorld) -> dict[str, tuple[int, str, str]]:
    """Id and addresses by server name."""
    return {
        name: (server["id"], server["public_net"]["ipv4"]["ip"], server["public_net"]["ipv6"]["ip"])
        for name, server in pair.servers().items()
    }


def test_a_rebuild_of_vps_02_replaces_that_one_server_and_keeps_its_addresses(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    before = identities(pair)
    asked = project_copy(tmp_path, config={"overlord:rebuild": "vps-02"})
    run = pair.up(asked).must()
    print(f"\nrebuild of one node: {run.seconds:.1f} s", flush=True)
    after = identities(pair)
    assert after["vps-01"] == before["vps-01"]
    assert after["vps-02"][0] != before["vps-02"][0]
    assert after["vps-02"][1:] == before["vps-02"][1:]
    status = pair.status_of("vps-02")
    assert status["healthy"] is True
    # Leaving the setting there rebuilds nothing more; removing it neither, and protects again.
    assert not any("server" in name for name in pair.planned(asked))
    pair.up().must()
    assert identities(pair) == after
    assert all(server["protection"]["delete"] for server in pair.servers().values())


def test_a_plain_up_makes_a_burnt_down_server_again(pair: SandboxWorld) -> None:
    before = identities(pair)
    server = pair.hetzner.servers.get_by_name("vps-02")
    assert server is not None
    server.change_protection(delete=False, rebuild=False).wait_until_finished()
    server.delete().wait_until_finished()
    run = pair.up().must()
    print(f"\na plain up after a server burned down: {run.seconds:.1f} s", flush=True)
    after = identities(pair)
    assert after["vps-01"] == before["vps-01"]
    assert after["vps-02"][1:] == before["vps-02"][1:]
    status = pair.status_of("vps-02")
    assert status["healthy"] is True
    pair.pulumi("preview", "--expect-no-changes").must()
