"""Which images the stack asks for, and what stands in for each where Docker Hub is out of reach."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from sandbox.commands import SandboxError
from sandbox.world import REPOSITORY

FOLDER = Path(__file__).parent
CATALOGUE = REPOSITORY / "stack" / "catalogue.yaml"

# Entry of the catalogue to the programs that its stand-in holds; its files are in the folder of
# the same name.
STAND_INS: dict[str, tuple[str, ...]] = {
    "prometheus": ("prometheus", "promtool"),
    "alertmanager": ("alertmanager", "amtool"),
    "node-exporter": ("node_exporter",),
    "postgres-exporter": ("postgres_exporter",),
    "blackbox-exporter": ("blackbox_exporter",),
    "cadvisor": ("cadvisor",),
    "loki": ("loki",),
    "gitea": ("gitea", "gitea-files"),
    "openbao": ("bao",),
}
# What images of our own start from to the folder of its stand-in.
BASES = {
    "docker.io/library/nginx": "nginx",
    "docker.io/library/postgres": "postgres",
    "docker.io/library/python": "python",
}

# Left out by the settings of the sandbox: nothing can stand in for it.
LEFT_OUT = frozenset({"grafana"})


@dataclass(frozen=True)
class Wanted:
    """One image of the stack."""

    name: str
    image: str
    """Path below the registry."""
    tag: str
    registry: str | None
    """The official registry; None for an image built from this repository."""
    context: str | None = None
    """Folder with the Dockerfile of an image of our own."""
    base: str | None = None
    """What that Dockerfile starts from."""

    @property
    def reference(self) -> str:
        """Path and tag below any registry."""
        return f"{self.image}:{self.tag}"

    @property
    def base_stand_in(self) -> str | None:
        """Folder of what stands in for the base of an image of our own; None without one."""
        return BASES.get(str(self.base).rpartition(":")[0])


def wanted_images(file: Path = CATALOGUE) -> tuple[Wanted, ...]:
    """Read the catalogue. Raises SandboxError for an image that nothing stands in for."""
    images = []
    for entry in yaml.safe_load(file.read_text())["images"]:
        if entry["name"] in LEFT_OUT:
            continue
        build = entry.get("build") or {}
        image = Wanted(
            name=entry["name"],
            image=entry["image"],
            tag=str(entry["tag"]),
            registry=entry.get("registry"),
            context=build.get("context"),
            base=build.get("base"),
        )
        stands_in = image.base_stand_in if image.context else STAND_INS.get(image.name)
        if stands_in is None:
            raise SandboxError(
                f"nothing in the sandbox stands in for the image {image.reference}",
                f"add a folder {FOLDER.name}/{image.name} and its line in {Path(__file__).name}",
            )
        images.append(image)
    return tuple(images)
