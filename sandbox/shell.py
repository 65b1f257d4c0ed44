"""`python -m sandbox ssh`: a shell or a command on a server."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sandbox.commands import SandboxError, run
from sandbox.lifecycle import environment
from sandbox.machines.daemon import Docker
from sandbox.machines.docker import NAME_LABEL
from sandbox.world import NETWORK, REPOSITORY, World

DEPLOY_USER = "overlord-deploy"
KEY_OUTPUT = "deployPrivateKey"
STACK = "sandbox"


def open_shell(world: World, node: str, command: Sequence[str], console: Console) -> int:
    """Run a command on the node over SSH with the deploy key, or open a shell as root.

    The deploy key may run commands and has no terminal, here as in production. So a shell comes
    through Docker, which stands for the vendor's console. Returns the exit code.
    """
    docker = Docker(world)
    name = find_container(docker, node)
    if command:
        key = deploy_key(world)
        if key:
            return over_ssh(docker, name, key, command)
        console.print(f"[yellow]no {KEY_OUTPUT} in the stack's outputs: as root by Docker[/yellow]")
        return _exec(docker, name, ["sh", "-c", shlex.join(command)], terminal=False)
    console.print(f"[dim]a root shell on {node} by Docker, as on the vendor's console[/dim]")
    return _exec(docker, name, ["bash", "--login"], terminal=os.isatty(0))


def find_container(docker: Docker, node: str) -> str:
    """Return the container of a server that runs."""
    found = docker.lines("ps", "--quiet", "--filter", f"label={NAME_LABEL}={node}")
    if found:
        return found[0]
    template = f'{{{{.Label "{NAME_LABEL}"}}}}'
    running = docker.lines("ps", "--filter", f"label={NAME_LABEL}", "--format", template)
    raise SandboxError(
        f"no server named {node} runs",
        f"those that run: {', '.join(sorted(running)) or 'none'}",
    )


def deploy_key(world: World) -> str | None:
    """Ask Pulumi for the private key of the deploy user; None if the stack has none."""
    try:
        shown = run(
            ["pulumi", "stack", "output", "--json", "--show-secrets", "--stack", STACK],
            env=environment(world),
            cwd=REPOSITORY,
        )
    except SandboxError:
        return None
    key = json.loads(shown).get(KEY_OUTPUT)
    return str(key) if key else None


def over_ssh(docker: Docker, name: str, key: str, command: Sequence[str]) -> int:
    """Run a command on a server with the key, which is on disk for as long as it takes."""
    template = f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}'
    address = docker("inspect", "--format", template, name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "key"
        file.touch(mode=0o600)
        file.write_text(key if key.endswith("\n") else f"{key}\n")
        argv = [
            *("ssh", "-i", str(file), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            # Each sandbox has other keys under the same addresses. The program itself pins them.
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-o", "LogLevel=ERROR", f"{DEPLOY_USER}@{address}", shlex.join(command)),
        ]
        return subprocess.run(argv).returncode


def _exec(docker: Docker, name: str, command: list[str], *, terminal: bool) -> int:
    flags = ["--interactive", "--tty"] if terminal else ["--interactive"]
    argv = ["docker", "exec", *flags, name, *command]
    return subprocess.run(argv, env={**os.environ, **docker.env}).returncode
