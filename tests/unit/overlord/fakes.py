"""A runner that records commands, and a node on disk."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from overlord.facts.observe import Facts
from overlord.facts.services import Container, ExpectedService
from overlord.facts.system import Disk, Memory
from overlord.facts.tailnet import Tailnet
from overlord.journal import BootState
from overlord.paths import Paths
from overlord.runner import Command, Result

Answer = Result | Callable[[Command], Result]


@dataclass
class FakeRunner:
    """Answers by the first key that is part of a command's line; anything else ends well."""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)

    def run(self, command: Command) -> Result:
        self.commands.append(command)
        for key, answer in self.answers.items():
            if key in command.line:
                return answer(command) if callable(answer) else answer
        return Result(0)

    @property
    def lines(self) -> list[str]:
        return [command.line for command in self.commands]

    def ran(self, part: str) -> bool:
        return any(part in line for line in self.lines)


def tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


COMPOSE = """
services:
  postgres:
    secrets: [postgres_superuser_password]
  migrate:
    image: registry.example.com/overlord/api:1
    profiles: [tools]
    secrets: [postgres_superuser_password, postgres_app_password]
  api:
    secrets: [{source: api_enrol_token}]
    depends_on: {postgres: {condition: service_healthy}}
"""


def bundle(mark: str, node: str = "vps-01", compose: str = COMPOSE) -> tuple[str, bytes]:
    """A bundle's SHA-256 and bytes."""
    document = {
        "node": node,
        "peer": "vps-02",
        "role": "primary",
        "backup": {
            "endpoint": "https://s3.example.com",
            "region": "eu",
            "buckets": {"bundles": "overlord-bundles"},
        },
    }
    data = tar(
        {
            f"nodes/{node}/node.json": json.dumps(document).encode(),
            f"nodes/{node}/compose.yaml": compose.encode(),
            "mark": mark.encode(),
        }
    )
    return hashlib.sha256(data).hexdigest(), data


BOOT = {
    "version": 1,
    "node": "vps-01",
    "admin_user": "fleetadmin",
    "deploy_user": "overlord-deploy",
    "admin_cidrs": ["203.0.113.0/24"],
    "ntp_servers": ["ntp1.example.com", "ntp2.example.com", "ntp3.example.com"],
    "tailscale_login_server": None,
}


def write_boot(root: Path, state: str = "done", **changes: object) -> Paths:
    """boot.json and a journal."""
    paths = Paths(root)
    paths.boot_settings.parent.mkdir(parents=True, exist_ok=True)
    paths.boot_settings.write_text(json.dumps({**BOOT, **changes}))
    paths.journal.parent.mkdir(parents=True, exist_ok=True)
    journal = {"version": 1, "node": "vps-01", "state": state, "updated": 1.0, "steps": []}
    paths.journal.write_text(json.dumps(journal))
    return paths


def healthy_facts() -> Facts:
    """A primary without a care."""
    return Facts(
        time=1_000_000.0,
        node="vps-01",
        peer="vps-02",
        role="primary",
        environment="test",
        public_name="fleet.example.com",
        release="a" * 12,
        boot=BootState("vps-01", "done"),
        expected=(ExpectedService("api"), ExpectedService("migrate", one_shot=True)),
        containers=(
            Container("api", "running", "healthy"),
            Container("migrate", "exited", exit_code=0),
        ),
        docker=True,
        postgres=True,
        disk=Disk("/var/lib/docker", 100, 60),
        memory=Memory(1000, 500),
        tailnet=Tailnet("Running", "100.64.0.1", 1, 1),
        clock_synchronised=True,
        container=False,
        firewall=True,
        metadata_guarded=True,
        certificate_days=60.0,
        certificate_source="origin",
        certificate_error=None,
        reboot_required=False,
        logins=None,
        processes_out_of_place=(),
        file_check=None,
        last_change=None,
        cut_short=None,
        compose_address="100.64.0.1",
    )
