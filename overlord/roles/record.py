"""What a node remembers of its roles across restarts: one small file, and its history."""

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from overlord.files import read_json, write_json
from overlord.node import Role
from overlord.paths import Paths

Mode = Literal["sync", "async"]
KEPT_EVENTS = 200


@dataclass(frozen=True)
class RoleEvent:
    """Something that happened to this node's role."""

    time: float
    """Seconds since the epoch."""
    what: str
    epoch: int
    reason: str = ""


@dataclass(frozen=True)
class Record:
    """Desired role where no arbiter decides, the last epoch, and what happened."""

    role: Role | None = None
    """What an operator made of this node, without an arbiter; None for what the release says."""
    epoch: int = 0
    """Highest one under which this node was primary."""
    seen: int = 0
    """Highest one that it ever heard of."""
    was_primary: bool = False
    """Whether it was primary more recently than it followed one."""
    mode: Mode = "async"
    """Whether the standby had everything that was acknowledged, when this was written."""
    forced: bool = False
    """An operator made this node primary while the arbiter did not answer."""
    maintenance: bool = False
    """This node is not to become primary by itself."""
    diverged: int = 0
    """Bytes of log that this node alone had when it last became a standby again, kept aside."""
    events: tuple[RoleEvent, ...] = field(default=())

    def with_event(self, what: str, reason: str = "") -> "Record":
        """This record and one more event."""
        event = RoleEvent(time.time(), what, self.epoch, reason)
        return replace(self, events=(*self.events, event)[-KEPT_EVENTS:])


def read_record(paths: Paths) -> Record:
    """The record; a fresh one when there is none."""
    data = read_json(paths.roles)
    known = {key: data[key] for key in Record.__dataclass_fields__ if key in data}
    known["events"] = tuple(RoleEvent(**event) for event in known.get("events", ()))
    return Record(**known)


def write_record(record: Record, paths: Paths) -> None:
    """Make the record durable."""
    write_json(paths.roles, asdict(record))
