"""A wall clock that jumps on one node.

All nodes of the sandbox, and their containers, have the clock of the machine. So what goes by the
time of day (the API, and PostgreSQL with its timeouts of replication) is made to ask libfaketime,
which adds what a file says. The monotonic clock stays as it is, as it does where a real clock is
set. The agent goes by that one alone; it is left out, since libfaketime breaks Python's `sleep`.
"""

from __future__ import annotations

import json

from chaos.steps import Place, Step, shell

JUMP_SECONDS = 3600
_FOLDER = "/srv/clock"
_LIBRARY = "libfaketimeMT.so.1"
_SETTINGS = {
    "LD_PRELOAD": f"{_FOLDER}/{_LIBRARY}",
    "FAKETIME_TIMESTAMP_FILE": f"{_FOLDER}/offset",
    "FAKETIME_CACHE_DURATION": "1",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "NO_FAKE_STAT": "1",
}
_SERVICES = ("api", "postgres")


def _says(place: Place, seconds: int) -> Step:
    return shell(place.victim, f"echo {seconds:+d} > {_FOLDER}/offset")


def jump(place: Place) -> list[Step]:
    """An hour forward, at once."""
    return [_says(place, JUMP_SECONDS)]


def set_right(place: Place) -> list[Step]:
    """An hour back."""
    return [_says(place, 0)]


def _recreate(place: Place, *more: str) -> str:
    file = f"/opt/overlord/current/nodes/{place.victim}/compose.yaml"
    options = " ".join(f"--file {one}" for one in (file, *more))
    return (
        f"docker compose --project-name overlord --env-file /run/overlord/compose.env {options} "
        f"up --detach --no-deps --quiet-pull {' '.join(_SERVICES)}"
    )


def make_settable(place: Place) -> list[Step]:
    """New processes, whose clock can be set."""
    service = {"volumes": [f"{_FOLDER}:{_FOLDER}:ro"], "environment": _SETTINGS}
    more = json.dumps({"services": dict.fromkeys(_SERVICES, service)})
    return [
        shell(
            place.victim,
            f"mkdir -p {_FOLDER}",
            f"cp /usr/lib/*/faketime/{_LIBRARY} {_FOLDER}/",
            f"echo '{more}' > {_FOLDER}/compose.json",
        ),
        _says(place, 0),
        shell(place.victim, _recreate(place, f"{_FOLDER}/compose.json")),
    ]


def leave_alone(place: Place) -> list[Step]:
    """The clock of the machine again."""
    return [shell(place.victim, _recreate(place), f"rm -r {_FOLDER}")]
