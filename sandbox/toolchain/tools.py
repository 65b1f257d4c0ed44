"""The programs of the sandbox that are built from their Go modules, and how."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.commands import SandboxError, run
from sandbox.stamps import Stamps, digest
from sandbox.world import World

FOLDER = Path(__file__).parent
BUILD_SECONDS = 1800
PULUMI_SDK = "github.com/pulumi/pulumi/sdk/v3"
PROMETHEUS_VERSION = "github.com/prometheus/common/version.Version"


@dataclass(frozen=True)
class Tool:
    """A Go module folder and the programs that come from it."""

    name: str
    """Folder of the go.mod that pins it."""
    version: str
    binaries: Mapping[str, str]
    """Program to Go package."""
    version_variables: tuple[str, ...] = ()
    """Go variables that hold the version."""
    reported: str | None = None
    """The version as those variables hold it, where it is not `version`."""
    minutes: int = 2
    """Rough time of a first build on two cores, for the progress display."""
    files: tuple[str, tuple[str, ...]] | None = field(default=None, repr=False)
    """A name, and folders of the module that are put below it beside the programs."""
    official: str | None = None
    """Program that is used when one on PATH has at least this version."""

    @property
    def folder(self) -> Path:
        """Where the go.mod is."""
        return FOLDER / self.name

    def stamp(self) -> str:
        """Hash of all that decides what is built."""
        own = sorted(self.folder.glob("*.go"))
        files = repr(self.files) if self.files else ""
        return digest(self.folder / "go.mod", self.folder / "go.sum", *own, repr(self) + files)


TOOLS = (
    Tool(
        "tailscale",
        "1.90.0",
        {"tailscale": "tailscale.com/cmd/tailscale", "tailscaled": "tailscale.com/cmd/tailscaled"},
        ("tailscale.com/version.longStamp", "tailscale.com/version.shortStamp"),
    ),
    Tool(
        "compose",
        "v2.40.0",
        {"docker-compose": "github.com/docker/compose/v2/cmd"},
        ("github.com/docker/compose/v2/internal.Version",),
    ),
    Tool(
        "prometheus",
        "v0.305.0",
        {
            "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
            "promtool": "github.com/prometheus/prometheus/cmd/promtool",
        },
        (PROMETHEUS_VERSION,),
        reported="3.5.0",  # the module's own count of the same release
        minutes=3,
    ),
    Tool(
        "alertmanager",
        "v0.28.1",
        {
            "alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager",
            "amtool": "github.com/prometheus/alertmanager/cmd/amtool",
        },
        (PROMETHEUS_VERSION,),
        reported="0.28.1",
        minutes=1,
    ),
    Tool(
        "node-exporter",
        "v1.9.1",
        {"node_exporter": "github.com/prometheus/node_exporter"},
        (PROMETHEUS_VERSION,),
        reported="1.9.1",
        minutes=1,
    ),
    Tool(
        "postgres-exporter",
        "v0.17.1",
        {
            "postgres_exporter": (
                "github.com/prometheus-community/postgres_exporter/cmd/postgres_exporter"
            )
        },
        (PROMETHEUS_VERSION,),
        reported="0.17.1",
        minutes=1,
    ),
    Tool(
        "blackbox-exporter",
        "v0.27.0",
        {"blackbox_exporter": "github.com/prometheus/blackbox_exporter"},
        (PROMETHEUS_VERSION,),
        reported="0.27.0",
        minutes=1,
    ),
    Tool(
        "cadvisor",
        "v0.52.1",
        {"cadvisor": "overlord/sandbox/toolchain/cadvisor"},
        ("main.version",),
        reported="0.52.1",
        minutes=1,
    ),
    Tool(
        "loki",
        "v3.4.3",
        {"loki": "github.com/grafana/loki/v3/cmd/loki"},
        ("github.com/grafana/loki/v3/pkg/util/build.Version",),
        reported="3.4.3",
        minutes=3,
    ),
    Tool(
        "gitea",
        "v1.24.0",
        {"gitea": "code.gitea.io/gitea"},
        ("main.Version",),
        reported="1.24.0",
        minutes=3,
        files=("gitea-files", ("options", "public", "templates")),
    ),
    Tool(
        "headscale",
        "v0.26.0",
        {"headscale": "github.com/juanfont/headscale/cmd/headscale"},
        ("github.com/juanfont/headscale/hscontrol/types.Version",),
        minutes=3,
    ),
    Tool(
        "pebble",  # the ACME server that `tests/config` proves certificates against
        "v2.8.0",
        {"pebble": "github.com/letsencrypt/pebble/v2/cmd/pebble"},
        minutes=1,
    ),
    Tool(
        "pulumi",
        "v3.250.0",
        {"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
        (f"{PULUMI_SDK}/go/common/version.Version",),
        minutes=4,
        official="pulumi",
    ),
)


def build_command(tool: Tool, program: str, target: Path) -> list[str]:
    """Build the command line for one program: low priority, no paths of this machine inside."""
    version = tool.reported or tool.version
    flags = ["-s", "-w", *(f"-X {name}={version}" for name in tool.version_variables)]
    return [
        *("nice", "-n", "10", "go", "build", "-trimpath", "-ldflags", " ".join(flags)),
        *("-o", str(target), tool.binaries[program]),
    ]


def at_least(found: str, wanted: str) -> bool:
    """Compare versions such as ``v3.250.0``: same major version, and not older."""
    have, need = (tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (found, wanted))
    return bool(have) and have[0] == need[0] and have >= need


def official_on_path(tool: Tool, world: World) -> Path | None:
    """Find an official program on PATH that is new enough. What the cache holds is no such."""
    folders = [
        folder
        for folder in os.environ.get("PATH", "").split(os.pathsep)
        if folder and Path(folder).resolve() != world.bin.resolve()
    ]
    found = shutil.which(tool.official, path=os.pathsep.join(folders)) if tool.official else None
    if not found:
        return None
    return Path(found) if at_least(run([found, "version"]).strip(), tool.version) else None


def is_ready(tool: Tool, world: World) -> bool:
    """Tell whether there is nothing to do for the tool."""
    if official_on_path(tool, world):
        return True
    made = [*tool.binaries, *([tool.files[0]] if tool.files else [])]
    present = all((world.bin / name).exists() for name in made)
    return present and Stamps(world.stamps).matches(f"tool-{tool.name}", tool.stamp())


def build(tool: Tool, world: World) -> None:
    """Build the tool into the cache. A program is replaced only once the new one is whole."""
    if not shutil.which("go"):
        raise SandboxError(
            f"Go is not installed, and {tool.name} has to be built",
            "install Go 1.26 or newer from https://go.dev/dl and put it on PATH",
        )
    world.bin.mkdir(parents=True, exist_ok=True)
    log = world.logs_of_install / f"build-{tool.name}.log"
    env = {"CGO_ENABLED": "0", "GOWORK": "off"}
    for program in tool.binaries:
        draft = world.bin / f".{program}.new"
        run(
            build_command(tool, program, draft),
            cwd=tool.folder,
            env=env,
            log=log,
            seconds=BUILD_SECONDS,
            remedy="check that the Go module proxy can be reached, then run install again",
        )
        draft.replace(world.bin / program)
    if tool.files:
        copy_files(tool, world.bin / tool.files[0], tool.files[1])
    Stamps(world.stamps).write(f"tool-{tool.name}", tool.stamp())


def copy_files(tool: Tool, target: Path, folders: tuple[str, ...]) -> None:
    """Copy folders of the tool's module out of Go's cache, which keeps them read-only."""
    [package] = tool.binaries.values()
    found = run(["go", "list", "-m", "-f", "{{.Dir}}", package], cwd=tool.folder)
    shutil.rmtree(target, ignore_errors=True)
    for folder in folders:
        for source in sorted((Path(found.strip()) / folder).rglob("*")):
            if source.is_file():
                copy = target / folder / source.relative_to(Path(found.strip()) / folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
