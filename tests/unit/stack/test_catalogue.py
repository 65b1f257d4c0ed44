"""The image catalogue."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from stack.catalogue import CatalogueError, load_catalogue


def entry(**changes: object) -> dict[str, object]:
    return {
        "name": "thing",
        "registry": "docker.io",
        "image": "some/thing",
        "tag": "v1.2.3",
        "reason": "does a thing that is needed",
        "used_by": ["thing"],
        **changes,
    }


def load(tmp_path: Path, *entries: dict[str, object]) -> None:
    import yaml

    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump({"images": list(entries)}))
    load_catalogue(path)


@pytest.mark.parametrize("tag", ["latest", "stable", "16", "v3", "alpine", ""])
def test_a_floating_tag_is_refused(tmp_path: Path, tag: str) -> None:
    with pytest.raises(CatalogueError, match="floats"):
        load(tmp_path, entry(tag=tag))


def test_a_name_is_listed_once(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="twice"):
        load(tmp_path, entry(), entry())


def test_every_entry_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="reason"):
        load(tmp_path, entry(reason=""))


def test_an_image_comes_from_its_own_registry_or_from_the_mirror() -> None:
    catalogue = load_catalogue()

    own = catalogue.reference("prometheus", registry=None)
    mirrored = catalogue.reference("prometheus", registry="mirror.example.com/x/")

    assert own.startswith("docker.io/prom/prometheus:v")
    assert mirrored == own.replace("docker.io", "mirror.example.com/x")


def test_an_image_of_ours_needs_a_registry_and_the_error_says_so() -> None:
    catalogue = load_catalogue()

    with pytest.raises(CatalogueError, match=r"'api'.*push it and set the registry"):
        catalogue.reference("api", registry=None)
    reference = catalogue.reference("api", registry=None, own_registry="ghcr.io/example")
    assert reference.startswith("ghcr.io/example/overlord/api:")


def test_an_unknown_image_is_named() -> None:
    with pytest.raises(CatalogueError, match="'nothing'"):
        load_catalogue().reference("nothing", registry=None)


# What the Dockerfile of each image of ours copies, in its folder, and itself.
COPIED = {
    "dashboard": ("Dockerfile", "requirements.txt", "*.py", "api/**/*.py", "migrations/**/*.py",
                  "migrations/**/*.mako"),
    "stack/images/postgres": ("*",),
    "dashboard/web": ("Dockerfile", ".npmrc", "index.html", "*.json", "vite.config.ts",
                      "public/**/*", "src/**/*"),
}  # fmt: skip


def content_hash(context: str) -> str:
    """Hash of what goes into an image of ours."""
    folder = Path(context)
    files = {path for pattern in COPIED[context] for path in folder.glob(pattern)}
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(
    "name", [image.name for image in load_catalogue().images.values() if image.own]
)
def test_a_changed_image_of_ours_has_a_new_tag(name: str) -> None:
    image = load_catalogue().images[name]
    assert image.build is not None
    found = content_hash(image.build.context)
    assert image.build.content == found, (
        f"what goes into {image.image} has changed: raise its tag above {image.tag} in "
        f"stack/catalogue.yaml, or nodes keep the old image, and set content to {found}"
    )
