"""What an operator asks of the role manager, through a file that only root can write."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from overlord.errors import OverlordError
from overlord.files import read_json, write_json
from overlord.paths import Paths

Verb = Literal["switchover", "promote", "maintenance on", "maintenance off"]
WAIT_SECONDS = 15.0


@dataclass(frozen=True)
class Request:
    """One wish."""

    id: str
    verb: Verb


def send(
    verb: Verb,
    paths: Paths,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Ask, and wait for the answer. Raises OverlordError when it is refused or none comes."""
    request = uuid.uuid4().hex
    write_json(paths.role_request, {"id": request, "verb": verb}, 0o600)
    deadline = clock() + WAIT_SECONDS
    while clock() < deadline:
        answer = read_json(paths.role_answer)
        if answer.get("id") == request:
            if answer["ok"]:
                return str(answer["text"])
            raise OverlordError(f"{verb} refused: {answer['text']}", "see `overlordctl role`")
        sleep(0.2)
    paths.role_request.unlink(missing_ok=True)
    raise OverlordError(
        "the role manager does not answer", "see `journalctl -u overlord-agent`; nothing was done"
    )


def pending(paths: Paths) -> Request | None:
    """The wish that waits, if there is one."""
    data = read_json(paths.role_request)
    return Request(data["id"], data["verb"]) if data.get("id") and data.get("verb") else None


def answer(request: Request, ok: bool, text: str, paths: Paths) -> None:
    """Say what came of it, and forget the wish."""
    write_json(paths.role_answer, {"id": request.id, "ok": ok, "text": text}, 0o600)
    paths.role_request.unlink(missing_ok=True)
