"""Bringing the world up, and taking it away without a trace."""

from __future__ import annotations

import fcntl
import os
import shutil
import ssl
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from sandbox.cloud.certificates import ensure_ca
from sandbox.commands import SandboxError
from sandbox.images.build import SERVER
from sandbox.kept import bring_back, put_away, save_buckets
from sandbox.killed_pulumi import end_orphaned_plugins, release_stale_locks
from sandbox.machines import network, registry
from sandbox.machines.daemon import PROCESS as DOCKERD
from sandbox.machines.daemon import Daemon
from sandbox.machines.headscale import Headscale
from sandbox.machines.processes import Processes
from sandbox.progress import Progress
from sandbox.requirements import DISK_TO_RUN, check_machine
from sandbox.world import INBOX_URL, REPOSITORY, World, ensure_tokens

CLOUD_PROCESS = "vendors"
CLOUD_READY = "cloud.ready"
CLOUD_SECONDS = 60


def up(world: World, progress: Progress) -> None:
    """Start whatever of the world does not run yet, and wait until all of it is of use."""
    check_machine(world, DISK_TO_RUN)
    if others := Processes(world).other_worlds():
        first = Path(min(others)).parent
        raise SandboxError(
            f"another sandbox is up on this machine, in {first}",
            f"there can be one at a time: OVERLORD_CACHE={first} python -m sandbox destroy",
        )
    world.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    world.log.mkdir(exist_ok=True)
    if kept := bring_back(world):
        progress.note(f"Buckets of the last sandbox are back: {', '.join(kept)}")
    for folder in (world.pulumi_state, world.state / "pulumi-home"):
        folder.mkdir(exist_ok=True)
    downloaded = world.state / "pulumi-home" / "plugins"
    if not downloaded.exists():
        (world.pulumi_cache / "plugins").mkdir(parents=True, exist_ok=True)
        downloaded.symlink_to(world.pulumi_cache / "plugins")
    ensure_ca(world.ca)
    ensure_tokens(world.tokens)
    write_ca_bundle(world)
    daemon = Daemon(world)
    with progress.step("Docker daemon"):
        daemon.start()
    if not daemon.docker.succeeds("image", "inspect", SERVER):
        raise SandboxError("the server image is missing", "run `python -m sandbox install`")
    with progress.step("Network of the servers"):
        network.up(daemon.docker)
    # One that an installation left behind when it was killed.
    Processes(world).stop(registry.BUILD_PROCESS)
    with progress.step("Image registry"):
        registry.start(world)
    with progress.step("headscale, for the tailnet"):
        Headscale(world).start()
    with progress.step("Hetzner, Cloudflare, Tailscale and Backblaze, emulated"):
        start_cloud(world)
    end_orphaned_plugins(world)
    for pid in release_stale_locks(world):
        progress.note(f"Pulumi (process {pid}) was killed; its lock on the stack is released")


def start_cloud(world: World) -> None:
    """Start the process that emulates the vendors and wait until all its ports answer."""
    processes = Processes(world)
    ready = world.state / CLOUD_READY
    if not processes.find(CLOUD_PROCESS):
        ready.unlink(missing_ok=True)
    processes.start(
        CLOUD_PROCESS,
        [sys.executable, "-m", "sandbox.cloud", "--state", world.state],
        env={"OVERLORD_CACHE": str(world.cache), "PYTHONUNBUFFERED": "1"},
        cwd=REPOSITORY,
    )
    processes.wait(CLOUD_PROCESS, ready.exists, CLOUD_SECONDS)


def write_ca_bundle(world: World) -> None:
    """Write what this machine trusts anyway and the sandbox's authority into one file."""
    named = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    trusted = Path(named or DEFAULT_CA_BUNDLE_PATH)
    if trusted == world.ca_bundle or not trusted.exists():
        trusted = Path(DEFAULT_CA_BUNDLE_PATH)
    own = (world.ca / "ca.pem").read_text()
    world.ca_bundle.write_text(f"{trusted.read_text()}\n{own}")


