"""nginx takes its configuration and does what it says, asked over the wire."""

from __future__ import annotations

import datetime
import json
import os
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.config.conftest import RenderedNode, written
from tests.support.ports import free_port
from tests.support.programs import check, command, native, running
from tests.support.stack import VPS_01, context


def certificate(folder: Path) -> None:
    """A certificate as the node has it, for the test alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def page(folder: Path) -> None:
    """A built page as the image has it: the start, and files whose names change with them."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Overlord</title>")
    (folder / "assets" / "index-4f3a.js").write_text("0;")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@dataclass
class Ports:
    """Where the test puts what has a fixed port on a node."""

    http: int = field(default_factory=free_port)
    https: int = field(default_factory=free_port)
    own: int = field(default_factory=free_port)
    agent: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    grafana: int = field(default_factory=free_port)
    gitea: int = field(default_factory=free_port)
    leader: int = field(default_factory=free_port)


def localised(rendered: RenderedNode, ports: Ports) -> Path:
    """The same configuration with this machine's ports, paths and user; nothing else changes."""
    folder = rendered.folder
    config = (folder / "nginx/nginx.conf").read_text()
    for old, new in (
        (r"listen 80\b", f"listen 127.0.0.1:{ports.http}"),
        (r"listen \[::\]:80\b", f"listen [::1]:{ports.http}"),
        (r"listen 443\b", f"listen 127.0.0.1:{ports.https}"),
        (r"listen \[::\]:443\b", f"listen [::1]:{ports.https}"),
        (r"listen 127\.0\.0\.1:8081", f"listen 127.0.0.1:{ports.own}"),
        (r"127\.0\.0\.1:9600", f"127.0.0.1:{ports.agent}"),
        (r"127\.0\.0\.1:8000", f"127.0.0.1:{ports.api}"),
        (r"127\.0\.0\.1:3000", f"127.0.0.1:{ports.grafana}"),
        (r"127\.0\.0\.1:3001", f"127.0.0.1:{ports.gitea}"),
        (r"/etc/overlord/tls/shown/current/", f"{folder}/"),
        (r"/etc/overlord/tls/webroot", f"{folder}/webroot"),
        (r"/usr/share/overlord/page", f"{folder}/page"),
        (r"(_path|pid) /tmp/", rf"\1 {folder}/"),
    ):
        config, count = re.subn(old, new, config)
        assert count, f"{old} is not in the configuration"
    if native("nginx"):  # the images have the user and the types, this machine may not
        user = "www-data" if os.geteuid() == 0 else None
        config = config.replace("user nginx;", f"user {user};" if user else "")
        if not Path("/etc/nginx/mime.types").exists():
            (folder / "mime.types").write_text("types { text/html html; }\n")
            config = config.replace("/etc/nginx/mime.types", str(folder / "mime.types"))
    certificate(folder)
    page(folder / "page")
    path = folder / "local.conf"
    path.write_text(config)
    return path


def test_nginx_takes_its_configuration(rendered: RenderedNode) -> None:
    path = localised(rendered, Ports())
    output = check("nginx", "-t", "-c", path, folder=rendered.folder)
    assert "test is successful" in output
    assert "[warn]" not in output.replace('the "user" directive', "")


