"""The agent around the queue: settings, enrolment, TLS, the running process."""

from __future__ import annotations

import configparser
import datetime
import http.server
import ipaddress
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device.agent.overlord_device import cli
from device.agent.overlord_device.facts import read_facts
from device.agent.overlord_device.settings import SettingsError, load
from device.agent.overlord_device.transport import HttpClient, TransportError
from tests.unit.device.fakes import START, FakeClock, FakeServer, serving

ROOT = Path(__file__).resolve().parents[3]


def write_settings(folder: Path, server: str, extra: str = "") -> Path:
    path = folder / "agent.conf"
    path.write_text(
        f"[agent]\nserver = {server}\ndevice_id = pi-01\nstate_dir = {folder}\n{extra}\n"
    )
    return path


# -- settings --------------------------------------------------------------------------------


def test_every_mistake_in_the_settings_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "agent.conf"
    path.write_text(
        "[agent]\nserver = http://example.com\ndevice_id = Pi_1\nperiod_s = soon\ncolour = red\n"
        "[queue]\nretention_days = 30\n[confg]\n"
    )
    with pytest.raises(SettingsError) as error:
        load(path)
    text = str(error.value)
    for part in ("only https", "device_id", "period_s", "colour", "retention_days", "[confg]"):
        assert part in text


def test_the_sample_settings_are_valid_and_hold_the_defaults(tmp_path: Path) -> None:
    sample = load(ROOT / "device/agent/agent.conf.example")
    bare = load(write_settings(tmp_path, "https://fleet.example.com"))
    assert sample.period_s == bare.period_s == 60
    assert sample.retention_s == bare.retention_s == 7 * 86_400
    assert sample.keep_acknowledged_s == bare.keep_acknowledged_s
    assert sample.max_queue_bytes == bare.max_queue_bytes
    assert bare.max_waiting > 10_080


def test_config_sources_name_the_device_and_carry_their_tokens(tmp_path: Path) -> None:
    settings = load(
        write_settings(
            tmp_path,
            "https://fleet.example.com",
            "[config]\nsources = https://git.example/raw/{device_id}/\n"
            "  https://fleet.example.com/git/raw/{device_id}\ntoken_files = - /etc/token\n",
        )
    )
    first, second = settings.config_sources
    assert (first.url, first.token_file) == ("https://git.example/raw/pi-01", None)
    assert second.token_file == Path("/etc/token")


# -- transport -------------------------------------------------------------------------------


class Https:
    """An https server on loopback with a certificate of its own authority."""

    def __init__(self, folder: Path, *, days: int = 1, name: str = "localhost") -> None:
        self.ca_file = folder / "ca.pem"
        certificate = folder / "server.pem"
        _make_certificates(self.ca_file, certificate, days, name)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/moved":
                    self.send_response(302)
                    self.send_header("Location", "/")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self._httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._httpd.socket = context.wrap_socket(self._httpd.socket, server_side=True)
        self.port = self._httpd.server_address[1]
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()


