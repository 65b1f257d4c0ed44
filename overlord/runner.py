"""Commands are data; this is the one place that runs them."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from overlord.errors import OverlordError


@dataclass(frozen=True)
class Command:
    """A program to run. Secrets go through stdin or a file, never through args."""

    args: tuple[str, ...]
    stdin: bytes | None = field(default=None, repr=False)
    env: tuple[tuple[str, str], ...] = ()
    timeout: float = 120.0
    """Seconds until the program is killed."""
    quiet: bool = False
    """What it says is for us and would only fill a log."""
    name: str = ""
    """Short form for error messages, where the line is long."""

    @property
    def line(self) -> str:
        """As it reads in a log."""
        return " ".join(self.args)


@dataclass(frozen=True)
class Result:
    """How a program ended."""

    code: int
    output: str = ""
    errors: str = ""


class Runner(Protocol):
    """Runs commands; tests give one that records them."""

    def run(self, command: Command) -> Result:
        """Run to the end. A missing program is code 127, a timeout 124."""
        ...


class CommandFailedError(OverlordError):
    """A program ended with a code other than 0."""

    def __init__(self, command: Command, result: Result, remedy: str) -> None:
        self.command = command
        self.result = result
        said = (result.errors.strip() or result.output.strip()).splitlines()
        detail = ": " + " / ".join(line.strip() for line in said[-3:]) if said else ""
        super().__init__(
            f"`{command.name or command.line}` ended with {result.code}{detail}", remedy
        )


def check(runner: Runner, command: Command, remedy: str) -> Result:
    """Run a command that must succeed. Raises CommandFailedError."""
    result = runner.run(command)
    if result.code:
        raise CommandFailedError(command, result, remedy)
    return result


class SystemRunner:
    """Runs on this machine. What programs say is copied to the log when there is one."""

    def __init__(self, log: TextIO | None = None) -> None:
        self._write: Callable[[str], object] = log.write if log else lambda _: None
        self._flush: Callable[[], object] = log.flush if log else lambda: None

    def run(self, command: Command) -> Result:
        """Run to the end. A missing program is code 127, a timeout 124."""
        if not command.quiet:
            self._write(f"$ {command.line}\n")
            self._flush()
        try:
            done = subprocess.run(
                command.args,
                input=command.stdin if command.stdin is not None else b"",
                capture_output=True,
                env={**os.environ, "LC_ALL": "C.UTF-8", **dict(command.env)},
                timeout=command.timeout,
                check=False,
            )
            result = Result(
                done.returncode,
                done.stdout.decode(errors="replace"),
                done.stderr.decode(errors="replace"),
            )
        except FileNotFoundError:
            result = Result(127, errors=f"{command.args[0]}: not installed")
        except subprocess.TimeoutExpired:
            result = Result(124, errors=f"no end after {command.timeout:.0f} s")
        if not command.quiet:
            self._write(result.output + result.errors)
            self._flush()
        return result