@dataclass
class Site:
    """A running nginx and what is behind it."""

    ports: Ports
    seen: list[tuple[str, dict[str, str]]]
    bodies: list[bytes] = field(default_factory=list)
    leader_writes: bool = True
    release: threading.Event = field(default_factory=threading.Event)

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(verify=False, trust_env=False, **options)  # type: ignore[arg-type]

    def https(self, path: str, host: str = "fleet.example.com", **headers: str) -> httpx.Response:
        with self.client() as client:
            return client.get(
                f"https://127.0.0.1:{self.ports.https}{path}", headers={"Host": host, **headers}
            )

    def http(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(
                f"http://127.0.0.1:{self.ports.http}{path}", headers={"Host": "fleet.example.com"}
            )


@contextmanager
def backend(port: int, name: str, site: Site) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """On this node as on one that does not lead; as the leader's API under its name."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            site.seen.append((f"{name} {self.path}", dict(self.headers)))
            site.bodies.append(body)
            self.send_response(201 if name == "leader" and site.leader_writes else 503)
            if "X-Overlord-Pass-On" in self.headers or name == "leader":
                # The leader's is one that would have it passed on for ever.
                self.send_header("X-Accel-Redirect", "@leader")
                self.send_header("X-Overlord-Leader", f"127.0.0.1:{site.ports.leader}")
            self.send_header("Retry-After", "5")
            self.send_header("Content-Length", str(len(name)))
            self.end_headers()
            self.wfile.write(name.encode())

        def do_GET(self) -> None:
            site.seen.append((f"{name} {self.path}", dict(self.headers)))
            if self.path == "/api/stream":
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b"event: hello\ndata: {}\n\n")
                self.wfile.flush()
                site.release.wait(30)
                return
            size = 5000 if self.path == "/api/large" else 0
            body = json.dumps({"from": name, **({"more": "x" * size} if size else {})}).encode()
            self.send_response(200)
            if name == "grafana":
                self.send_header("Content-Security-Policy", "script-src 'nonce-1'")
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Frame-Options", "deny")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serving(
    rendered: RenderedNode, *, api: bool = True, ports: Ports | None = None
) -> Iterator[Site]:
    ports = ports or Ports()
    site = Site(ports, [])
    config = localised(rendered, ports)
    log = rendered.folder / "nginx.log"
    line = command("nginx", "-c", config, "-g", "daemon off;", folder=rendered.folder)
    with backend(ports.agent, "agent", site), running(line, log) as process:
        deadline = time.monotonic() + 30
        while True:
            try:
                with site.client() as client:
                    client.get(f"http://127.0.0.1:{ports.own}/").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        if api:
            with backend(ports.api, "api", site), backend(ports.grafana, "grafana", site):
                yield site
        else:
            yield site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # Requests of the test come from loopback, which plays the proxy.
    with written(context(trusted_proxy_cidrs=("127.0.0.0/8",))) as node, serving(node) as site:
        yield site


def test_http_leads_to_https_with_path_and_query(site: Site) -> None:
    answer = site.http("/some/page?x=1")

    assert answer.status_code == 308
    assert answer.headers["Location"] == "https://fleet.example.com/some/page?x=1"


@pytest.mark.parametrize("path", ["/health", "/leader"])
def test_health_and_leader_are_answered_by_the_agent(site: Site, path: str) -> None:
    assert site.https(path).json() == {"from": "agent"}


def test_health_is_answered_over_plain_http_and_for_any_name(site: Site) -> None:
    assert site.http("/health").json() == {"from": "agent"}
    assert site.https("/health", host="203.0.113.7").json() == {"from": "agent"}


def test_a_name_that_is_not_ours_gets_nothing_else(site: Site) -> None:
    for path in ("/", "/api/devices", "/leader"):
        assert site.https(path, host="evil.example.net").status_code == 421


def test_the_agents_other_pages_and_the_metrics_are_not_public(site: Site) -> None:
    for path in ("/metrics", "/status", "/api/../metrics", "/health/../metrics", "//metrics"):
        answer = site.https(path)
        assert "from" not in answer.text, path


def test_the_api_sees_the_client_that_the_proxy_names(site: Site) -> None:
    site.seen.clear()
    site.https("/api/devices", **{"CF-Connecting-IP": "198.51.100.9", "X-Forwarded-For": "1.1.1.1"})

    [(where, headers)] = site.seen
    assert where == "api /api/devices"
    assert headers["X-Forwarded-For"] == "198.51.100.9"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["Host"] == "fleet.example.com"


def test_a_client_that_is_not_the_proxy_cannot_say_who_it_is() -> None:
    with written(VPS_01) as node, serving(node) as site:
        site.https("/api/devices", **{"CF-Connecting-IP": "198.51.100.9"})

    [(_, headers)] = site.seen
    assert headers["X-Forwarded-For"] == "127.0.0.1"


@pytest.mark.parametrize(
    "path", ["/", "/assets/index-4f3a.js", "/api/devices", "/health", "/nothing"]
)
def test_every_answer_carries_the_security_headers(site: Site, path: str) -> None:
    headers = site.https(path).headers

    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Overlord-Node"]
    assert "/" not in headers.get("Server", "")


def test_the_page_is_served_and_answers_are_not_stored(site: Site) -> None:
    assert "Overlord" in site.https("/").text
    assert site.https("/health").headers["Cache-Control"] == "no-store"
    assert site.https("/").headers["Cache-Control"] == "no-cache"


def test_a_file_of_the_page_is_kept_for_a_year_and_a_missing_one_is_asked_for_again(
    site: Site,
) -> None:
    there = site.https("/assets/index-4f3a.js")
    missing = site.https("/assets/index-0000.js")
    assert (there.status_code, missing.status_code) == (200, 404)
    assert "immutable" in there.headers["Cache-Control"]
    assert missing.headers["Cache-Control"] == "no-cache"


def test_what_is_large_is_packed_and_the_live_stream_is_passed_on_at_once(site: Site) -> None:
    packed = site.https("/api/large", **{"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.content) > 1024

    headers = {"Host": "fleet.example.com", "Accept-Encoding": "gzip"}
    url = f"https://127.0.0.1:{site.ports.https}/api/stream"
    with site.client() as client, client.stream("GET", url, headers=headers) as answer:
        assert "Content-Encoding" not in answer.headers
        first = next(answer.iter_text())
        # The backend holds the stream open until the first event has come through.
        site.release.set()
    assert first == "event: hello\ndata: {}\n\n"


def test_grafana_is_below_its_path_with_its_own_policy_said_once(site: Site) -> None:
    answer = site.https("/grafana/d/fleet")
    assert answer.json() == {"from": "grafana"}
    assert site.seen[-1][0] == "grafana /grafana/d/fleet"
    assert answer.headers.get_list("Content-Security-Policy") == ["script-src 'nonce-1'"]
    assert answer.headers.get_list("Cache-Control") == ["no-store"]
    assert answer.headers.get_list("X-Frame-Options") == ["DENY"]
    assert site.https("/grafana").headers["Location"].endswith("/grafana/")


def test_the_mirror_is_read_below_its_path_and_not_written() -> None:
    with (
        written(context(trusted_proxy_cidrs=("127.0.0.0/8",))) as node,
        serving(node) as site,
        backend(site.ports.gitea, "gitea", site),
    ):
        assert site.https("/git/overlord/config/raw/branch/main/manifest.json").status_code == 200
        assert site.seen[-1][0] == "gitea /overlord/config/raw/branch/main/manifest.json"
        asked = len(site.seen)
        assert site.https("/git/metrics").status_code == 404
        assert site.https("/git//metrics").status_code == 404
        with site.client() as client:
            for path in (
                "/git/api/v1/repos/migrate",
                "/git/o/r/git-receive-pack",
                "/git/user/login",
            ):
                url = f"https://127.0.0.1:{site.ports.https}{path}"
                answer = client.post(url, content=b"{}", headers={"Host": "fleet.example.com"})
                assert answer.status_code == 403, path
        assert len(site.seen) == asked


def test_a_node_without_the_mirror_says_come_again(site: Site) -> None:
    answer = site.https("/git/overlord/config")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "3"


def test_an_api_that_is_away_is_a_503_that_says_come_again() -> None:
    with written(VPS_01) as node, serving(node, api=False) as site:
        answer = site.https("/api/devices")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 503
    assert "Strict-Transport-Security" in answer.headers


def test_a_flood_from_one_address_is_answered_429_and_others_go_on(site: Site) -> None:
    request = (
        b"GET /api/devices HTTP/1.1\r\nHost: fleet.example.com\r\n"
        b"CF-Connecting-IP: 198.51.100.66\r\n"
    )
    settings = ssl.create_default_context()
    settings.check_hostname = False
    settings.verify_mode = ssl.CERT_NONE
    # All at once on one connection, so that a slow machine floods as well as a fast one.
    with (
        socket.create_connection(("127.0.0.1", site.ports.https)) as plain,
        settings.wrap_socket(plain) as connection,
    ):
        connection.sendall((request + b"\r\n") * 399 + request + b"Connection: close\r\n\r\n")
        answers = b"".join(iter(lambda: connection.recv(65536), b""))

    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
    assert set(statuses) == {b"200", b"429"}
    assert statuses.count(b"200") >= 200
    assert answers.count(b"Retry-After: 10") == statuses.count(b"429")
    assert answers.count(b'"reason":"rate_limit"') == statuses.count(b"429")
    other = site.https("/api/devices", **{"CF-Connecting-IP": "198.51.100.67"})
    assert other.status_code == 200


def test_a_body_larger_than_the_api_takes_is_refused_in_the_apis_own_form(site: Site) -> None:
    with site.client() as client:
        answer = client.post(
            f"https://127.0.0.1:{site.ports.https}/api/status",
            content=b"x" * (256 * 1024 + 1),
            headers={"Host": "fleet.example.com"},
        )
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["reason"] == "too_large"


def report(site: Site, body: bytes = b"{}", **headers: str) -> httpx.Response:
    """Post a status to the public name."""
    with site.client(timeout=30) as client:
        return client.post(
            f"https://127.0.0.1:{site.ports.https}/api/status?form=batch",
            content=body,
            headers={"Host": "fleet.example.com", **headers},
        )


@pytest.fixture
def passing() -> Iterator[Site]:
    """A node that does not lead; the test starts the leader, or does not."""
    with written(context(trusted_proxy_cidrs=("127.0.0.0/8",))) as node, serving(node) as site:
        yield site


def test_a_write_on_a_node_that_does_not_lead_is_passed_on_as_it_came(passing: Site) -> None:
    body = secrets.token_bytes(200_000)  # more than nginx keeps in memory
    with backend(passing.ports.leader, "leader", passing):
        answer = report(
            passing,
            body,
            **{
                "CF-Connecting-IP": "198.51.100.9",
                "Authorization": "Bearer of-a-device",
                "Content-Encoding": "gzip",
                "X-Overlord-Pass-On": "1",
                "X-Overlord-Leader": "203.0.113.1:80",
            },
        )
    assert (answer.status_code, answer.text) == (201, "leader")
    assert [where for where, _ in passing.seen] == [
        "api /api/status?form=batch",
        "leader /api/status?form=batch",
    ]
    assert passing.bodies == [body, body]
    sent = passing.seen[1][1]
    assert sent["X-Forwarded-For"] == sent["X-Real-IP"] == "198.51.100.9"
    assert sent["X-Forwarded-Proto"] == "https"
    assert sent["Host"] == "fleet.example.com"
    assert sent["Authorization"] == "Bearer of-a-device"
    assert sent["Content-Encoding"] == "gzip"
    assert sent["X-Request-ID"] == passing.seen[0][1]["X-Request-ID"]
    assert "X-Overlord-Pass-On" not in sent
    assert "X-Accel-Redirect" not in answer.headers
    assert "Strict-Transport-Security" in answer.headers


def test_what_was_passed_on_is_not_passed_on_again(passing: Site) -> None:
    passing.leader_writes = False
    with backend(passing.ports.leader, "leader", passing):
        answer = report(passing)
    assert (answer.status_code, answer.text) == (503, "leader")
    assert answer.headers.get_list("Retry-After") == ["5"]
    assert len(passing.seen) == 2


def test_where_nobody_leads_the_answer_is_a_503_that_says_come_again(passing: Site) -> None:
    answer = report(passing)
    assert answer.status_code == 503
    assert answer.json()["reason"] == "not_leader"
    assert answer.headers.get_list("Retry-After") == ["3"]
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_leader_that_does_not_answer_in_time_is_none(passing: Site) -> None:
    with socket.create_server(("127.0.0.1", passing.ports.leader)):
        answer = report(passing)
    assert answer.status_code == 503
    assert answer.json()["reason"] == "not_leader"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_is_refused(site: Site, version: str) -> None:
    settings = ssl.create_default_context()
    settings.check_hostname = False
    settings.verify_mode = ssl.CERT_NONE
    settings.minimum_version = ssl.TLSVersion[version]
    settings.maximum_version = ssl.TLSVersion[version]
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("127.0.0.1", site.ports.https)) as plain,
        settings.wrap_socket(plain),
    ):
        pass
