"""Says what is being done, while it is being done: a moving display, or lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import Progress as Display
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn


class Progress:
    """Steps, of which several may run at once from several threads."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._display = Display(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a step while the block runs, then how long it took or that it failed."""
        began = time.monotonic()
        task = self._display.add_task(text, total=None)
        if not self.console.is_terminal:
            self.console.print(f"  … {text}")
        try:
            yield
        except BaseException:
            self.console.print(f"  [red]✗[/red] {text}")
            raise
        else:
            self.console.print(
                f"  [green]✓[/green] {text} [dim]{time.monotonic() - began:.1f} s[/dim]"
            )
        finally:
            self._display.remove_task(task)

    def note(self, text: str) -> None:
        """Say something that is no step."""
        self.console.print(f"    {text}")
