"""A certificate from a real ACME server, by the node's own command on the node's own image.

Pebble asks the emulated Cloudflare's name server for the proof; certbot is the distribution's.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from overlord.facts.certificate import last_error, shown_source
from overlord.paths import Paths
from overlord.tls.certificate import read_certificate
from sandbox.cloud.certificates import issue
from sandbox.world import REPOSITORY, World
from tests.contract.conftest import ZONE, RunningCloud
from tests.support.ports import free_port
from tests.support.programs import command, docker_daemon, running

PUBLIC_NAME = f"fleet.{ZONE}"
IMAGE = "overlord-sandbox/server:debian-12"


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    with docker_daemon():
        yield


@dataclass
class NodeFiles:
    """A node's files, and its command run among them on the image that servers boot."""

    root: Path
    ca: str

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    def renew(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`overlordctl certificate renew`."""
        mounts = (
            (self.root / "etc/overlord", "/etc/overlord"),
            (self.root / "var/lib/overlord", "/var/lib/overlord"),
            (self.root / "opt/overlord", "/opt/overlord"),
            (REPOSITORY / "overlord", "/opt/overlord/current/overlord:ro"),
            (Path(self.ca), "/ca.pem:ro"),
        )
        line = [
            *("docker", f"--host=unix://{World.here().docker_socket}", "run", "--rm"),
            *("--network=host", "--env=PYTHONPATH=/opt/overlord/current"),
            # Reloading nginx is not what this shows; compose is not on the image's PATH here.
            *("--env=REQUESTS_CA_BUNDLE=/ca.pem", "--env=PYTHONDONTWRITEBYTECODE=1"),
            *(f"--volume={source}:{target}" for source, target in mounts),
            *("--volume=" + str(self.root / "docker") + ":/usr/local/bin/docker:ro",),
            *("--entrypoint=/usr/bin/python3", IMAGE),
            *("-m", "overlord.ctl", "certificate", "renew", *options),
        ]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=180)

    def issued(self) -> bytes:
        """The chain that nginx would show."""
        return self.paths.shown_certificate.read_bytes()


@contextmanager
def pebble(folder: Path, cloud: RunningCloud, http_port: int, days: int) -> Iterator[str]:
    """An ACME server that looks names up in the emulated zone; its directory."""
    port = free_port()
    certificate, key = issue(cloud.setup.ca_dir, ["localhost"], ["127.0.0.1"])
    (folder / "pebble.pem").write_bytes(certificate)
    (folder / "pebble.key").write_bytes(key)
    config = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{free_port()}",
        "certificate": str(folder / "pebble.pem"),
        "privateKey": str(folder / "pebble.key"),
        "httpPort": http_port,
        "tlsPort": free_port(),
        "profiles": {"default": {"description": "", "validityPeriod": days * 86_400}},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    directory = f"https://127.0.0.1:{port}/dir"
    names = f"127.0.0.1:{cloud.cloud.ports['dns']}"
    line = command("pebble", "-config", folder / "pebble.json", "-dnsserver", names, folder=folder)
    log = folder / "pebble.log"
    # It refuses requests and waits by chance, to try clients; certbot asks again only once.
    steady = ("env", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_VA_NOSLEEP=1")
    with running([*steady, *line], log):
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(directory, verify=cloud.trust, trust_env=False)
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield directory


@contextmanager
def web(port: int, root: Path) -> Iterator[None]:
    """What nginx does with /.well-known/acme-challenge/ on port 80."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def node_files(folder: Path, cloud: RunningCloud, directory: str) -> NodeFiles:
    files = NodeFiles(folder / "node", cloud.ca)
    root = files.root
    home = root / "opt/overlord/current/nodes/vps-01"
    for made in (home, root / "etc/overlord/secrets", root / "var/lib/overlord"):
        made.mkdir(parents=True)
    (root / "opt/overlord/current/overlord").mkdir()
    acme = {
        "directory": directory,
        "email": "",
        "dns_api": cloud.url("cloudflare", "/client/v4"),
        "zone_id": cloud.setup.zone_id,
        "propagation_seconds": 0,
    }
    document = {"node": "vps-01", "public_name": PUBLIC_NAME, "domain": ZONE, "acme": acme}
    (home / "node.json").write_text(json.dumps(document))
    boot = {"node": "vps-01", "admin_user": "ops", "deploy_user": "overlord-deploy"}
    (root / "etc/overlord/boot.json").write_text(json.dumps(boot))
    (root / "etc/overlord/secrets/acme_dns_token").write_text(cloud.tokens.cloudflare)
    (root / "docker").write_text('#!/bin/sh\necho "nginx is not running" >&2\nexit 1\n')
    (root / "docker").chmod(0o755)
    return files


def names_of(files: NodeFiles) -> set[str]:
    home = files.paths.shown_certificate.parent
    found = read_certificate("acme", home / "cert.pem", home / "key.pem")
    assert found is not None
    assert found.key_fits
    return set(found.names)


def records(cloud: RunningCloud) -> list[Any]:
    return list(cloud.cloudflare().dns.records.list(zone_id=cloud.setup.zone_id, type="TXT"))


def test_a_certificate_is_issued_by_dns_kept_while_good_and_renewed_near_its_end(
    tmp_path: Path,
    cloud: RunningCloud,
) -> None:
    with pebble(tmp_path, cloud, free_port(), days=90) as directory:
        files = node_files(tmp_path, cloud, directory)
        first = files.renew()
        assert first.returncode == 0, first.stdout + first.stderr
        assert shown_source(files.paths) == "acme"
        assert names_of(files) == {PUBLIC_NAME, f"vps-01.{ZONE}"}
        assert records(cloud) == [], "the proofs are cleared away"
        shown = files.issued()

        again = files.renew()
        assert again.returncode == 0, again.stdout + again.stderr
        assert files.issued() == shown, "good for 90 days, so it stays"

    soon = tmp_path / "soon"
    soon.mkdir()
    with pebble(soon, cloud, free_port(), days=20) as directory:
        files = node_files(soon, cloud, directory)
        assert files.renew().returncode == 0
        shown = files.issued()
        assert files.renew().returncode == 0
        assert files.issued() != shown, "it ends within 30 days, so it is renewed"

    gone = files.renew()
    assert gone.returncode == 1
    assert "the authority gave no certificate" in gone.stderr
    assert shown_source(files.paths) == "acme", "what is there is still good"
    assert last_error(files.paths)


def test_without_a_way_into_the_zone_the_name_is_proved_by_http(
    tmp_path: Path,
    cloud: RunningCloud,
) -> None:
    cloud.cloudflare().dns.records.create(
        zone_id=cloud.setup.zone_id, type="A", name="fleet", content="127.0.0.1", ttl=60
    )
    port = free_port()
    with pebble(tmp_path, cloud, port, days=90) as directory:
        files = node_files(tmp_path, cloud, directory)
        (files.paths.secrets / "acme_dns_token").write_text("wrong")
        files.paths.acme_webroot.mkdir(parents=True)
        with web(port, files.paths.acme_webroot):
            done = files.renew()
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown_source(files.paths) == "acme"
    assert names_of(files) == {PUBLIC_NAME}


def test_without_any_proof_nginx_gets_a_certificate_of_our_own(
    tmp_path: Path,
    cloud: RunningCloud,
) -> None:
    with pebble(tmp_path, cloud, free_port(), days=90) as directory:
        files = node_files(tmp_path, cloud, directory)
        (files.paths.secrets / "acme_dns_token").write_text("wrong")
        done = files.renew()
    assert done.returncode == 1
    assert shown_source(files.paths) == "self-signed"
    assert names_of(files) == {PUBLIC_NAME, f"vps-01.{ZONE}"}
    assert "wrong" not in done.stdout + done.stderr, "a token is never repeated"
