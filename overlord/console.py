"""How a command of overlordctl tells of an error."""

import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import click

from overlord.errors import OverlordError

T = TypeVar("T")


def or_stop(work: Callable[[], T]) -> T:
    """What the work returns; an OverlordError ends the process with 1."""
    try:
        return work()
    except OverlordError as error:
        stop(error)


def fails(work: Callable[[], object]) -> bool:
    """Whether the work raised an OverlordError, which is told."""
    try:
        work()
    except OverlordError as error:
        tell(error)
        return True
    return False


def stop(error: OverlordError) -> NoReturn:
    """Tell of an error and end the process with 1."""
    tell(error)
    sys.exit(1)


def tell(error: OverlordError) -> None:
    """What happened and what to do, on stderr."""
    click.echo(f"overlordctl: {error.what}\n  what to do: {error.remedy}", err=True)
