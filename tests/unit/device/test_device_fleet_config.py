"""The fleet's configuration: pulled, verified, switched whole."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from device.agent.overlord_device.fleet_config import (
    ConfigError,
    FleetConfig,
    Pull,
    Verifier,
    parse_manifest,
    seal,
)
from device.agent.overlord_device.settings import ConfigSource
from device.agent.overlord_device.transport import HttpClient

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen (openssh-client) checks the signatures"
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet key, a stranger's key, and the list of who may sign."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("fleet", "stranger"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)],
            check=True,
        )
    public = (folder / "fleet.pub").read_text()
    (folder / "allowed_signers").write_text(f'fleet-config namespaces="overlord-config" {public}')
    return folder


class Host:
    """A Git host's raw files, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

        handler = functools.partial(Quiet, directory=str(folder))
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.source = ConfigSource(f"http://127.0.0.1:{self._httpd.server_address[1]}", None)
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.01,))
        self._thread.start()

    def publish(
        self, key: Path, serial: int, content: str, devices: tuple[str, ...] = ("*",)
    ) -> None:
        (self.folder / "cameras").mkdir(exist_ok=True)
        (self.folder / "cameras" / "main.json").write_text(content)
        (self.folder / "app.conf").write_text(f"serial={serial}\n")
        seal(self.folder, key, serial, f"v{serial}", devices)

    def close(self) -> None:
        if self._thread.is_alive():
            self._httpd.shutdown()
            self._httpd.server_close()
            self._thread.join()


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "origin")
    yield host
    host.close()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "mirror")
    yield host
    host.close()


Make = Callable[[], FleetConfig]


@pytest.fixture
def make(tmp_path: Path, keys: Path, origin: Host, mirror: Host) -> Make:
    def make() -> FleetConfig:
        return FleetConfig(
            tmp_path / "config",
            "pi-01",
            (origin.source, mirror.source),
            Verifier(keys / "allowed_signers", "fleet-config"),
            HttpClient(timeout_s=5.0),
        )

    return make


def content(config: FleetConfig) -> str:
    return (config.current_link / "cameras" / "main.json").read_text()


def test_a_signed_configuration_is_taken_and_put_in_force(
    make: Make, origin: Host, keys: Path
) -> None:
    origin.publish(keys / "fleet", 1, "one")
    config = make()
    pull = config.pull()
    assert (pull.changed, pull.problems) == (True, ())
    assert content(config) == "one"
    current = config.current()
    assert current is not None
    assert current.version == "v1"
    assert config.pull().changed is False


def refused(pull: Pull) -> str:
    assert pull.source is None
    assert not pull.changed
    return " | ".join(pull.problems)


def test_a_strangers_signature_is_refused(make: Make, origin: Host, keys: Path) -> None:
    origin.publish(keys / "stranger", 1, "one")
    config = make()
    assert "signature is not good" in refused(config.pull())
    assert not config.current_link.exists()


def test_a_changed_manifest_is_refused_and_the_last_good_stays(
    make: Make, origin: Host, keys: Path
) -> None:
    origin.publish(keys / "fleet", 1, "one")
    config = make()
    config.pull()
    origin.publish(keys / "fleet", 2, "two")
    manifest = origin.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"v2"', '"v3"'))
    assert "signature is not good" in refused(config.pull())
    assert content(config) == "one"


def test_a_changed_file_is_refused_and_nothing_half_made_stays(
    make: Make, origin: Host, keys: Path
) -> None:
    origin.publish(keys / "fleet", 1, "one")
    config = make()
    config.pull()
    origin.publish(keys / "fleet", 2, "two")
    (origin.folder / "cameras" / "main.json").write_text("bad")
    assert "does not match its checksum" in refused(config.pull())
    assert content(config) == "one"
    folders = [p.name for p in (config.current_link.parent).iterdir() if not p.is_symlink()]
    assert len(folders) == 2  # the one in force and the highest serial


def test_a_missing_signature_is_refused(make: Make, origin: Host, keys: Path) -> None:
    origin.publish(keys / "fleet", 1, "one")
    (origin.folder / "manifest.json.sig").unlink()
    assert "404" in refused(make().pull())


def test_a_signature_made_for_another_purpose_is_refused(
    make: Make, origin: Host, keys: Path
) -> None:
    origin.publish(keys / "fleet", 1, "one")
    signed = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(keys / "fleet")],
        input=(origin.folder / "manifest.json").read_bytes(),
        capture_output=True,
        check=True,
    )
    (origin.folder / "manifest.json.sig").write_bytes(signed.stdout)
    assert "signature is not good" in refused(make().pull())


