"""`python -m recovery STACK`: write the stack's recovery kit. Run by `make recovery-kit`."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from recovery.kit import (
    Facts,
    KitError,
    cover,
    export_for_new_keys,
    pack,
    prepare,
    seal,
    settings_without_keys,
    write,
)


def output(*command: str) -> str:
    """What a command says. Raises KitError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise KitError(f"{command[0]} is not installed") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise KitError(f"`{' '.join(command)}` failed: {last[0]}")
    return done.stdout


def repository() -> str:
    """Where this clone came from, and its commit; what cannot be had is left out."""
    parts = []
    for command in (("git", "remote", "get-url", "origin"), ("git", "rev-parse", "HEAD")):
        try:
            parts.append(output(*command).strip())
        except KitError:
            parts.append("unknown")
    return f"{parts[0]}, commit {parts[1]}"


def make(stack: str, folder: Path, passphrase: str, now: datetime) -> Path:
    """Write the kit; returns its path. Raises KitError."""
    export = output("pulumi", "stack", "export", "--show-secrets", "--stack", stack)
    backend = str(json.loads(output("pulumi", "whoami", "--json")).get("url", "unknown"))
    settings = Path(f"Pulumi.{stack}.yaml")
    if not settings.exists():
        raise KitError(f"{settings} is not here: run this in the clone that you deploy from")
    secret = output("pulumi", "config", "--json", "--show-secrets", "--stack", stack)
    files = {
        "stack.json": export_for_new_keys(export).encode(),
        settings.name: settings_without_keys(settings.read_text()).encode(),
        "prepare.sh": prepare(json.loads(secret), stack).encode(),
    }
    path = folder / f"recovery-kit-{stack}-{now:%Y%m%d-%H%M%S}.txt"
    facts = Facts(stack, backend, repository(), now)
    write(path, cover(facts, path.name) + seal(pack(files, now), passphrase))
    return path


@click.command()
@click.argument("stack")
@click.option("--to", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--passphrase-file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
def main(stack: str, to: Path, passphrase_file: Path | None) -> None:
    """Write the recovery kit of STACK."""
    try:
        if passphrase_file:
            passphrase = passphrase_file.read_text().rstrip("\n")
        else:
            passphrase = getpass.getpass("Passphrase of the kit: ")
            if getpass.getpass("Once more: ") != passphrase:
                raise KitError("the two are not the same: run this again")
        path = make(stack, to, passphrase, datetime.now(UTC))
    except KitError as error:
        click.echo(f"recovery kit: {error}", err=True)
        sys.exit(1)
    click.echo(f"{path}: keep it and its passphrase apart, and both outside of this machine")


if __name__ == "__main__":
    main()
