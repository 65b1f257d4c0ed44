"""`python -m sandbox install`: everything that takes minutes, once."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor

from sandbox.cloud.certificates import ensure_ca
from sandbox.commands import run
from sandbox.images.build import Images
from sandbox.machines.daemon import PROCESS as DOCKERD
from sandbox.machines.daemon import Daemon
from sandbox.machines.processes import Processes
from sandbox.progress import Progress
from sandbox.requirements import DISK_TO_INSTALL, check_machine, install_programs, missing_programs
from sandbox.stamps import Stamps, digest
from sandbox.toolchain.tools import TOOLS, build, is_ready, official_on_path
from sandbox.world import REPOSITORY, World

PROVIDERS = REPOSITORY / "sandbox" / "providers"
PROVIDERS_SECONDS = 1200


def install(world: World, progress: Progress) -> bool:
    """Install what is missing. Returns whether there was anything to do."""
    ensure_ca(world.ca)
    images = Images(world, progress)
    tools = [tool for tool in TOOLS if not is_ready(tool, world)]
    programs = missing_programs()
    providers = not providers_ready(world)
    if not (tools or programs or providers or not images.are_ready()):
        return False
    check_machine(world, DISK_TO_INSTALL)
    for tool in TOOLS:
        if official := official_on_path(tool, world):
            progress.note(f"{official} is used as it is")
            for program in tool.binaries:
                (world.bin / program).unlink(missing_ok=True)

    if programs:
        why = "; ".join(f"{program.package}: {program.reason}" for program in programs)
        with progress.step(f"Installing packages ({why})"):
            install_programs(world, programs)

    def build_all() -> None:
        for tool in tools:
            about = f"about {tool.minutes} min on two cores"
            with progress.step(f"Building {tool.name} {tool.version} ({about})"):
                build(tool, world)
        if providers:
            with progress.step("Building the stand-ins for Pulumi's plugins"):
                build_providers(world)

    # The compilers fill the processors while the other lane waits for the network and the disk.
    with ThreadPoolExecutor(max_workers=1) as lane:
        building = lane.submit(build_all)
        if images.are_ready():
            building.result()
        else:
            _make_images(world, progress, images, building)
    return True


def _make_images(world: World, progress: Progress, images: Images, building: Future[None]) -> None:
    """Make the images with a Docker daemon that is stopped again, unless the sandbox is up."""
    daemon = Daemon(world)
    was_up = Processes(world).find(DOCKERD) is not None
    try:
        with progress.step("Starting a Docker daemon of our own"):
            daemon.start()
        images.make_rootfs("server")
        images.make_rootfs("services")
        building.result()
        images.make_server()
        images.make_services()
    finally:
        if not was_up:
            daemon.stop()
            if not world.tokens.exists():
                # No world was up, so all there is came from this installation.
                shutil.rmtree(world.state, ignore_errors=True)


def providers_stamp() -> str:
    """Hash of all that the stand-ins for Pulumi's plugins are made from."""
    return digest(PROVIDERS)


def providers_ready(world: World) -> bool:
    """Tell whether the stand-ins are there and up to date."""
    built = (world.bin / "overlord-providers").exists()
    return built and Stamps(world.stamps).matches("providers", providers_stamp())


def build_providers(world: World) -> None:
    """Build the stand-ins. An official plugin in the same folder stays."""
    run(
        ["nice", "-n", "10", "sh", PROVIDERS / "build.sh", world.bin],
        log=world.logs_of_install / "build-providers.log",
        seconds=PROVIDERS_SECONDS,
        remedy="check that the Go module proxy can be reached, then run install again",
    )
    Stamps(world.stamps).write("providers", providers_stamp())
