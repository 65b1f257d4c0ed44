"""Journal of the first boot: which step ran, how it ended, how long it took.

The launcher writes its own steps into the same file and reads ours (cloud-init/overlord-launch),
so the format is fixed: version, node, state, updated, steps[name, state, started, seconds, error,
remedy, notes]. Times are seconds since the epoch.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from overlord.files import read_json, write, write_json
from overlord.paths import Paths

StepState = Literal["running", "done", "failed"]
BootStateName = Literal["none", "running", "failed", "done"]


@dataclass(frozen=True)
class Step:
    """One step of the first boot."""

    name: str
    state: StepState
    started: float
    """Seconds since the epoch."""
    seconds: float = 0.0
    error: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()
    release: str = ""
    """Release whose code ran the step; empty for the launcher's own steps."""
    uptime_id: str = ""
    """Names the time between two boots in which the step ran, see uptime_id()."""

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Step":
        """A step as read from the journal."""
        known = {field.name for field in fields(Step)}
        given = {name: value for name, value in data.items() if name in known}
        return Step(**{**given, "notes": tuple(data.get("notes", ()))})


@dataclass(frozen=True)
class BootState:
    """The journal at one moment."""

    node: str = ""
    state: BootStateName = "none"
    steps: tuple[Step, ...] = field(default=())

    def step(self, name: str) -> Step | None:
        """The last try of a step."""
        return next((step for step in self.steps if step.name == name), None)

    def is_done(self, name: str, release: str, uptime_id: str | None = None) -> bool:
        """Whether a step need not run again.

        Another release wants its own way; what does not outlive a reboot is done again after one,
        if uptime_id is given.
        """
        step = self.step(name)
        return (
            step is not None
            and step.state == "done"
            and step.release == release
            and uptime_id in (None, step.uptime_id)
        )

    @property
    def failed(self) -> Step | None:
        """The step that stopped the first boot."""
        return next((step for step in self.steps if step.state == "failed"), None)

    def with_step(self, step: Step) -> "BootState":
        """With a new try at the end, or a running one replaced in its place."""
        if step.state == "running":
            others = tuple(other for other in self.steps if other.name != step.name)
            return replace(self, state="running", steps=(*others, step))
        steps = tuple(step if other.name == step.name else other for other in self.steps)
        return replace(self, state="failed" if step.state == "failed" else self.state, steps=steps)


def uptime_id(paths: Paths) -> str:
    """The same until the next reboot. Not the kernel's boot_id, which a container shares."""
    file = paths.run / "uptime-id"
    if not file.exists():
        write(file, uuid.uuid4().hex.encode())
    return file.read_text()


def read_boot_state(paths: Paths) -> BootState:
    """The newer of the journal and its spare copy in memory."""
    found = [read_json(paths.journal), read_json(paths.journal_spare)]
    data = max(found, key=lambda copy: float(copy.get("updated", 0)))
    if not data:
        return BootState()
    return BootState(
        node=data.get("node", ""),
        state=data.get("state", "running"),
        steps=tuple(Step.from_json(step) for step in data.get("steps", ())),
    )


class Journal:
    """Writes the steps as they happen."""

    def __init__(self, paths: Paths, now: Callable[[], float] = time.time) -> None:
        self._paths = paths
        self._now = now
        self.state = read_boot_state(paths)

    def begin(self, name: str, release: str = "", uptime_id: str = "") -> None:
        """A step starts, maybe not for the first time."""
        step = Step(name, "running", self._now(), release=release, uptime_id=uptime_id)
        self._save(self.state.with_step(step))

    def done(self, name: str, notes: Sequence[str] = ()) -> None:
        """A step ended well."""
        step = self._running(name)
        self._save(self.state.with_step(replace(step, state="done", notes=tuple(notes))))

    def fail(self, name: str, error: str, remedy: str) -> None:
        """A step stopped the first boot."""
        step = self._running(name)
        self._save(self.state.with_step(replace(step, state="failed", error=error, remedy=remedy)))

    def _running(self, name: str) -> Step:
        step = self.state.step(name)
        if step is None:
            raise KeyError(f"step {name} was not begun")
        return replace(step, seconds=round(self._now() - step.started, 1))

    def _save(self, state: BootState) -> None:
        self.state = state
        data = {
            "version": 1,
            "node": state.node,
            "state": state.state,
            "updated": self._now(),
            "steps": [asdict(step) for step in state.steps],
        }
        try:
            write_json(self._paths.journal, data)
            self._paths.journal_spare.unlink(missing_ok=True)
        except OSError:
            write_json(self._paths.journal_spare, data)
