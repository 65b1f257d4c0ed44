"""The recovery kit: one sealed file that brings a pair back without the laptop it was run from.

It holds the stack's whole export with its secrets, among them the key without which no backup can
be read. It is sealed with a passphrase by openssl, and opens with openssl alone.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

CIPHER = ("-aes-256-cbc", "-pbkdf2", "-iter", "1000000", "-md", "sha256")
FENCE = "-----BEGIN SEALED KIT-----"
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

Inside: the stack's export with all secrets, and its settings. To open it:

  sed '1,/^{FENCE}/d' {name} | openssl enc -d {" ".join(CIPHER)} -a | tar -x

Then, in a clone of the repository, with a state backend of your choice:

  make venv && pulumi stack init {facts.stack}
  cp recovery-kit/Pulumi.{facts.stack}.yaml .
  pulumi stack import --stack {facts.stack} --file recovery-kit/stack.json
  pulumi up --stack {facts.stack}

The vendors' tokens are not in it: make new ones, see docs/operations/production.md.

{FENCE}
"""


def write(path: Path, text: str) -> None:
    """Write a new file that its owner alone may read. Raises KitError when it is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KitError(f"{path} is there already: move it away first") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
