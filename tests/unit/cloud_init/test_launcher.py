"""overlord-launch: the part of first boot that comes before the bundle."""

import hashlib
import importlib.machinery
import importlib.util
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from overlord.journal import Journal, read_boot_state
from overlord.paths import Paths


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launcher as a module, its root in a temporary folder."""
    monkeypatch.setenv("OVERLORD_ROOT", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    loader = importlib.machinery.SourceFileLoader("overlord_launch", "cloud-init/overlord-launch")
    spec = importlib.util.spec_from_loader("overlord_launch", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    # This machine's own sshd and packages are none of a test's business.
    monkeypatch.setattr(module, "command", lambda log, *args, env=None: 0)
    (tmp_path / "etc/ssh").mkdir(parents=True)
    return module


class Store:
    """Objects behind presigned links, over plain HTTP."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.codes: dict[str, list[int]] = {}
        self.requests: list[str] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                store.requests.append(path)
                code = store.codes[path].pop(0) if store.codes.get(path) else 200
                body = store.objects.get(path, b"")
                self.send_response(code if path in store.objects else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def put(self, path: str, data: bytes) -> str:
        self.objects[path] = data
        return f"http://127.0.0.1:{self.server.server_port}{path}?X-Amz-Signature={'5' * 64}"


@pytest.fixture
def store() -> Iterator[Store]:
    one = Store()
    yield one
    one.server.shutdown()


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


# Stands for the real one: writes its own step and ends as told.
FIRST_BOOT = """
import json, os, sys
from pathlib import Path
root = Path(os.environ["OVERLORD_ROOT"])
ends = root / "ends-with"
sys.exit(int(ends.read_text()) if ends.exists() else 0)
"""


class Machine:
    """A server with its boot.json written, ready for the launcher."""

    def __init__(self, root: Path, store: Store, launch: ModuleType) -> None:
        self.root, self.store, self.launch = root, store, launch
        self.key = Fernet.generate_key()
        host_key = ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        self.secrets = {
            "ssh_host_ed25519_key": host_key.decode(),
            "b2_key": Fernet.generate_key().decode(),
        }
        sealed = Fernet(self.key).encrypt(json.dumps(self.secrets).encode())
        self.bundle = tar(
            {"overlord/__init__.py": b"", "overlord/ctl.py": FIRST_BOOT.encode(), "x": b"1"}
        )
        self.boot = {
            "version": 1,
            "node": "vps-01",
            "bundle_url": store.put("/bundle", self.bundle),
            "bundle_sha256": hashlib.sha256(self.bundle).hexdigest(),
            "secrets_url": store.put("/secrets", sealed),
            "secrets_sha256": hashlib.sha256(sealed).hexdigest(),
            "secrets_key": self.key.decode(),
            "tailscale_auth_key": "tskey-" + "1" * 20,
        }
        self.write_boot()

    def write_boot(self, **changes: str) -> None:
        self.boot |= changes
        self.launch.write(self.launch.BOOT, json.dumps(self.boot).encode())

    def run(self) -> None:
        self.launch.run()

    def fails(self) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            self.run()
        assert ended.value.code not in (0, None)
        journal = json.loads(self.launch.JOURNAL.read_text())
        assert journal["state"] == "failed"
        (failed,) = [step for step in journal["steps"] if step["state"] == "failed"]
        return dict(failed)

    def everything_written(self) -> str:
        """Logs and journal, where no secret may be."""
        files = [self.launch.JOURNAL, *self.launch.LOGS.glob("*")]
        return "".join(file.read_text() for file in files if file.exists())


@pytest.fixture
def machine(tmp_path: Path, store: Store, launch: ModuleType) -> Machine:
    return Machine(tmp_path, store, launch)


def test_first_boot_ends_done_with_every_step_in_the_journal(
    machine: Machine, tmp_path: Path
) -> None:
    machine.run()
    state = read_boot_state(Paths(tmp_path))
    assert state.state == "done"
    assert [step.name for step in state.steps] == ["packages", "secrets", "host-key", "bundle"]
    assert (tmp_path / "opt/overlord/current/x").read_bytes() == b"1"


def test_secrets_are_files_for_root_only(machine: Machine, tmp_path: Path) -> None:
    machine.run()
    for name, value in machine.secrets.items():
        file = tmp_path / "etc/overlord/secrets" / name
        assert file.read_text() == value
        assert file.stat().st_mode & 0o777 == 0o600


def test_links_and_keys_are_forgotten_once_used(machine: Machine) -> None:
    machine.run()
    left = json.loads(machine.launch.BOOT.read_text())
    assert not {"secrets_key", "secrets_url", "bundle_url"} & set(left)
    assert machine.key.decode() not in machine.launch.BOOT.read_text()


def test_no_secret_is_written_to_journal_or_logs(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.run()
    said = machine.everything_written() + "".join(capsys.readouterr())
    for secret in (*machine.secrets.values(), machine.key.decode(), "X-Amz-Signature"):
        assert secret not in said


def test_a_second_run_fetches_nothing_again(machine: Machine) -> None:
    machine.run()
    machine.run()
    assert machine.store.requests == ["/secrets", "/bundle"]


@pytest.mark.parametrize("cut_after", ["packages", "secrets", "host-key", "bundle"])
def test_a_reboot_after_any_step_goes_on_where_it_was(
    machine: Machine, tmp_path: Path, cut_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = machine.launch.Journal.end
    ended: list[str] = []

    def power_cut(journal: Any, name: str, *args: Any, **kwargs: Any) -> None:
        if name == cut_after and not ended:
            ended.append(name)
            raise KeyboardInterrupt  # the step is done, its end not yet written
        save(journal, name, *args, **kwargs)

    monkeypatch.setattr(machine.launch.Journal, "end", power_cut)
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    machine.run()
    assert read_boot_state(Paths(tmp_path)).state == "done"
    assert (tmp_path / "opt/overlord/current/x").exists()


def test_a_torn_journal_starts_over_and_still_ends_done(machine: Machine, tmp_path: Path) -> None:
    machine.run()
    machine.launch.JOURNAL.write_text('{"version": 1, "ste')
    machine.run()
    assert read_boot_state(Paths(tmp_path)).state == "done"


def test_a_wrong_checksum_names_bundle_and_remedy(machine: Machine, tmp_path: Path) -> None:
    machine.write_boot(bundle_sha256="f" * 64)
    failed = machine.fails()
    assert failed["name"] == "bundle"
    assert "checksum" in failed["error"]
    assert "overlord:rebuild: vps-01" in failed["remedy"]
    assert not (tmp_path / "opt/overlord/current").exists()


@pytest.mark.parametrize("code", [403, 401])
def test_an_expired_link_is_called_that_and_never_shown(machine: Machine, code: int) -> None:
    machine.store.codes["/secrets"] = [code]
    failed = machine.fails()
    assert failed["name"] == "secrets"
    assert "expired" in failed["error"]
    assert "X-Amz-Signature" not in json.dumps(failed)


def test_an_unreachable_store_is_named_without_its_link(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    signature = "7" * 64
    machine.write_boot(secrets_url=f"https://127.0.0.1:1/b/secrets?X-Amz-Signature={signature}")
    failed = machine.fails()
    assert "127.0.0.1 did not answer" in failed["error"]
    # A shorter piece may stand in a time or in a key by chance.
    assert signature[:16] not in machine.everything_written()


def test_a_document_that_does_not_open_is_not_quoted(machine: Machine) -> None:
    machine.write_boot(secrets_key=Fernet.generate_key().decode())
    failed = machine.fails()
    assert failed["name"] == "secrets"
    assert "does not open" in failed["error"]


def test_a_full_disk_is_named_in_the_journal_in_memory(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, mode: int = 0o600) -> None:
        if "run/overlord" not in str(path):
            raise OSError(28, "No space left on device", str(path))
        real(path, data, mode)

    real = machine.launch.write
    monkeypatch.setattr(machine.launch, "write", full)
    with pytest.raises(SystemExit):
        machine.run()
    failed = read_boot_state(Paths(tmp_path)).failed
    assert failed is not None
    assert "no space left" in failed.error
    assert "larger server type" in failed.remedy


def test_a_bundle_whose_tools_crash_fails_the_boot(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "ends-with").write_text("3")
    failed = machine.fails()
    assert failed["name"] == "first-boot"
    assert "ended with 3" in failed["error"]
    (tmp_path / "ends-with").unlink()
    machine.run()


def test_wait_prints_each_step_and_ends_with_0(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.run()
    assert machine.launch.wait(5) == 0
    said = capsys.readouterr().out
    assert "bundle" in said
    assert "vps-01 is healthy" in said


def test_wait_shows_a_failed_step_of_the_bundle_with_the_end_of_its_log(
    machine: Machine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = Journal(Paths(tmp_path))
    journal.begin("images")
    machine.launch.LOGS.mkdir(parents=True)
    (machine.launch.LOGS / "images.log").write_text("pulling\nno such image\n")
    busy = iter([False, True, True])  # tried again, and failed again

    def fail_again() -> bool:
        active = next(busy, False)
        if not active:
            return False
        journal.fail("images", "no such image", "push it")
        return active

    journal.fail("images", "no such image", "push it")
    monkeypatch.setattr(machine.launch, "busy", fail_again)
    monkeypatch.setattr(machine.launch.time, "sleep", lambda _: None)
    monkeypatch.setattr(machine.launch.subprocess, "run", lambda *_, **__: None)
    assert machine.launch.wait(5) == 1
    said = capsys.readouterr().out
    assert "trying again" in said
    assert "step images failed: no such image" in said
    assert "what to do: push it" in said
    assert "| pulling" in said


def test_wait_ends_with_2_when_time_is_up(
    machine: Machine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Journal(Paths(tmp_path)).begin("docker")
    monkeypatch.setattr(machine.launch, "busy", lambda: True)
    monkeypatch.setattr(machine.launch.time, "sleep", lambda _: None)
    assert machine.launch.wait(0.0) == 2
    assert "busy with step docker" in capsys.readouterr().out


@pytest.mark.parametrize(("cloud_init", "code"), [("status: error", 1), ("status: running", 2)])
def test_wait_does_not_wait_for_a_boot_that_never_begins(
    machine: Machine,
    cloud_init: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds = iter(range(200))
    monkeypatch.setattr(machine.launch.time, "sleep", lambda _: None)
    monkeypatch.setattr(machine.launch.time, "monotonic", lambda: float(next(rounds)))
    answer = SimpleNamespace(stdout=cloud_init)
    monkeypatch.setattr(machine.launch.subprocess, "run", lambda *_, **__: answer)
    assert machine.launch.wait(150) == code
    assert ("cloud-init status --long" in capsys.readouterr().out) == (code == 1)


def test_the_launcher_reads_the_journal_that_the_bundle_writes(
    launch: ModuleType, tmp_path: Path
) -> None:
    journal = Journal(Paths(tmp_path))
    journal.begin("docker")
    journal.done("docker", ["a note"])
    seen = launch.Journal().find("docker")
    assert (seen["state"], seen["notes"]) == ("done", ["a note"])
