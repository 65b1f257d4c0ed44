"""The key by which the program reaches the nodes is replaced while they run."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.sandbox_world import SandboxWorld, command, project_copy

NODES = ("vps-01", "vps-02")
OPENED, REFUSED = 0, 255


def try_key(pair: SandboxWorld, node: str, key: Path) -> int:
    """Exit code of a harmless command over SSH with a deploy key."""
    address = pair.output("nodes")[node]["ipv4"]
    options = ("IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=no")
    argv = ["ssh", "-i", str(key), "-o", "UserKnownHostsFile=/dev/null"]
    for option in options:
        argv += ["-o", option]
    status = ("sudo", "/usr/local/bin/overlordctl", "status", "--json")
    return command([*argv, f"overlord-deploy@{address}", *status], timeout=60).code


def key_file(pair: SandboxWorld, file: Path) -> Path:
    """The key in use, as a file that ssh takes."""
    file.touch(mode=0o600)
    file.write_text(str(pair.output("deployPrivateKey")).rstrip("\n") + "\n")
    return file


def test_a_raised_deploy_key_opens_both_nodes_and_the_old_one_opens_none(
    pair: SandboxWorld, tmp_path: Path
) -> None:
    old = key_file(pair, tmp_path / "old")
    servers = {name: server["id"] for name, server in pair.servers().items()}
    assert {try_key(pair, node, old) for node in NODES} == {OPENED}

    raised = project_copy(
        tmp_path / "raised", config={"overlord:secretVersions": {"deploy_key": 2}}
    )
    pair.up(raised).must()

    new = key_file(pair, tmp_path / "new")
    assert {try_key(pair, node, new) for node in NODES} == {OPENED}
    assert {try_key(pair, node, old) for node in NODES} == {REFUSED}
    assert {name: server["id"] for name, server in pair.servers().items()} == servers
    pair.pulumi("preview", "--expect-no-changes", project=raised).must()


def test_a_deploy_key_that_the_nodes_do_not_know_is_refused_before_anything_changes(
    pair: SandboxWorld,
) -> None:
    # The repository's own configuration asks for the key of before.
    run = pair.up()
    assert run.code != 0
    assert "the nodes know the keys 2 and 3" in run.text