@contextmanager
def alone(world: World, progress: Progress) -> Iterator[None]:
    """Let one command at a time change the world; a second one waits and says so."""
    world.cache.mkdir(parents=True, exist_ok=True)
    with (world.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step("Waiting for another command of the sandbox to end"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def destroy(world: World, progress: Progress, going: Collection[str] | None) -> list[str]:
    """Take everything away but the cache, from whatever state the world is in. Buckets that hold
    data stay in the cache, with the state that has the key to them.

    Each part is tried even if one before it failed; what failed is named at the end.

    Args:
        world: the sandbox.
        progress: says what is done.
        going: names of the buckets that go with the rest; None for all.

    Returns:
        Names of the buckets that stay.
    """
    processes = Processes(world)
    daemon = Daemon(world)
    failures: list[str] = []

    with progress.step("Saving buckets with data"):
        kept = save_buckets(world, going)
    with progress.step("Stopping the vendors"):
        processes.stop(CLOUD_PROCESS)
    with progress.step("Removing servers"):
        if world.docker_data.exists() and shutil.which("dockerd"):
            try:
                daemon.start()
                daemon.remove_everything()
            except SandboxError as error:
                failures.append(str(error))
    with progress.step("Stopping everything else"):
        for name in processes.names():
            if name != DOCKERD:
                processes.stop(name)
        daemon.stop()
        processes.stop_strays()
        end_orphaned_plugins(world)
    with progress.step("Removing network, mounts and state"):
        daemon.clear_leftovers()
        # The network has one name on the whole machine.
        if not processes.other_worlds():
            network.down()
        if failures:
            # The daemon's data cannot be trusted. Images are made again by the next install.
            shutil.rmtree(world.docker_data, ignore_errors=True)
        put_away(world)
        with suppress(FileNotFoundError):
            shutil.rmtree(world.state)
    for failure in failures:
        progress.note(f"[yellow]the Docker data was thrown away, because {failure}[/yellow]")
    return kept


def state_backend(folder: Path) -> str:
    """Return the address of Pulumi's state in a folder.

    Without `metadata=skip` every file has a second one with its attributes, written in place. The
    program asks for its own state while the engine writes it, and would now and then read an
    empty one ("failed to load checkpoint: EOF").
    """
    return f"file://{folder}?metadata=skip"


def environment(world: World) -> dict[str, str]:
    """Return the variables that point Pulumi and the vendors' clients at the sandbox."""
    if not world.tokens.exists():
        raise SandboxError("the sandbox is not up", "run `python -m sandbox up`")
    tokens = ensure_tokens(world.tokens)
    bundle = str(world.ca_bundle)
    return {
        "PATH": os.pathsep.join([str(world.bin), os.environ.get("PATH", "")]),
        "PULUMI_BACKEND_URL": state_backend(world.pulumi_state),
        "PULUMI_HOME": str(world.state / "pulumi-home"),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_RUNTIME_VIRTUALENV": str(Path(sys.prefix)),
        "HCLOUD_TOKEN": tokens["hcloud"],
        "CLOUDFLARE_API_TOKEN": tokens["cloudflare"],
        "OVERLORD_ARBITER_DNS_TOKEN": tokens["cloudflare_dns"],
        "TAILSCALE_API_KEY": tokens["tailscale"],
        "OVERLORD_B2_KEY_ID": tokens["b2_key_id"],
        "OVERLORD_B2_KEY": tokens["b2_key"],
        "OVERLORD_NODE_B2_KEY_ID": tokens["b2_node_key_id"],
        "OVERLORD_NODE_B2_KEY": tokens["b2_node_key"],
        # One account stands for both.
        "OVERLORD_SECOND_B2_KEY_ID": tokens["b2_key_id"],
        "OVERLORD_SECOND_B2_KEY": tokens["b2_key"],
        "OVERLORD_NODE_SECOND_B2_KEY_ID": tokens["b2_node_key_id"],
        "OVERLORD_NODE_SECOND_B2_KEY": tokens["b2_node_key"],
        "OVERLORD_ALERT_SLACK_URL": f"{INBOX_URL}/slack",
        "OVERLORD_HEARTBEAT_URL_VPS_01": f"{INBOX_URL}/heartbeat/vps-01",
        "OVERLORD_HEARTBEAT_URL_VPS_02": f"{INBOX_URL}/heartbeat/vps-02",
        "AWS_CA_BUNDLE": bundle,
        "SSL_CERT_FILE": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
    }
