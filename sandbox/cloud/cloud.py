"""The emulated cloud as one process: all vendors, the edge and the name server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from aiohttp import web
from starlette.types import ASGIApp

from sandbox.cloud import certificates
from sandbox.cloud.cloudflare import api as cloudflare
from sandbox.cloud.cloudflare.domain import Worker
from sandbox.cloud.control import Control
from sandbox.cloud.dns_server import DnsServer, Zone
from sandbox.cloud.edge.health import HealthChecks
from sandbox.cloud.edge.origin import OriginClient
from sandbox.cloud.edge.proxy import Edge
from sandbox.cloud.faults import Faults, FaultyApp, Vendor
from sandbox.cloud.hetzner import api as hetzner
from sandbox.cloud.hetzner.project import Project
from sandbox.cloud.inbox import Inbox
from sandbox.cloud.s3.api import StrictS3
from sandbox.cloud.s3.storage import MotoStorage
from sandbox.cloud.state import Store
from sandbox.cloud.tailnet import Tailnet
from sandbox.cloud.tailscale.api import TailscaleApi
from sandbox.cloud.tokens import Tokens
from sandbox.cloud.web import LoggedApp, SavingApp
from sandbox.cloud.workers.front import WorkersFront
from sandbox.cloud.workers.outbound import Outbound
from sandbox.cloud.workers.process import ScriptError
from sandbox.cloud.workers.runtime import WorkerRuntime
from sandbox.machines.driver import MachineDriver

log = logging.getLogger("sandbox.cloud")

Address = tuple[str, int]
KEEP_ALIVE_SECONDS = 75
"""As long as the vendors' front ends keep idle connections."""
DRAIN_SECONDS = 60
"""How long a stop waits for running actions: a machine half created would be an orphan."""


@dataclass(frozen=True)
class Addresses:
    """Where to listen. Port 0 takes a free one."""

    control: tuple[Address, ...]
    hetzner: tuple[Address, ...]
    cloudflare: tuple[Address, ...]
    tailscale: tuple[Address, ...]
    s3: tuple[Address, ...]
    edge_https: tuple[Address, ...]
    edge_http: tuple[Address, ...]
    dns: tuple[Address, ...]
    workers: tuple[Address, ...]
    inbox: tuple[Address, ...]


@dataclass(frozen=True)
class Setup:
    """What kind of cloud to emulate."""

    state_dir: Path
    ca_dir: Path
    zone: str
    zone_id: str
    account_id: str
    network: str
    """The first three bytes of the network that servers get IPv4 addresses from."""
    edge_address: str
    """What proxied names resolve to."""
    edge_source: str | None
    """The address that the edge connects to origins from; None for any."""
    addresses: Addresses
    origin_https_port: int = 443
    origin_http_port: int = 80
    origin_connect_seconds: float = 15.0
    requests_an_hour: int = hetzner.REQUESTS_AN_HOUR
    edge_networks: tuple[str, ...] = field(default=())
    """What the API names as the edge's networks; the edge's own address when empty."""
    workerd: Path | None = None
    """The program that runs Workers; without it they are stored only."""
    saved_buckets: Path | None = None
    """Folder of the buckets that outlive the cloud."""


