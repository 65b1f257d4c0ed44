"""The check of the catalogue against registries, with a registry of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stack.catalogue import load_catalogue
from stack.check_images import ImageError, Registries, check, references

DIGEST = f"sha256:{'a' * 64}"
TOKEN = "for-anybody"


@dataclass
class Registry:
    """What is there, and what it was asked."""

    host: str
    manifests: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    broken: bool = False


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that wants a token, as Docker Hub does of anybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            there.asked.append(self.path)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                realm = f'Bearer realm="http://{there.host}/token",service="here",scope="pull"'
                self._answer(401, {"WWW-Authenticate": realm})
            elif there.broken:
                self._answer(503, {})
            elif self.path in there.manifests:
                assert "image.index" in self.headers["Accept"]
                self._answer(200, {"Docker-Content-Digest": DIGEST})
            else:
                self._answer(404, {})

        def do_GET(self) -> None:
            assert self.path == "/token?service=here&scope=pull"
            self._answer(200, {}, json.dumps({"token": TOKEN}).encode())

        def _answer(self, code: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the tests' output is for the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there = Registry(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    yield there
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


def test_the_digest_of_a_version_that_is_there_is_printed(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.manifests.add("/v2/prom/prometheus/manifests/v3.5.0")
    reference = f"{registry.host}/prom/prometheus:v3.5.0"
    assert check([reference], Registries("http")) == []
    assert capsys.readouterr().out == f"{reference}  {DIGEST}\n"


def test_a_version_that_is_not_there_is_named_and_the_others_are_still_checked(
    registry: Registry,
) -> None:
    registry.manifests.add("/v2/b/manifests/1.0")
    wrong = check([f"{registry.host}/{name}:1.0" for name in "abc"], Registries("http"))
    assert [line.split(":1.0: ")[0] for line in wrong] == [
        f"{registry.host}/a",
        f"{registry.host}/c",
    ]
    assert all("no such image" in line for line in wrong)


def test_a_registry_in_trouble_is_no_missing_image(registry: Registry) -> None:
    registry.broken = True
    with pytest.raises(ImageError, match="answered 503; ask again later"):
        Registries("http").digest(f"{registry.host}/a:1.0")


def test_a_registry_that_does_not_answer_is_named() -> None:
    with pytest.raises(ImageError, match=r"127\.0\.0\.1:1 does not answer"):
        Registries("http").digest("127.0.0.1:1/a:1.0")


def test_all_images_of_others_are_checked_and_what_ours_start_from() -> None:
    wanted = references(load_catalogue())
    assert len([one for one in wanted if "/prom/prometheus:" in one]) == 1
    assert not any("overlord/" in one for one in wanted)
    for image in load_catalogue().images.values():
        if image.build is not None:
            assert image.build.base in wanted
