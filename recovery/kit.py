"""The recovery kit: one sealed file that brings a pair back without the laptop it was run from.

It holds the stack's whole export with its secrets, among them the key without which no backup can
be read. It is sealed with a passphrase by openssl, and opens with openssl alone.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

CIPHER = ("-aes-256-cbc", "-pbkdf2", "-iter", "1000000", "-md", "sha256")
FENCE = "-----BEGIN SEALED KIT-----"
_KEYS = ("encryptionsalt", "encryptedkey", "secretsprovider")
_SALT = "salt of the new state"
SHORTEST = 16
"""Characters of a passphrase: whoever finds the file may try as long as they like."""


class KitError(Exception):
    """The kit cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Facts:
    """What stands readable on the kit.

    Args:
        stack: name of the stack.
        backend: where its state is.
        repository: where this repository is, and the commit.
        made: when.
    """

    stack: str
    backend: str
    repository: str
    made: datetime


def seal(content: bytes, passphrase: str) -> str:
    """Seal with a passphrase; text of base64. Raises KitError."""
    if len(passphrase) < SHORTEST:
        raise KitError(f"the passphrase is too short: give {SHORTEST} characters or more")
    reading, writing = os.pipe()
    try:
        os.write(writing, passphrase.encode() + b"\n")
        os.close(writing)
        done = subprocess.run(
            ["openssl", "enc", "-e", *CIPHER, "-salt", "-a", "-pass", f"fd:{reading}"],
            input=content,
            capture_output=True,
            pass_fds=(reading,),
            check=False,
        )
    except FileNotFoundError:
        raise KitError("openssl is not installed: install it and run this again") from None
    finally:
        os.close(reading)
    if done.returncode:
        raise KitError(f"openssl could not seal the kit: {done.stderr.decode().strip()}")
    return done.stdout.decode()


def pack(files: Mapping[str, bytes], made: datetime) -> bytes:
    """A tar archive of the files, readable by their owner alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"recovery-kit/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(made.timestamp())
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def cover(facts: Facts, name: str) -> str:
    """What anybody may read: what it is and how it opens."""
    return f"""\
Recovery kit of the Overlord stack {facts.stack}, made {facts.made:%Y-%m-%d %H:%M} UTC.

state backend   {facts.backend}
repository      {facts.repository}

Inside: the stack's export with all secrets, and its settings, the secret ones apart. To open it:

  sed '1,/^{FENCE}/d' {name} | openssl enc -d {" ".join(CIPHER)} -a | tar -x

Then, in a clone of the repository, with a state backend and a passphrase of your choice:

  make venv && cp recovery-kit/Pulumi.{facts.stack}.yaml .
  pulumi stack init {facts.stack} --secrets-provider passphrase
  sh recovery-kit/prepare.sh
  pulumi stack import --stack {facts.stack} --file recovery-kit/stack.json
  pulumi up --stack {facts.stack}

The vendors' tokens are not in it: make new ones, see docs/operations/production.md.

{FENCE}
"""


def export_for_new_keys(text: str) -> str:
    """A stack's export with its secrets readable, for a state with another passphrase: the key that
    an import encrypts them with is named by `prepare`."""
    export = json.loads(text)
    export["deployment"]["secrets_providers"] = {"type": "passphrase", "state": {"salt": _SALT}}
    return json.dumps(export)


def settings_without_keys(text: str) -> str:
    """A stack's settings file without what is encrypted for the passphrase of its state, and
    without that key: it goes with any passphrase. Raises KitError where a secret is part of a
    larger setting, which could not be put back by itself."""
    document = yaml.safe_load(text) or {}
    for key in _KEYS:
        document.pop(key, None)
    settings = document.get("config") or {}
    document["config"] = {name: value for name, value in settings.items() if not _secret(value)}
    if deeper := [name for name, value in document["config"].items() if _holds_secret(value)]:
        raise KitError(f"{', '.join(deeper)} holds a secret among other things: set it by itself")
    return yaml.safe_dump(document, sort_keys=False)


def _secret(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["secure"]


def _holds_secret(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_secret(one) or _holds_secret(one) for one in inside)


def prepare(settings: Mapping[str, Mapping[str, object]], stack: str) -> str:
    """A script for a new stack: puts the secret settings back, through an input, so that no process
    list shows them, and the new state's key into the export.

    Args:
        settings: what `pulumi config --json --show-secrets` says.
        stack: name of the stack.
    """
    lines = [
        f"printf %s {shlex.quote(str(found['value']))} | "
        f"pulumi config set --secret {shlex.quote(name)} --stack {shlex.quote(stack)}"
        for name, found in sorted(settings.items())
        if found.get("secret")
    ]
    salt = f"$(sed -n 's/^encryptionsalt: //p' Pulumi.{stack}.yaml)"
    lines.append(f'sed -i "s|{_SALT}|{salt}|" recovery-kit/stack.json')
    return "\n".join(["set -e", *lines]) + "\n"


def write(path: Path, text: str) -> None:
    """Write a new file that its owner alone may read. Raises KitError when it is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KitError(f"{path} is there already: move it away first") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
