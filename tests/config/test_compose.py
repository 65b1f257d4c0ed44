"""Docker Compose takes the rendered file, and publishes what it should."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from overlord.paths import Paths
from tests.config.conftest import RenderedNode
from tests.support.programs import check, command

TAILNET_IP = "100.64.0.1"
ON_EVERY_NODE = {
    "/",
    "/etc/ssl/certs",
    "/etc/ssl/certs/ca-certificates.crt",
    "/sys",
    "/var/lib/docker/image",
    "/var/run/docker.sock",
}


def resolved(rendered: RenderedNode) -> dict[str, Any]:
    environment = rendered.folder / "compose.env"
    environment.write_text(f"OVERLORD_TAILNET_IP={TAILNET_IP}\n")
    output = check(
        "docker-compose", "--env-file", environment, "--file", rendered.folder / "compose.yaml",
        "config", "--format", "json",
    )  # fmt: skip
    document: dict[str, Any] = json.loads(output[output.index("{") :])
    return document


def test_compose_takes_the_file_and_resolves_every_variable(rendered: RenderedNode) -> None:
    document = resolved(rendered)

    assert document["name"] == "overlord"
    text = json.dumps(document)
    assert f"--cluster.advertise-address={TAILNET_IP}:9094" in text
    assert "OVERLORD_TAILNET_IP" not in text


def test_compose_publishes_nothing_beyond_loopback_and_the_tailnet(
    rendered: RenderedNode,
) -> None:
    for name, service in resolved(rendered)["services"].items():
        for port in service.get("ports", []):
            assert port["host_ip"] in {"127.0.0.1", TAILNET_IP}, (name, port)


# See overlord.firstboot: its steps make these before the stack starts.
MADE_BY_FIRST_BOOT = {Paths().tls}


def test_what_is_mounted_exists_in_the_bundle_or_on_every_node(rendered: RenderedNode) -> None:
    for name, service in resolved(rendered)["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                source = Path(volume["source"])
                assert volume["read_only"] is True, (name, volume)
                if source in MADE_BY_FIRST_BOOT or volume["source"] in ON_EVERY_NODE:
                    continue
                assert source.is_relative_to(rendered.folder), (name, volume)
                assert source.exists(), (name, volume)


def test_without_the_tailnet_address_compose_says_what_is_missing(rendered: RenderedNode) -> None:
    result = subprocess.run(
        command("docker-compose", "--file", rendered.folder / "compose.yaml", "config", "-q"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "is tailscaled up?" in result.stderr
