"""The backups of this node: a manager for each repository that is set."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from overlord.backup.leadership import leads
from overlord.backup.manager import Manager
from overlord.commands.backup import BackupTool
from overlord.errors import OverlordError
from overlord.layout import stack_of
from overlord.node import read_backup_terms, read_boot_settings
from overlord.paths import Paths
from overlord.runner import SystemRunner

T = TypeVar("T")


def managers_of(paths: Paths) -> tuple[Manager, ...]:
    """The first repository's first. Raises OverlordError when the node is not known."""
    boot = read_boot_settings(paths)
    tool = BackupTool(stack_of(paths, boot.node))
    manager = Manager(paths, SystemRunner(), tool, leads, click.echo)
    return of_each(manager, len(read_backup_terms(paths, boot).repositories))


def of_each(manager: Manager, count: int) -> tuple[Manager, ...]:
    """The same for each of so many repositories, the first one's first."""
    tools = manager.tool.of_each(count)
    return tuple(replace(manager, tool=tool, number=n) for n, tool in enumerate(tools, 1))


def reading(manager: Manager, folder: Path) -> Manager:
    """The same over a repository in a folder of this machine."""
    return replace(manager, tool=replace(manager.tool, which="", repository=folder))


def where(manager: Manager) -> str:
    """Which repository, for people; empty where there is one alone."""
    return f" in repository {manager.number}" if manager.tool.which else ""


def in_turn(managers: Sequence[Manager], work: Callable[[Manager], T]) -> list[T]:
    """Do something with each repository. One that fails keeps no other from it; what failed is
    raised at the end, as OverlordError."""
    done, failed = [], []
    for manager in managers:
        try:
            done.append(work(manager))
        except OverlordError as error:
            failed.append((manager.number, error))
    if failed and len(managers) == 1:
        raise failed[0][1]
    if failed:
        said = "; ".join(f"repository {number}: {error.what}" for number, error in failed)
        raise OverlordError(said, failed[0][1].remedy)
    return done
