"""What a preview without a change costs, as a ratio to an empty program's in the same run.

Real: the engine, the program, the plugins that `make install` brings. Emulated, in this process:
the vendors, on loopback. There are no servers, so this needs neither root nor the sandbox, and
takes a minute. Run with `make bench-preview`; `make bench` measures the same beside a pair that
runs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from rich.console import Console
from rich.table import Table

from bench.measure import Cost, cost_of
from sandbox.cloud.certificates import ensure_ca
from sandbox.cloud.cloud import Addresses, Setup
from sandbox.lifecycle import state_backend
from sandbox.world import INBOX_URL, REPOSITORY, World, ensure_tokens, vendor_id
from tests.contract.conftest import RunningCloud
from tests.contract.fakes import FakeDriver, FakeTailnet
from tests.e2e.sandbox_world import STACK, project_copy

PREVIEWS = 5
PREVIEW_SECONDS = 5.0
_ANYWHERE = (("127.0.0.1", 0),)
_SSH = "from pulumi_command.remote import"
_NO_SSH = "from bench.without_ssh import"


@contextmanager
def vendors(folder: Path) -> Iterator[RunningCloud]:
    """The vendors on free ports, with machines that are only written down."""
    ensure_tokens(folder / "tokens.json")
    ensure_ca(folder / "ca")
    cloud = RunningCloud(
        Setup(
            state_dir=folder,
            ca_dir=folder / "ca",
            zone="overlord.localhost",
            zone_id=vendor_id("zone"),
            account_id=vendor_id("account"),
            network="203.0.113",
            edge_address="203.0.113.2",
            edge_source="127.0.0.1",
            addresses=Addresses(*[_ANYWHERE] * len(fields(Addresses))),
        ),
        FakeDriver(),
        FakeTailnet(),
    )
    yield cloud
    cloud.stop()


def environment(cloud: RunningCloud, folder: Path) -> dict[str, str]:
    """What points Pulumi at those vendors, and its state into a folder."""
    trusted = folder / "trusted.pem"
    authorities = (Path(DEFAULT_CA_BUNDLE_PATH), Path(cloud.ca))
    trusted.write_text("\n".join(file.read_text() for file in authorities))
    (folder / "state").mkdir()
    tokens = cloud.tokens
    return {
        "PATH": os.pathsep.join([str(World.here().bin), os.environ["PATH"]]),
        "PULUMI_BACKEND_URL": state_backend(folder / "state"),
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "HCLOUD_TOKEN": tokens.hcloud,
        "CLOUDFLARE_API_TOKEN": tokens.cloudflare,
        "TAILSCALE_API_KEY": tokens.tailscale,
        "OVERLORD_B2_KEY_ID": tokens.b2_key_id,
        "OVERLORD_B2_KEY": tokens.b2_key,
        "OVERLORD_NODE_B2_KEY_ID": tokens.b2_node_key_id,
        "OVERLORD_NODE_B2_KEY": tokens.b2_node_key,
        "OVERLORD_ARBITER_DNS_TOKEN": tokens.cloudflare_dns or "",
        "OVERLORD_ALERT_SLACK_URL": f"{INBOX_URL}/slack",
        "OVERLORD_HEARTBEAT_URL_VPS_01": f"{INBOX_URL}/heartbeat/vps-01",
        "OVERLORD_HEARTBEAT_URL_VPS_02": f"{INBOX_URL}/heartbeat/vps-02",
        **dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(trusted)),
    }


def pair(cloud: RunningCloud, folder: Path) -> Path:
    """The project as it stands, at those vendors and without SSH."""
    stack_file = yaml.safe_load((REPOSITORY / f"Pulumi.{STACK}.yaml").read_text())["config"]
    config: dict[str, Any] = {
        "overlord:backup": {**stack_file["overlord:backup"], "endpoint": cloud.url("s3")},
        "overlord:protect": False,
        "hcloud:endpoint": cloud.url("hetzner", "/v1"),
        "cloudflare:baseUrl": cloud.url("cloudflare", "/client/v4"),
        "tailscale:baseUrl": cloud.url("tailscale"),
    }
    project = project_copy(folder, config=config)
    file = project / "components" / "bootstrap.py"
    text = file.read_text()
    if text.count(_SSH) != 1:
        raise RuntimeError(f"{file.name} no longer has one line `{_SSH} …`: mend bench/preview.py")
    file.write_text(text.replace(_SSH, _NO_SSH))
    return project


def empty(folder: Path) -> Path:
    """A program that makes nothing."""
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text(
        "name: empty\nruntime:\n  name: python\n  options:\n    virtualenv: .venv\n"
    )
    (folder / "__main__.py").write_text("import pulumi\n")
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    return folder


def median_preview(project: Path, env: dict[str, str]) -> Cost:
    """The middle one of some previews without a change, by time, after an up."""

    def pulumi(*arguments: str) -> Cost:
        argv = ["pulumi", *arguments, "--non-interactive"]
        return cost_of(argv, env=env, cwd=project, timeout=300)

    pulumi("stack", "init", STACK)
    pulumi("up", "--yes", "--skip-preview", "--stack", STACK)
    costs = [pulumi("preview", "--expect-no-changes", "--stack", STACK) for _ in range(PREVIEWS)]
    return sorted(costs, key=lambda cost: cost.wall)[PREVIEWS // 2]


def main() -> int:
    """Measure and print. The exit code is 1 when a preview takes longer than promised."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vendors").mkdir()
        with vendors(folder / "vendors") as cloud:
            env = environment(cloud, folder)
            floor = median_preview(empty(folder / "empty"), env)
            cost = median_preview(pair(cloud, folder / "pair"), env)
    table = Table(title="A preview without a change: seconds, and ratios to an empty program's")
    for column in ("", "pair", "empty program", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for what, mine, base in (
        ("time", cost.wall, floor.wall),
        ("processor time", cost.cpu, floor.cpu),
    ):
        table.add_row(what, f"{mine:.1f}", f"{base:.2f}", f"{mine / base:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"Promised: less than {PREVIEW_SECONDS:.0f} s on an idle machine of two cores. "
        f"Here: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}."
    )
    return 0 if cost.wall < PREVIEW_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
