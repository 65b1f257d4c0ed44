"""Makes the images of the sandbox: the server, and the services that servers pull.

The official service images are used where Docker Hub can be reached. Elsewhere stand-ins are
built, all on one Debian layer. Everything is kept in the data of our Docker daemon and in the
registry's storage, both in the cache.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sandbox.commands import SandboxError, run, tail
from sandbox.images.catalogue import FOLDER, STAND_INS, Wanted, wanted_images
from sandbox.machines import registry
from sandbox.machines.daemon import Docker
from sandbox.machines.docker import SERVER_IMAGE
from sandbox.progress import Progress
from sandbox.stamps import LEFT_OUT, Stamps, digest
from sandbox.toolchain.fetched import FETCHED
from sandbox.toolchain.tools import TOOLS
from sandbox.world import REPOSITORY, World

SUITE = "bookworm"
SERVER = f"{SERVER_IMAGE}:debian-12"
ROOTFS = "overlord-sandbox/rootfs"
BASE = "overlord-sandbox/base"
STAMP_LABEL = "overlord.sandbox.stamp"
SERVER_PROGRAMS = ("tailscale", "tailscaled", "docker-compose")
ROOTFS_SECONDS = 1200
BUILD_SECONDS = 600
CACHED_BUILDS = "24h"

# User ids that the official images have and Debian's packages do not, made before the packages.
ROOTFS_USERS = {"postgres": (999, "/var/lib/postgresql"), "nginx": (101, "/var/cache/nginx")}
# Prepared here and not in each Dockerfile, so that the layers of the services stay small.
SERVICES_HOOKS = ('ln -s busybox "$1/bin/wget"', 'rm -rf "$1"/var/lib/postgresql/15/*')
LEAN = ("share/man/", "share/doc/", "share/info/", "share/locale/?[!n]*/")
# PostgreSQL's compiler of queries: a third of the layer that every node fetches. PostgreSQL does
# without when the files are missing.
LEAN_SERVICES = (
    "lib/*/libLLVM*",
    "lib/postgresql/15/lib/llvmjit*",
    "lib/postgresql/15/lib/bitcode",
)


def packages(kind: str) -> list[str]:
    """Read the package list of a root file system: ``server`` or ``services``."""
    lines = (FOLDER / kind / "packages.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def rootfs_command(kind: str) -> list[str]:
    """Build the mmdebstrap command that writes a root file system as a tar to its output."""
    hooks: list[str] = []
    lean = LEAN + (LEAN_SERVICES if kind == "services" else ())
    if kind == "services":
        for name, (uid, home) in ROOTFS_USERS.items():
            hooks += [
                f"--essential-hook=echo '{name}:x:{uid}:{uid}::{home}:/bin/sh' >> $1/etc/passwd",
                f"--essential-hook=echo '{name}:x:{uid}:' >> $1/etc/group",
                f"--essential-hook=echo '{name}:!:19000::::::' >> $1/etc/shadow",
            ]
        hooks += [f"--customize-hook={hook}" for hook in SERVICES_HOOKS]
    return [
        *("nice", "-n", "10", "mmdebstrap", "--variant=minbase", "--quiet"),
        '--aptopt=Apt::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/{part}*" for part in lean),
        f"--include={','.join(packages(kind))}",
        *hooks,
        SUITE,
        "-",
    ]


def wheels_command(requirements: Path, target: Path) -> list[str]:
    """Build the pip command that fetches wheels for Debian 12's Python, hashes checked."""
    machine = platform.machine()
    platforms = [f"--platform=manylinux{kind}_{machine}" for kind in ("2014", "_2_17", "_2_28")]
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--require-hashes", "--no-deps", "--only-binary=:all:"),
        *("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3"),
        *("--abi=none", *platforms, "--platform=any"),
        *("--dest", str(target), "--requirement", str(requirements)),
    ]


def build_page(folder: Path, log: Path) -> None:
    """Build a page of ours into `dist` of its folder, with this machine's Node.js."""
    if not shutil.which("npm"):
        raise SandboxError(
            "Node.js is not installed, and the dashboard page has to be built",
            "install Node.js 20.19 or newer with npm and put them on PATH",
        )
    for arguments in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
        run(
            ["nice", "-n", "10", "npm", *arguments],
            cwd=folder,
            log=log,
            seconds=BUILD_SECONDS,
            remedy="check that the npm registry can be reached, then run install again",
        )
    shutil.rmtree(folder / "node_modules")