class Cloud:
    """All listeners. `start` returns once they accept connections; `stop` ends them."""

    def __init__(self, setup: Setup, driver: MachineDriver, tailnet: Tailnet) -> None:
        self._setup = setup
        tokens = Tokens.read(setup.state_dir / "tokens.json")
        self._store = Store(setup.state_dir / "cloud.json")
        state = self._store.state
        state.cloudflare.zone = setup.zone
        state.cloudflare.zone_id = setup.zone_id
        state.cloudflare.account_id = setup.account_id
        certificates.ensure_ca(setup.ca_dir)
        self.faults = Faults()
        self._client = OriginClient(
            setup.ca_dir / "ca.pem",
            setup.edge_source,
            setup.origin_https_port,
            setup.origin_http_port,
            setup.origin_connect_seconds,
        )
        self._health = HealthChecks(state.cloudflare, self._client.probe)
        self.project = Project(state.hetzner, driver, self.faults, self._store.save, setup.network)
        self.project.recover()
        self.runtime = WorkerRuntime(
            state.cloudflare, setup.workerd, setup.state_dir / "workers", setup.state_dir / "log"
        )
        storage = MotoStorage()
        if setup.saved_buckets:
            storage.load(setup.saved_buckets)
        networks = setup.edge_networks or (f"{setup.edge_address}/32",)
        apis: dict[Vendor, ASGIApp] = {
            "hetzner": hetzner.build(self.project, tokens, setup.requests_an_hour),
            "cloudflare": cloudflare.build(
                state.cloudflare,
                tokens,
                setup.ca_dir,
                networks,
                self._health.report,
                self._deploy,
                self.runtime.remove,
            ),
            "tailscale": TailscaleApi(state.tailscale, tailnet, tokens).build(),
            "s3": StrictS3(storage, tokens),
            "workers": WorkersFront(state.cloudflare, self.runtime).build(),
        }
        self._apps: dict[str, ASGIApp] = {
            name: FaultyApp(LoggedApp(_saving(name, api, self._store), name), self.faults, name)
            for name, api in apis.items()
        }
        self._apps["control"] = Control(
            state, self.faults, storage, setup.saved_buckets, self._health, self.runtime
        ).build()
        self._apps["inbox"] = Inbox().build()
        self._zone = Zone(state.cloudflare, setup.edge_address)
        self.ports: dict[str, int] = {}
        """Name of a listener to its (first) port."""
        self._servers: list[uvicorn.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._runners: list[web.ServerRunner] = []
        self._names: list[DnsServer] = []

    async def start(self) -> None:
        """Listen everywhere."""
        setup, addresses = self._setup, self._setup.addresses
        self._store.save()
        for name in ("control", "hetzner", "cloudflare", "tailscale", "inbox"):
            self._serve(name, getattr(addresses, name), None)
        self._serve("s3", addresses.s3, self._tls([], addresses.s3))
        self._serve("workers", addresses.workers, self._tls([], addresses.workers))
        await self._start_edge()
        await self._start_workers()
        for host, port in addresses.dns:
            udp, tcp = _bind_pair(host, port)
            self.ports.setdefault("dns", tcp.getsockname()[1])
            server = DnsServer(self._zone)
            await server.start(udp, tcp)
            self._names.append(server)
        self._tasks.append(asyncio.create_task(self._health.run()))
        while not all(server.started for server in self._servers):
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)
        self.project.resume()
        log.info("the cloud of %s is up: %s", setup.zone, self.ports)

    async def stop(self) -> None:
        """Finish running actions, close everything, save."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.project.drain(), DRAIN_SECONDS)
        for server in self._servers:
            server.should_exit = server.force_exit = True
        for names in self._names:
            await names.stop()
        await self.runtime.stop()
        for runner in self._runners:
            await runner.cleanup()
        for task in self._tasks[len(self._servers) :]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hang_up()
        await self._client.stop()
        self._store.save()

    async def _hang_up(self) -> None:
        """Cut what is still connected off, and wait until its requests have come to their ends."""
        states = [server.server_state for server in self._servers]
        for connection in [one for state in states for one in state.connections]:
            connection.transport.abort()
        requests = [task for state in states for task in state.tasks]
        if requests:
            await asyncio.wait(requests, timeout=DRAIN_SECONDS)

    def _serve(self, name: str, addresses: tuple[Address, ...], tls: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            self._apps[name],
            lifespan="off",
            access_log=False,
            server_header=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        config.load()
        config.ssl = tls
        sockets = [_bind(host, port) for host, port in addresses]
        self.ports[name] = sockets[0].getsockname()[1]
        server = _Server(config)
        self._servers.append(server)
        self._tasks.append(asyncio.create_task(server.serve(sockets=sockets)))

    async def _start_edge(self) -> None:
        setup, addresses = self._setup, self._setup.addresses
        state = self._store.state.cloudflare
        tls = self._tls([setup.zone, f"*.{setup.zone}"], addresses.edge_https)
        https = [_bind(host, port) for host, port in addresses.edge_https]
        http = [_bind(host, port) for host, port in addresses.edge_http]
        self.ports["edge_https"] = https[0].getsockname()[1]
        self.ports["edge_http"] = http[0].getsockname()[1]
        await self._client.start()
        edge = Edge(state, self._health, self._client, tls, self.ports["edge_https"], self.runtime)
        runner = web.ServerRunner(web.Server(edge.handle, access_log=None, auto_decompress=False))
        await runner.setup()
        for listener in https:
            await web.SockSite(runner, listener, ssl_context=tls).start()
        for listener in http:
            await web.SockSite(runner, listener).start()
        self._runners.append(runner)
        self._tasks.append(asyncio.create_task(edge.follow_settings()))

    async def _start_workers(self) -> None:
        outbound = Outbound(
            self._store.state.cloudflare,
            self._health,
            self._client,
            lambda: f"http://127.0.0.1:{self.ports['cloudflare']}",
        )
        runner = web.ServerRunner(web.Server(outbound.handle, access_log=None))
        await runner.setup()
        listener = _bind("127.0.0.1", 0)
        await web.SockSite(runner, listener).start()
        self._runners.append(runner)
        await self.runtime.start(f"127.0.0.1:{listener.getsockname()[1]}")
        self._tasks.append(asyncio.create_task(self.runtime.keep_time()))

    async def _deploy(self, worker: Worker) -> str | None:
        try:
            await self.runtime.deploy(worker)
        except ScriptError as error:
            return str(error)
        return None

    def _tls(self, names: list[str], addresses: tuple[Address, ...]) -> ssl.SSLContext:
        hosts = sorted({host for host, _ in addresses} | {"127.0.0.1"})
        # The addresses as names too: pgBackRest compares with nothing else.
        names = [*names, "localhost", *hosts]
        return certificates.server_context(*certificates.issue(self._setup.ca_dir, names, hosts))


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: one process, one owner of signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _saving(name: Vendor, api: ASGIApp, store: Store) -> ASGIApp:
    return api if name in ("s3", "workers") else SavingApp(api, store.save)


def _bind(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"cannot listen on {host}:{port}: {error.strerror}; is it in use?"
        ) from None
    return listener


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on the same port."""
    tcp = _bind(host, port)
    udp = _bind(host, tcp.getsockname()[1], socket.SOCK_DGRAM)
    return udp, tcp
