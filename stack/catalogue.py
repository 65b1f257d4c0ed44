"""Reader of the image catalogue: the one place that says which images the stack runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stack.yaml_text import read_yaml

CATALOGUE_FILE = Path(__file__).with_name("catalogue.yaml")

# A tag that names a version has a dot between digits; "latest", "stable" and "17" float.
_EXACT_TAG = re.compile(r"v?\d+\.\d+[\w.-]*")


class CatalogueError(ValueError):
    """The catalogue is not usable; the message names the entry and the remedy."""


class Build(BaseModel):
    """How an image of our own is built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: str
    content: str
    base: str


class Image(BaseModel):
    """One image of the stack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    image: str
    tag: str
    reason: str = Field(min_length=10)
    used_by: tuple[str, ...] = Field(min_length=1)
    registry: str | None = None
    own: bool = False
    build: Build | None = None

    @field_validator("tag")
    @classmethod
    def _tag_is_exact(cls, tag: str) -> str:
        if not _EXACT_TAG.fullmatch(tag):
            raise ValueError(f"tag {tag!r} floats; give an exact version such as v3.5.0")
        return tag

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> Image:
        if self.own and (self.registry or self.build is None):
            raise ValueError("an image of our own has a build and no registry")
        if not self.own and (self.registry is None or self.build is not None):
            raise ValueError("an image of others has a registry and no build")
        return self


@dataclass(frozen=True)
class Catalogue:
    """All images, by name."""

    images: Mapping[str, Image]

    def reference(self, name: str, *, registry: str | None, own_registry: str | None = None) -> str:
        """The full reference of an image, as compose wants it.

        Args:
            name: name of the catalogue entry.
            registry: a registry (and path prefix) that mirrors every image; None for each
                image's own registry.
            own_registry: where images built from this repository are, if no mirror is set.

        Raises:
            CatalogueError: the name is unknown, or an image of our own has no registry.
        """
        try:
            image = self.images[name]
        except KeyError:
            raise CatalogueError(
                f"image {name!r} is not in the catalogue; add it to {CATALOGUE_FILE.name}"
            ) from None
        source = registry or (own_registry if image.own else image.registry)
        if not source:
            raise CatalogueError(
                f"image {name!r} ({image.image}:{image.tag}) is built from this repository, and no "
                "registry is configured that holds it; push it and set the registry"
            )
        return f"{source.rstrip('/')}/{image.image}:{image.tag}"


def load_catalogue(path: Path = CATALOGUE_FILE) -> Catalogue:
    """Read and check the catalogue.

    Raises:
        CatalogueError: the file is not valid, or holds a name twice.
    """
    document = read_yaml(path.read_text(encoding="utf-8"))
    images: dict[str, Image] = {}
    for entry in document["images"]:
        try:
            image = Image.model_validate(entry)
        except ValidationError as error:
            raise CatalogueError(f"{path.name}: entry {entry.get('name')!r}: {error}") from error
        if image.name in images:
            raise CatalogueError(f"{path.name}: image {image.name!r} is listed twice")
        images[image.name] = image
    return Catalogue(images)