class Images:
    """The images of one world."""

    def __init__(self, world: World, progress: Progress) -> None:
        self.world = world
        self.progress = progress
        self.docker = Docker(world)
        self.stamps = Stamps(world.stamps)
        self.wanted = wanted_images()

    def are_ready(self) -> bool:
        """Tell from the stamps alone whether there is nothing to do."""
        if not (self.world.docker_data.exists() and self.world.registry.exists()):
            return False
        if not self.stamps.matches("image-server", self.server_stamp()):
            return False
        return all(
            self.stamps.matches(f"image-{image.name}", self.service_stamp(image))
            for image in self.wanted
        )

    def rootfs_stamp(self, kind: str) -> str:
        """Hash of all that decides what a root file system holds, but for the archive's state."""
        return digest(repr(rootfs_command(kind)), platform.machine())

    def server_stamp(self) -> str:
        """Hash of all that decides what the server image holds."""
        return digest(
            self.rootfs_stamp("server"),
            FOLDER / "server",
            self.world.ca / "ca.pem",
            self._programs(SERVER_PROGRAMS),
        )

    def service_stamp(self, image: Wanted) -> str:
        """Hash of all that decides what a service's image holds."""
        if image.context:
            base = FOLDER / str(image.base_stand_in)
            parts: tuple[str | Path, ...] = (base, REPOSITORY / image.context)
        else:
            parts = (FOLDER / image.name, self._programs(STAND_INS[image.name]))
        return digest(repr(image), self.rootfs_stamp("services"), *parts)

    def make_rootfs(self, kind: str) -> None:
        """Bootstrap a Debian and import it as one layer, unless that is there."""
        stamp = self.rootfs_stamp(kind)
        if self.docker.image_label(f"{ROOTFS}-{kind}", STAMP_LABEL) == stamp:
            return
        with self.progress.step(f"Bootstrapping Debian for {kind} (about a minute)"):
            self._import(kind, stamp)

    def make_server(self) -> None:
        """Build the image that servers boot."""
        stamp = self.server_stamp()
        if self.docker.image_label(SERVER, STAMP_LABEL) != stamp:
            with self.progress.step("Building the server image"):
                files = {program: self.world.bin / program for program in SERVER_PROGRAMS}
                files["ca.pem"] = self.world.ca / "ca.pem"
                self._build(SERVER, FOLDER / "server", "server", stamp, files)
        self.stamps.write("image-server", stamp)

    def make_services(self) -> None:
        """Fetch or build every image of the catalogue and push it to the registry."""
        due = [
            image
            for image in self.wanted
            if not self.stamps.matches(f"image-{image.name}", self.service_stamp(image))
            or not self.world.registry.exists()
        ]
        if not due:
            return
        official = self._hub_answers()
        with registry.for_pushing(self.world) as address:
            for image in due:
                target = f"{address}/{image.reference}"
                with self.progress.step(f"Image {image.reference}"):
                    if official and image.registry:
                        source = f"{image.registry}/{image.reference}"
                        self.docker("pull", source, seconds=BUILD_SECONDS)
                        self.docker("tag", source, target)
                    elif image.context:
                        self._build_own(image, target, official)
                    else:
                        self._build_stand_in(image, target)
                    self.docker("push", target, seconds=BUILD_SECONDS)
                    # The registry has it; this name would be of no use again.
                    self.docker("rmi", "--no-prune", target)
                self.stamps.write(f"image-{image.name}", self.service_stamp(image))
        # Recent ones are the builder's cache.
        self.docker("image", "prune", "--force", f"--filter=until={CACHED_BUILDS}")

    def _hub_answers(self) -> bool:
        """Try to fetch one official image; whoever cannot have one cannot have any."""
        for image in self.wanted:
            if image.registry:
                source = f"{image.registry}/{image.reference}"
                with self.progress.step(f"Looking for the official image {source}"):
                    found = self.docker.succeeds("pull", "--quiet", source)
                if not found:
                    self.progress.note("out of reach: stand-ins are built from Debian instead")
                return found
        return False

    def _programs(self, names: Collection[str]) -> str:
        """Say which builds the programs come from."""
        built = [tool.stamp() for tool in TOOLS if set(tool.binaries) & set(names)]
        return repr(built + [program.stamp() for program in FETCHED if program.name in names])

    def _build_stand_in(self, image: Wanted, target: str) -> None:
        self.make_rootfs("services")
        files = {program: self.world.bin / program for program in STAND_INS[image.name]}
        stamp = self.service_stamp(image)
        self._build(target, FOLDER / image.name, "services", stamp, files)

    def _build_own(self, image: Wanted, target: str, official: bool) -> None:
        """Build an image of this repository's own, as any builder would."""
        source = REPOSITORY / str(image.context)
        with self._context() as context:
            folder = context / str(image.context)
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
            if official:
                arguments = ["--network=host", f"--build-arg=BASE_IMAGE={image.base}"]
            else:
                base = self._make_base(image)
                arguments = ["--network=none", f"--build-arg=BASE_IMAGE={base}"]
                if (folder / "package.json").exists():
                    build_page(folder, self.world.logs_of_install / f"build-{image.name}.log")
                    rootfs = f"{ROOTFS}-services"
                    arguments += [f"--build-arg=NODE_IMAGE={rootfs}", "--build-arg=PAGE=built"]
            dockerfile = folder / "Dockerfile"
            self._docker_build(target, context, dockerfile, arguments, self.service_stamp(image))

    def _make_base(self, image: Wanted) -> str:
        """Build what stands in for the base of an image of ours, and return its name.

        With the wheels that will be asked for, where the image lists Python requirements.
        """
        self.make_rootfs("services")
        folder = FOLDER / str(image.base_stand_in)
        base = f"{BASE}-{folder.name}"
        requirements = REPOSITORY / str(image.context) / "requirements.txt"
        wanted = [requirements] if requirements.exists() else []
        stamp = digest(self.rootfs_stamp("services"), folder, *wanted)
        if self.docker.image_label(base, STAMP_LABEL) == stamp:
            return base
        with tempfile.TemporaryDirectory(dir=self.world.cache) as scratch:
            files = {}
            for file in wanted:
                files["wheels"] = Path(scratch) / "wheels"
                log = self.world.logs_of_install / "wheels.log"
                run(wheels_command(file, files["wheels"]), log=log, seconds=BUILD_SECONDS)
            self._build(base, folder, "services", stamp, files)
        return base

    def _build(
        self, target: str, folder: Path, rootfs: str, stamp: str, files: Mapping[str, Path]
    ) -> None:
        """Build a folder of ours with further files in its context."""
        with self._context() as context:
            shutil.copytree(folder, context, dirs_exist_ok=True)
            for name, source in files.items():
                if source.is_dir():
                    shutil.copytree(source, context / name)
                else:
                    shutil.copy2(source, context / name)
            arguments = ["--network=none", f"--build-arg=ROOTFS={ROOTFS}-{rootfs}"]
            self._docker_build(target, context, context / "Dockerfile", arguments, stamp)

    def _docker_build(
        self, target: str, context: Path, dockerfile: Path, arguments: list[str], stamp: str
    ) -> None:
        self.docker(
            *("build", "--quiet", "--force-rm", f"--tag={target}", f"--file={dockerfile}"),
            *arguments,
            f"--label={STAMP_LABEL}={stamp}",
            context,
            seconds=BUILD_SECONDS,
        )

    @contextmanager
    def _context(self) -> Iterator[Path]:
        """Make a build context in the cache, which is on a real disk."""
        with tempfile.TemporaryDirectory(dir=self.world.cache) as folder:
            yield Path(folder)

    def _import(self, kind: str, stamp: str) -> None:
        """Run mmdebstrap into `docker import`; neither needs a file in between."""
        log = self.world.logs_of_install / f"rootfs-{kind}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        import_command = [
            *("docker", "import", "--change", f"LABEL {STAMP_LABEL}={stamp}", "-"),
            f"{ROOTFS}-{kind}",
        ]
        with log.open("w") as output:
            bootstrap = subprocess.Popen(
                rootfs_command(kind), stdout=subprocess.PIPE, stderr=output
            )
            done = subprocess.run(
                import_command,
                stdin=bootstrap.stdout,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.docker.env},
                timeout=ROOTFS_SECONDS,
            )
            failed = bootstrap.wait()
        if failed:
            # What was imported then is half a Debian.
            self.docker.succeeds("rmi", f"{ROOTFS}-{kind}")
        if failed or done.returncode:
            raise SandboxError(
                f"Debian for {kind} could not be made:\n{tail(log.read_text(errors='replace'))}",
                f"check that a Debian mirror can be reached; the whole log: {log}",
            )