def _make_certificates(ca_file: Path, server_file: Path, days: int, name: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def build(subject: str, issuer: str, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    ca = build("test CA", "test CA", ca_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    ca_file.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    leaf = build(name, "test CA", key.public_key()).add_extension(
        x509.SubjectAlternativeName(
            [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
        ),
        critical=False,
    )
    server_file.write_bytes(
        leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture
def https(tmp_path: Path) -> Iterator[Https]:
    server = Https(tmp_path)
    yield server
    server.close()


def test_a_server_of_the_given_authority_is_trusted(https: Https) -> None:
    client = HttpClient(https.ca_file, 5.0)
    assert client.request("GET", f"https://localhost:{https.port}/").body == b"ok"


def test_a_server_of_an_unknown_authority_is_not_talked_to(https: Https) -> None:
    with pytest.raises(TransportError, match="certificate is not trusted"):
        HttpClient(None, 5.0).request("GET", f"https://localhost:{https.port}/")


def test_a_certificate_for_another_name_is_not_trusted(https: Https) -> None:
    with pytest.raises(TransportError, match="certificate is not trusted"):
        HttpClient(https.ca_file, 5.0).request("GET", f"https://127.0.0.1:{https.port}/")


def test_an_expired_certificate_is_not_trusted(tmp_path: Path) -> None:
    server = Https(tmp_path, days=-1)
    try:
        with pytest.raises(TransportError, match="expired"):
            HttpClient(server.ca_file, 5.0).request("GET", f"https://localhost:{server.port}/")
    finally:
        server.close()


def test_a_redirect_is_not_followed(https: Https) -> None:
    client = HttpClient(https.ca_file, 5.0)
    assert client.request("GET", f"https://localhost:{https.port}/moved").status == 302


@pytest.mark.parametrize("url", ["http://example.com/", "ftp://localhost/", "file:///etc/passwd"])
def test_anything_but_https_is_refused(url: str) -> None:
    with pytest.raises(TransportError, match="only https"):
        HttpClient().request("GET", url)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "Incomplete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000, "larger than"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH-2.0"),
        (b"", "closed connection"),
    ],
)
def test_a_reply_that_is_not_whole_is_no_reply(reply: bytes, problem: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(TransportError, match=problem):
            HttpClient(timeout_s=5.0).request(
                "GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", max_bytes=1000
            )
    finally:
        thread.join()
        listener.close()


def test_a_server_that_drips_a_byte_at_a_time_is_given_up_in_time() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    started = time.monotonic()
    try:
        with pytest.raises(TransportError, match="took too long"):
            HttpClient(timeout_s=0.5).request(
                "GET", f"http://127.0.0.1:{listener.getsockname()[1]}/"
            )
        assert time.monotonic() - started < 3
    finally:
        stop.set()
        thread.join()
        listener.close()


# -- facts -----------------------------------------------------------------------------------


def test_facts_are_read_from_the_kernels_files(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text("12345.67 99.00\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 20 kB\nHugePages: 3\n")
    for number, value in enumerate(("48312", "-273000", "86000")):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(value + "\n")
    facts = read_facts(tmp_path, tmp_path)
    assert facts.uptime_s == 12345.67
    assert facts.memory_total_bytes == 1_024_000
    assert facts.temperature_c == 86.0
    verdict, reasons = facts.verdict()
    assert verdict == "critical"
    assert any("temperature_c is 86" in reason for reason in reasons)
    assert any("memory_used_percent is 98" in reason for reason in reasons)


def test_a_host_without_sensors_still_has_facts(tmp_path: Path) -> None:
    facts = read_facts(tmp_path / "missing", tmp_path)
    assert facts.temperature_c is None
    assert facts.disk_total_bytes is None
    assert facts.verdict() == ("ok", [])
    assert "temperature_c" not in facts.as_dict()


# -- enrolment and the command line ----------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FakeServer]:
    clock = FakeClock(START)
    clock.true = time.time()
    with serving(clock) as server:
        yield server


def enrol(tmp_path: Path, server: FakeServer, *more: str) -> tuple[int, str]:
    token = secrets.token_urlsafe(16)
    server.behaviour.answer = (201, {"device_id": "pi-01", "token": token})
    token_file = tmp_path / "enrol-token"
    token_file.write_text(secrets.token_urlsafe(16) + "\n")
    path = write_settings(tmp_path, server.url)
    code = cli.main(["--settings", str(path), "enrol", "--token-file", str(token_file), *more])
    server.behaviour.answer = None
    return code, token


def test_enrolment_keeps_the_token_for_the_owner_alone(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, token = enrol(tmp_path, server)
    assert code == 0
    path = tmp_path / "token.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["token"] == token
    request = server.requests[0]
    assert request["path"] == "/api/devices"
    assert request["body"] == {"device_id": "pi-01", "name": "pi-01"}
    assert token not in "".join(capsys.readouterr())


def test_enrolment_does_not_overwrite_a_token_unless_told_so(
    tmp_path: Path, server: FakeServer
) -> None:
    enrol(tmp_path, server)
    before = (tmp_path / "token.json").read_text()
    assert enrol(tmp_path, server)[0] == 1
    assert (tmp_path / "token.json").read_text() == before
    assert enrol(tmp_path, server, "--replace")[0] == 0
    assert (tmp_path / "token.json").read_text() != before


@pytest.mark.parametrize(("status", "advice"), [(401, "ask for a new one"), (409, "retire")])
def test_a_refused_enrolment_says_what_to_do(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str], status: int, advice: str
) -> None:
    server.behaviour.answer = (status, {"detail": "No."})
    token_file = tmp_path / "enrol-token"
    token_file.write_text("x")
    path = write_settings(tmp_path, server.url)
    assert cli.main(["--settings", str(path), "enrol", "--token-file", str(token_file)]) == 1
    assert advice in capsys.readouterr().err
    assert not (tmp_path / "token.json").exists()


def test_run_without_enrolment_says_to_enrol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_settings(tmp_path, "https://fleet.example.com")
    assert cli.main(["--settings", str(path), "run"]) == 1
    assert "overlord-device enrol" in capsys.readouterr().err


class Running:
    """The agent as a process of its own."""

    def __init__(self, settings: Path, log: Path, **environment: str) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "device.agent.overlord_device", "--settings", settings, "run"],
            cwd=ROOT,
            stderr=log.open("a"),
            env={**os.environ, "NO_PROXY": "*", **environment},
        )

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


def wait_for(condition: Any, what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_the_agent_reports_survives_an_outage_and_a_kill_and_ends_cleanly(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    enrol(tmp_path, server)
    settings = write_settings(tmp_path, server.url, "period_s = 1")
    log = tmp_path / "log"
    agent = Running(settings, log)
    wait_for(lambda: len(server.rows) >= 2, "no status came")
    first = server.rows[0]
    assert first["device_id"] == "pi-01"
    assert first["uptime_seconds"] > 0
    assert first["metrics"]["boot_count"] == 1.0
    assert first["metrics"]["memory_total_bytes"] > 0

    second = cli.main(["--settings", str(settings), "run"])
    assert second == 1
    assert "running" in capsys.readouterr().err

    server.behaviour.away = True
    wait_for(lambda: "not delivered" in log.read_text(), "the outage was not logged")
    agent.end(signal.SIGKILL)
    waiting = _waiting(settings, capsys)
    assert waiting >= 1
    server.behaviour.away = False
    agent = Running(settings, log)
    have = len(server.rows)
    wait_for(lambda: len(server.rows) >= have + waiting, "the backlog did not come")
    assert agent.end() == 0
    assert len(set(server.ids)) == len(server.ids)
    times = [row["metrics"]["monotonic_seconds"] for row in server.rows]
    assert times == sorted(times)
    assert server.rows[-1]["metrics"]["boot_count"] == 1.0
    assert "Traceback" not in log.read_text()


def test_systemd_is_told_that_the_agent_is_ready_alive_and_stopping(
    tmp_path: Path, server: FakeServer
) -> None:
    enrol(tmp_path, server)
    settings = write_settings(tmp_path, server.url, "period_s = 1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        agent = Running(settings, tmp_path / "log", NOTIFY_SOCKET=str(tmp_path / "notify"))
        told = [systemd.recv(100) for _ in range(3)]
        assert agent.end() == 0
        told.append(systemd.recv(100))
        while told[-1] == b"WATCHDOG=1":
            told.append(systemd.recv(100))
    assert sorted(told[:2]) == [b"READY=1", b"WATCHDOG=1"]
    assert told[2] == b"WATCHDOG=1"
    assert told[-1] == b"STOPPING=1"


def test_the_service_is_a_user_of_its_own_without_any_right() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "device/agent/systemd/overlord-device.service")
    service = unit["Service"]
    assert service["User"] == service["Group"] == "overlord-device"
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ""
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert (service["Type"], service["Restart"]) == ("notify", "always")


def _waiting(settings: Path, capsys: pytest.CaptureFixture[str]) -> int:
    capsys.readouterr()
    cli.main(["--settings", str(settings), "status", "--json"])
    return int(json.loads(capsys.readouterr().out)["waiting"])


def test_status_names_what_is_wrong(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_settings(tmp_path, server.url)
    assert cli.main(["--settings", str(path), "status"]) == 1
    assert "overlord-device enrol" in capsys.readouterr().out
    assert not (tmp_path / "queue.db").exists()  # looking must not make it
