"""`python -m sandbox install`: everything that takes minutes, once."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor

from sandbox.cloud.certificates import ensure_ca
from sandbox.images.build import Images
from sandbox.machines.daemon import PROCESS as DOCKERD
from sandbox.machines.daemon import Daemon
from sandbox.machines.processes import Processes
from sandbox.progress import Progress
from sandbox.requirements import DISK_TO_INSTALL, check_machine, install_programs, missing_programs
from sandbox.toolchain import plugins
from sandbox.toolchain.fetched import FETCHED
from sandbox.toolchain.tools import TOOLS, build, is_ready, official_on_path
from sandbox.world import World


def install(world: World, progress: Progress) -> bool:
    """Install what is missing. Returns whether there was anything to do."""
    ensure_ca(world.ca)
    images = Images(world, progress)
    tools = [tool for tool in TOOLS if not is_ready(tool, world)]
    programs = missing_programs()
    plugins_due = not plugins.are_ready(world)
    to_fetch = [program for program in FETCHED if not program.is_ready(world)]
    if not (tools or programs or plugins_due or to_fetch or not images.are_ready()):
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
        for program in to_fetch:
            with progress.step(f"Fetching {program.name}: {program.about}"):
                program.install(world)
        for tool in tools:
            about = f"about {tool.minutes} min on two cores"
            with progress.step(f"Building {tool.name} {tool.version} ({about})"):
                build(tool, world)
        if plugins_due:
            with progress.step("Pulumi's plugins: the official ones, or else building stand-ins"):
                stand_ins = plugins.install(world)
            if stand_ins:
                progress.note(f"stand-ins for: {', '.join(sorted(stand_ins))}")

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
