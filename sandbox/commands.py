"""Running other programs, and the error that a user of the sandbox sees."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

TAIL_LINES = 15


class SandboxError(Exception):
    """Something of the sandbox failed: what happened, and what to do next."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a program's output."""
    return "\n".join(text.strip().splitlines()[-lines:])


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    seconds: float = 120,
    remedy: str = "",
) -> str:
    """Run a program to its end and return its output.

    With `log`, output goes to that file and the return value is empty. Raises SandboxError with
    the last lines of the output where the program fails, is missing or takes too long.
    """
    words = [str(word) for word in argv]
    shown = " ".join(words[:4]) + (" …" if len(words) > 4 else "")
    merged = {**os.environ, **(env or {})}
    try:
        if log is None:
            done = subprocess.run(
                words,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                env=merged,
                cwd=cwd,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
            output = done.stderr or done.stdout
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as file:
                done = subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=merged,
                    cwd=cwd,
                    text=True,
                    timeout=seconds,
                )
            output = log.read_text(errors="replace") if done.returncode else ""
    except FileNotFoundError:
        raise SandboxError(
            f"{words[0]} is not installed", remedy or "run `python -m sandbox install`"
        ) from None
    except subprocess.TimeoutExpired:
        raise SandboxError(f"`{shown}` did not end within {seconds:.0f} s", remedy) from None
    if done.returncode:
        where = f"\nthe whole log: {log}" if log else ""
        raise SandboxError(
            f"`{shown}` ended with exit code {done.returncode}:\n{tail(output)}{where}", remedy
        )
    return "" if log else done.stdout


def succeeds(argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> bool:
    """Tell whether a program ends with exit code 0."""
    try:
        run(argv, env=env)
    except SandboxError:
        return False
    return True
