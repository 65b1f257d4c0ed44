"""What nginx and the API behind it bear: slow clients, and ten thousand connections at once.

nginx runs as rendered, the API on a real PostgreSQL. An honest device at an address of its own
posts all the while, each time on a new connection, as devices do. The figures are printed.
"""

from __future__ import annotations

import collections
import contextlib
import json
import resource
import select
import socket
import ssl
import struct
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import psutil
import pytest

from tests.config.conftest import written
from tests.config.test_nginx import Ports, Site, serving
from tests.support.api import Api, running_api
from tests.support.stack import VPS_01, context

CONNECTIONS = 10_000
# What else counts to the container's limit: files in /tmp, the kernel's sockets.
BESIDE_MIB = 64
NAME = b"Host: fleet.example.com\r\n"


@dataclass
class Front:
    """nginx, the API behind it, and how to look at them."""

    site: Site
    api: Api
    master: psutil.Process
    settings: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.settings = ssl.create_default_context()
        self.settings.check_hostname = False
        self.settings.verify_mode = ssl.CERT_NONE

    def connect(self, source: str = "127.0.0.1", receive_bytes: int | None = None) -> ssl.SSLSocket:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if receive_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.settimeout(60)
        plain.bind((source, 0))
        plain.connect(("127.0.0.1", self.site.ports.https))
        return self.settings.wrap_socket(plain)

    def sockets(self) -> int:
        return sum(worker.num_fds() for worker in self.master.children())

    def mib(self) -> float:
        """Memory of all of nginx; what its processes share counts once."""
        processes = [self.master, *self.master.children()]
        own = sum(process.memory_full_info().uss for process in processes)
        shared = max(process.memory_info().shared for process in processes)
        return float(own + shared) / 2**20

    def expect_sockets(self, most: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.sockets() > most:
            assert time.monotonic() < deadline, f"{self.sockets()} sockets are left"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= CONNECTIONS + 2000, f"this machine lets a process open {hard} files; raise it"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ports = Ports()
    try:
        with (
            running_api(ports.api) as api,
            written(context(trusted_proxy_cidrs=())) as node,
            serving(node, api=False, ports=ports) as site,
        ):
            yield Front(site, api, _master(str(node.folder / "local.conf")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _master(config: str) -> psutil.Process:
    """nginx' first process, be it in a container or not."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if line.startswith("nginx: master") and config in line:
                return process
    raise AssertionError(f"no nginx runs with {config}")


@dataclass
class Honest:
    """A device that posts as long as the block runs."""

    codes: collections.Counter[str]
    seconds: list[float]
    sent: list[str]

    def said(self) -> str:
        ordered = sorted(self.seconds)
        return (
            f"honest device: {dict(self.codes)}, median {ordered[len(ordered) // 2] * 1000:.0f} ms,"
            f" slowest {ordered[-1] * 1000:.0f} ms"
        )


@contextlib.contextmanager
def honest_device(front: Front, source: str) -> Iterator[Honest]:
    device_id = f"pi-{uuid.uuid4().hex[:8]}"
    token = front.api.enrol(device_id)
    honest = Honest(collections.Counter(), [], [])
    stop = threading.Event()

    def post() -> None:
        while not stop.wait(0.1):
            event_id = str(uuid.uuid4())
            body = {
                "device_id": device_id,
                "event_id": event_id,
                "event_time": datetime.now(UTC).isoformat(),
                "status": "ok",
            }
            headers = {"Host": "fleet.example.com", "Authorization": f"Bearer {token}"}
            started = time.monotonic()
            try:
                transport = httpx.HTTPTransport(verify=False, local_address=source)
                with httpx.Client(transport=transport, timeout=30) as client:
                    url = f"https://127.0.0.1:{front.site.ports.https}/api/status"
                    code = str(client.post(url, json=body, headers=headers).status_code)
            except httpx.HTTPError as error:
                code = type(error).__name__
            honest.codes[code] += 1
            honest.seconds.append(time.monotonic() - started)
            if code == "200":
                honest.sent.append(event_id)

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield honest
    finally:
        stop.set()
        thread.join()
    assert set(honest.codes) == {"200"}, honest.said()
    assert sorted(row[1] for row in front.api.rows(device_id)) == sorted(honest.sent)


def answers(sockets: Sequence[ssl.SSLSocket]) -> collections.Counter[str]:
    """What each connection has been told so far, and what was closed on."""
    told: collections.Counter[str] = collections.Counter()
    poller = select.poll()
    by_number = {one.fileno(): one for one in sockets}
    for number in by_number:
        poller.register(number, select.POLLIN)
    ready = {number for number, _ in poller.poll(0)}
    for number, one in by_number.items():
        if number not in ready:
            told["nothing"] += 1
            continue
        one.settimeout(0.01)
        try:
            text = one.recv(65536)
        except TimeoutError:
            told["nothing"] += 1
        except OSError:
            told["reset"] += 1
        else:
            told[text.split(b" ", 2)[1].decode() if text else "closed"] += 1
    return told


@pytest.mark.timeout(400)
@pytest.mark.parametrize("addresses", [1, 50], ids=["one-address", "fifty-addresses"])
def test_ten_thousand_connections_are_borne_while_an_honest_device_is_answered(
    front: Front, addresses: int
) -> None:
    limit = VPS_01.limits["nginx"].memory_mb
    idle_sockets, before, api_before = front.sockets(), front.mib(), front.api.resident_mib()

    def opened(number: int) -> ssl.SSLSocket:
        connection = front.connect(f"127.0.1.{1 + number % addresses}")
        # Answered by nginx itself, and kept open for the next request.
        connection.sendall(b"GET / HTTP/1.1\r\nHost: another.example.net\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 421")
        return connection

    attackers: list[ssl.SSLSocket] = []
    try:
        with honest_device(front, "127.0.0.2") as honest:
            started = time.monotonic()
            with ThreadPoolExecutor(8) as pool:
                attackers += pool.map(opened, range(CONNECTIONS))
            seconds = time.monotonic() - started
            idle = front.mib()
            header = b"GET / HTTP/1.1\r\n" + NAME + b"X-Long: " + b"x" * 6000 + b"\r\nX-More: "
            header += b"y" * 7000
            body = b"POST /api/status HTTP/1.1\r\n" + NAME + b"Content-Length: 200000\r\n\r\n"
            for number, connection in enumerate(attackers):
                # A third stay idle, a third never end their header, a third never end their body.
                if number % 3:
                    connection.sendall(header if number % 3 == 1 else body + b"x" * 7000)
            time.sleep(1.0)
            held, busy = front.sockets(), front.mib()
            told = answers(attackers)
            time.sleep(15.0)  # longer than a header and a pause in a body may take
            left = front.sockets()
        print(f"\n{CONNECTIONS} connections from {addresses} address(es) in {seconds:.0f} s")
        print(f"sockets of nginx: {idle_sockets} before, {held} at the height, {left} 15 s later")
        print(
            f"memory of nginx: {before:.0f} MiB before, {idle:.0f} idle, {busy:.0f} at the height,"
            f" limit {limit}; of the API: {api_before:.0f} before, {front.api.resident_mib():.0f}"
        )
        print(f"told so far: {dict(told)}; {honest.said()}")
    finally:
        for connection in attackers:
            connection.close()
    assert held >= CONNECTIONS
    assert left < CONNECTIONS / 2
    assert busy < limit - BESIDE_MIB
    assert front.api.resident_mib() < api_before + 32
    assert set(told) <= {"nothing", "429", "closed", "reset", "413", "408"}
    if addresses == 1:
        assert told["429"] > CONNECTIONS / 4  # all slow bodies but 200
    front.expect_sockets(idle_sockets + 64, 70)


def test_a_header_that_never_ends_is_cut_off_after_ten_seconds(front: Front) -> None:
    with front.connect() as connection:
        started = time.monotonic()
        connection.sendall(b"GET /api/devices HTTP/1.1\r\n" + NAME)
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 30:
                connection.sendall(b"X-A: b\r\n")
                time.sleep(0.5)
        assert 8 < time.monotonic() - started < 20


def test_a_slow_body_costs_the_api_nothing_and_is_cut_off_when_it_stops(front: Front) -> None:
    asked = _requests(front.api)
    with front.connect() as connection:
        connection.sendall(
            b"POST /api/status HTTP/1.1\r\n" + NAME + b"Content-Length: 1000\r\n\r\n"
        )
        for _ in range(6):
            connection.sendall(b"x")
            time.sleep(0.5)
        started = time.monotonic()
        with contextlib.suppress(OSError):
            assert connection.recv(65536)[:12] in (b"", b"HTTP/1.1 408")
        assert time.monotonic() - started < 20
    assert _requests(front.api) == asked


def _requests(api: Api) -> float:
    """Statuses that were posted to the API, by its own count."""
    text = httpx.get(f"{api.url}/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if 'route="/api/status"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if "_total" in line)


@pytest.mark.timeout(300)
def test_pages_that_open_the_live_stream_and_do_not_read_are_cut_off_and_cost_no_memory(
    front: Front,
) -> None:
    devices = {name: front.api.enrol(name) for name in (f"pi-stream-{n}" for n in range(60))}
    before = front.api.resident_mib(), front.mib()
    request = b"GET /api/stream HTTP/1.1\r\n" + NAME
    request += f"Authorization: Bearer {front.api.operator_token}\r\n\r\n".encode()
    most = before
    rounds = 0
    with contextlib.ExitStack() as stack:
        honest = stack.enter_context(honest_device(front, "127.0.0.2"))
        pool = stack.enter_context(ThreadPoolExecutor(4))
        client = stack.enter_context(httpx.Client(base_url=front.api.url, trust_env=False))
        poller = select.poll()
        for number in range(40):
            reader = stack.enter_context(front.connect(f"127.0.2.{1 + number}", receive_bytes=2048))
            reader.sendall(request)
            assert reader.recv(64).startswith(b"HTTP/1.1 200")
            poller.register(reader, 0)  # an end is told in any case
        cut: set[int] = set()
        deadline = time.monotonic() + 150
        while len(cut) < 40:
            assert time.monotonic() < deadline, f"{len(cut)} of 40 pages were cut off"
            # Every device changes at once: 150 KiB for each page, which takes none of it.
            list(pool.map(lambda item: _post_large(client, *item), devices.items()))
            rounds += 1
            for number, _ in poller.poll(0):
                cut.add(number)
                poller.unregister(number)
            most = max(most[0], front.api.resident_mib()), max(most[1], front.mib())
    print(
        f"\n40 pages that do not read, cut off after {rounds} changes of {len(devices)} devices;"
        f" MiB of the API {before[0]:.0f}, at most {most[0]:.0f}; of nginx {before[1]:.0f},"
        f" at most {most[1]:.0f}; {honest.said()}"
    )
    assert most[0] < before[0] + 64
    assert most[1] < before[1] + 32


def _post_large(client: httpx.Client, device_id: str, token: str) -> None:
    body = {
        "device_id": device_id,
        "event_id": str(uuid.uuid4()),
        "event_time": datetime.now(UTC).isoformat(),
        "status": "ok",
        "message": "x" * 500,
        "metrics": {f"a_metric_of_some_length_{number}": 0.1 for number in range(64)},
    }
    answer = client.post("/api/status", json=body, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text


def test_a_batch_larger_than_nginx_keeps_in_memory_arrives_whole(front: Front) -> None:
    token = front.api.enrol("pi-batch")
    reports = [
        {
            "device_id": "pi-batch",
            "event_id": str(uuid.uuid4()),
            "event_time": datetime.now(UTC).isoformat(),
            "status": "ok",
            "message": "x" * 300,
        }
        for _ in range(200)
    ]
    with front.site.client() as client:
        answer = client.post(
            f"https://127.0.0.1:{front.site.ports.https}/api/status",
            json={"reports": reports},
            headers={"Host": "fleet.example.com", "Authorization": f"Bearer {token}"},
        )
    assert answer.status_code == 200, answer.text
    assert {row[1] for row in front.api.rows("pi-batch")} == {one["event_id"] for one in reports}


def test_what_is_refused_is_refused_in_words_without_a_trace(front: Front) -> None:
    """Everything here passes nginx or is stopped by it; neither says more than it should."""
    cases: dict[str, tuple[bytes, bytes]] = {
        "no token": (b"POST /api/status", b""),
        "a body that is no JSON": (b"POST /api/status", b"{" * 5000),
        "a body too large": (b"POST /api/status", b"x" * 300_000),
        "a method that is none": (b"BREW /api/status", b""),
        "an unknown path": (b"GET /api/nothing/../../etc/passwd", b""),
        "a path of 9,000 characters": (b"GET /api/" + b"x" * 9000, b""),
        "a broken escape": (b"GET /api/devices/%zz%00", b""),
    }
    for what, (start, body) in cases.items():
        with front.connect() as connection:
            head = start + b" HTTP/1.1\r\n" + NAME + b"Connection: close\r\nContent-Length: "
            with contextlib.suppress(OSError):  # refused while it is still sent
                connection.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            answer = b""
            with contextlib.suppress(OSError):
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, content = answer.partition(b"\r\n\r\n")
        assert head.split(b" ")[1][:1] == b"4", (what, answer[:200])
        for secret in (b"Traceback", b"psycopg", b"SELECT", b"nginx/", b"/usr/", b".py"):
            assert secret not in answer, (what, answer)
        if b"problem+json" in head:
            assert json.loads(content)["detail"], what
