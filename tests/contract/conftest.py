"""An emulated cloud on free ports of loopback, for one test, with the vendors' own clients."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import boto3
import cloudflare
import hcloud
import pytest
from botocore.config import Config
from moto.s3.models import s3_backends

from sandbox.cloud.certificates import ensure_ca
from sandbox.cloud.cloud import Addresses, Cloud, Setup
from sandbox.cloud.tokens import Tokens
from tests.contract.fakes import FakeDriver, FakeTailnet

ZONE = "overlord.localhost"
ANYWHERE = (("127.0.0.1", 0),)


class RunningCloud:
    """A cloud in a thread of its own, so that the vendors' blocking clients can call it.

    Clients are typed Any: theirs are full of optionals, and a None fails the test anyway.
    """

    def __init__(self, setup: Setup, driver: FakeDriver, tailnet: FakeTailnet) -> None:
        self.setup, self.driver, self.tailnet = setup, driver, tailnet
        self.tokens = Tokens.read(setup.state_dir / "tokens.json")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.cloud = Cloud(setup, driver, tailnet)
        self._wait(self.cloud.start())

    def _wait(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def restart(self) -> None:
        """The same cloud in a new process, as far as it can tell."""
        self.stop()
        RunningCloud.__init__(self, self.setup, self.driver, self.tailnet)

    def stop(self) -> None:
        self._wait(self.cloud.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def url(self, listener: str, path: str = "") -> str:
        scheme = "https" if listener in ("s3", "edge_https", "workers") else "http"
        return f"{scheme}://127.0.0.1:{self.cloud.ports[listener]}{path}"

    @property
    def ca(self) -> str:
        return str(self.setup.ca_dir / "ca.pem")

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    def hetzner(self, token: str | None = None) -> Any:
        return hcloud.Client(
            token=token or self.tokens.hcloud,
            api_endpoint=self.url("hetzner", "/v1"),
            poll_interval=0.02,
        )

    def cloudflare(self, token: str | None = None) -> Any:
        return cloudflare.Cloudflare(
            api_token=token or self.tokens.cloudflare,
            base_url=self.url("cloudflare", "/client/v4"),
            max_retries=0,
        )

    def s3(self, key_id: str | None = None, key: str | None = None, **config: Any) -> Any:
        options = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "retries": {"max_attempts": 0},
            **config,
        }
        client: Any = boto3.client  # boto3 builds its clients, and their types, as it goes
        return client(
            "s3",
            endpoint_url=self.url("s3"),
            region_name="eu-central-003",
            aws_access_key_id=key_id or self.tokens.b2_key_id,
            aws_secret_access_key=key or self.tokens.b2_key,
            verify=self.ca,
            config=cast(Any, Config)(**options),
        )

    def node_s3(self) -> Any:
        return self.s3(self.tokens.b2_node_key_id, self.tokens.b2_node_key)


@pytest.fixture(scope="session")
def ca_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ca")
    ensure_ca(directory)
    return directory


@pytest.fixture
def setup(tmp_path: Path, ca_dir: Path) -> Setup:
    return new_setup(tmp_path, ca_dir)


def new_setup(folder: Path, ca_dir: Path) -> Setup:
    """A cloud's setup with its state in a folder, its tokens fresh."""
    tokens = {name: secrets.token_hex(20) for name in Tokens.model_fields}
    (folder / "tokens.json").write_text(json.dumps(tokens))
    return Setup(
        state_dir=folder,
        ca_dir=ca_dir,
        zone=ZONE,
        zone_id=secrets.token_hex(16),
        account_id=secrets.token_hex(16),
        network="203.0.113",
        edge_address="203.0.113.2",
        edge_source="127.0.0.1",
        addresses=Addresses(*[ANYWHERE] * 10),
        origin_connect_seconds=1.0,
    )


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def tailnet() -> FakeTailnet:
    return FakeTailnet()


@pytest.fixture
def cloud(setup: Setup, driver: FakeDriver, tailnet: FakeTailnet) -> Iterator[RunningCloud]:
    running = RunningCloud(setup, driver, tailnet)
    yield running
    running.stop()
    s3_backends.reset()  # moto keeps its buckets in the process, whatever cloud made them


@pytest.fixture
def slow_api(setup: Setup) -> Setup:
    """A setup whose Hetzner API allows three requests an hour."""
    return replace(setup, requests_an_hour=3)
