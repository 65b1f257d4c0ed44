"""Which images are made, and from what."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.commands import SandboxError
from sandbox.images.build import build_page, packages, rootfs_command, wheels_command
from sandbox.images.catalogue import FOLDER, STAND_INS, wanted_images


def test_every_image_of_the_stack_has_a_stand_in_or_a_build() -> None:
    for image in wanted_images():
        folder = FOLDER / (image.base_stand_in or image.name)
        assert (folder / "Dockerfile").exists()


def test_every_stand_in_is_asked_for() -> None:
    assert set(STAND_INS) <= {image.name for image in wanted_images()}


def test_an_image_without_stand_in_is_named(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(
        "images: [{name: thing, registry: docker.io, image: some/thing, tag: 1.24.0}]"
    )
    with pytest.raises(SandboxError, match=r"some/thing:1\.24\.0"):
        wanted_images(catalogue)


def test_an_image_of_ours_on_a_base_without_stand_in_is_named(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(
        "images: [{name: thing, own: true, image: overlord/thing, tag: 0.1.0,"
        " build: {context: thing, base: 'docker.io/library/ruby:3.4.1', content: x}}]"
    )
    with pytest.raises(SandboxError, match=r"overlord/thing:0\.1\.0"):
        wanted_images(catalogue)


def test_a_page_cannot_be_built_without_node_and_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match=r"Node\.js is not installed") as raised:
        build_page(tmp_path, tmp_path / "log")
    assert "20.19" in raised.value.remedy


@pytest.mark.parametrize("kind", ["server", "services"])
def test_a_root_file_system_holds_the_packages_of_its_list(kind: str) -> None:
    words = rootfs_command(kind)
    assert f"--include={','.join(packages(kind))}" in words
    assert words[-2:] == ["bookworm", "-"]


def test_official_user_ids_are_there_before_the_packages() -> None:
    hooks = [word for word in rootfs_command("services") if word.startswith("--essential-hook")]
    assert any("postgres:x:999:999" in hook for hook in hooks)
    assert any("nginx:x:101:101" in hook for hook in hooks)
    assert not any("hook" in word for word in rootfs_command("server"))


def test_wheels_are_checked_and_never_built(tmp_path: Path) -> None:
    words = wheels_command(tmp_path / "requirements.txt", tmp_path)
    assert "--require-hashes" in words
    assert "--only-binary=:all:" in words
    assert "--python-version=3.11" in words
