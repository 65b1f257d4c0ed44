"""What a round that was not good leaves to look at."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from chaos.arbiter import ArbiterPage
from chaos.score import Claim
from tests.e2e.sandbox_world import SandboxWorld

BEFORE_SECONDS = 30
_JOURNAL = ("journalctl", "--no-pager", "-o", "short-precise")
COMMANDS = {
    "role.json": ("overlordctl", "role", "--json"),
    "agent.log": (*_JOURNAL, "-u", "overlord-agent"),
    "postgres.log": (*_JOURNAL, "-t", "overlord-postgres-1"),
    "api.log": (*_JOURNAL, "-t", "overlord-api-1"),
    "timelines.txt": (
        "sh", "-c", "cd /var/lib/docker/volumes/overlord_postgres-data/_data; "
        "ls -l . kept pgdata/pg_wal; tail -n +1 pgdata/pg_wal/*.history",
    ),
}  # fmt: skip


def keep_evidence(
    world: SandboxWorld, arbiter: ArbiterPage, home: Path, since: float, claims: Sequence[Claim]
) -> Path:
    """Keep what both nodes and the arbiter have on record, beside the round's own; the folder."""
    folder = home / "evidence"
    folder.mkdir(exist_ok=True)
    for node in sorted(world.servers()):
        for name, argv in COMMANDS.items():
            if argv[0] == "journalctl":
                argv = (*argv, f"--since=@{int(since) - BEFORE_SECONDS}")
            try:
                text = world.on_node(node, *argv, check=False).text
            except (AssertionError, subprocess.TimeoutExpired) as error:
                text = f"{node} is off or does not answer: {error}\n"
            (folder / f"{node}-{name}").write_text(text)
    try:
        text = json.dumps(arbiter.read(), indent=1)
    except OSError as error:
        text = f"the arbiter does not answer: {error}\n"
    (folder / "arbiter.json").write_text(text)
    lines = [json.dumps(asdict(claim)) for claim in claims]
    (folder / "claims.jsonl").write_text("\n".join(lines) + "\n")
    return folder
