"""The program's commands without the nodes they run on, for `bench.preview`."""

from __future__ import annotations

from typing import Any

from pulumi_command import local
from pulumi_command.remote import ConnectionArgs, Logging

__all__ = ["Command", "ConnectionArgs", "Logging"]


class Command(local.Command):
    """Does nothing, on this machine. A preview runs no command: it costs the same."""

    def __init__(self, name: str, *, connection: Any, create: Any, **arguments: Any) -> None:
        super().__init__(name, create="true", **arguments)