def test_an_older_configuration_is_refused_though_its_signature_is_good(
    make: Make, origin: Host, mirror: Host, keys: Path
) -> None:
    origin.publish(keys / "fleet", 5, "five")
    config = make()
    config.pull()
    origin.publish(keys / "fleet", 4, "four")
    assert "older than 5" in refused(config.pull())
    # Not even when the one in force was damaged meanwhile.
    (config.current_link / "app.conf").write_text("damaged")
    again = make()
    again.check_stored()
    assert again.current() is None
    assert "older than 5" in refused(again.pull())
    origin.publish(keys / "fleet", 5, "five")
    assert again.pull().changed


def test_two_contents_under_one_serial_are_refused(make: Make, origin: Host, keys: Path) -> None:
    origin.publish(keys / "fleet", 1, "one")
    config = make()
    config.pull()
    origin.publish(keys / "fleet", 1, "another one")
    assert "two different configurations" in refused(config.pull())


def test_a_configuration_for_other_devices_is_refused(make: Make, origin: Host, keys: Path) -> None:
    origin.publish(keys / "fleet", 1, "one", devices=("cam-*",))
    assert "is not for pi-01" in refused(make().pull())


def test_the_mirror_serves_when_the_origin_is_away(
    make: Make, origin: Host, mirror: Host, keys: Path
) -> None:
    mirror.publish(keys / "fleet", 3, "three")
    origin.close()
    config = make()
    pull = config.pull()
    assert pull.changed
    assert pull.source == mirror.source.url
    assert len(pull.problems) == 1
    assert content(config) == "three"


def test_the_mirror_serves_when_the_origin_has_something_bad(
    make: Make, origin: Host, mirror: Host, keys: Path
) -> None:
    origin.publish(keys / "stranger", 9, "evil")
    mirror.publish(keys / "fleet", 3, "three")
    config = make()
    assert config.pull().changed
    assert content(config) == "three"


def test_with_both_away_the_last_good_stays_in_force(
    make: Make, origin: Host, mirror: Host, keys: Path
) -> None:
    origin.publish(keys / "fleet", 1, "one")
    config = make()
    config.pull()
    origin.close()
    mirror.close()
    again = make()
    again.check_stored()
    pull = again.pull()
    assert len(pull.problems) == 2
    assert pull.manifest is not None
    assert pull.manifest.version == "v1"
    assert content(again) == "one"


def test_the_configuration_before_is_kept_and_taken_when_the_present_one_is_damaged(
    make: Make, origin: Host, keys: Path
) -> None:
    config = make()
    for serial, text in ((1, "one"), (2, "two"), (3, "three")):
        origin.publish(keys / "fleet", serial, text)
        config.pull()
    assert len(list(config.current_link.parent.glob("[0-9]*"))) == 2
    (config.current_link / "cameras" / "main.json").write_text("")
    again = make()
    again.check_stored()
    assert content(again) == "two"
    assert again.pull().changed
    assert content(again) == "three"


def test_a_crash_while_installing_leaves_nothing_behind_after_the_next_pull(
    make: Make, origin: Host, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make()
    origin.publish(keys / "fleet", 1, "one")
    config.pull()
    (config.current_link.parent / ".new-crashed").mkdir()
    origin.publish(keys / "fleet", 2, "two")
    config.pull()
    names = sorted(p.name for p in config.current_link.parent.iterdir())
    assert ".new-crashed" not in names
    assert content(config) == "two"


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/../../b", ".ssh/key", "a//b", "a\\b", "", "manifest.json"]
)
def test_a_manifest_that_names_files_elsewhere_is_refused(name: str) -> None:
    entry = {"sha256": "0" * 64, "size": 1}
    raw = json.dumps({"format": 1, "serial": 1, "version": "v", "files": {name: entry}})
    with pytest.raises(ConfigError):
        parse_manifest(raw.encode())


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"serial": 0},
        {"serial": True},
        {"serial": "1"},
        {"version": ""},
        {"devices": "pi-*"},
        {"files": {}},
        {"files": {"a": {"sha256": "zz", "size": 1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": -1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": 10**9}}},
        {"files": {"a": None}},
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    good = {
        "format": 1,
        "serial": 1,
        "version": "v",
        "files": {"a": {"sha256": "0" * 64, "size": 1}},
    }
    assert parse_manifest(json.dumps(good).encode()).serial == 1
    with pytest.raises(ConfigError):
        parse_manifest(json.dumps({**good, **change}).encode())


def test_without_the_list_of_signers_nothing_is_taken(
    tmp_path: Path, origin: Host, keys: Path
) -> None:
    origin.publish(keys / "fleet", 1, "one")
    verifier = Verifier(tmp_path / "missing", "fleet-config")
    client = HttpClient(timeout_s=5.0)
    config = FleetConfig(tmp_path / "config", "pi-01", (origin.source,), verifier, client)
    assert "allowed_signers" in refused(config.pull())
