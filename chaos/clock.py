"""A wall clock that jumps on one node.

All nodes of the sandbox, and their containers, have the clock of the machine. So what asks for the
time on a node (agent, API, PostgreSQL) is made to ask libfaketime, which adds what a file says. The
monotonic clock stays as it is, as it does where a real clock is set.
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
_DROP_IN = "/run/systemd/system/overlord-agent.service.d"


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
    unit = ["'[Service]'", *(f"Environment={name}={value}" for name, value in _SETTINGS.items())]
    return [
        shell(
            place.victim,
            f"mkdir -p {_FOLDER} {_DROP_IN}",
            f"cp /usr/lib/*/faketime/{_LIBRARY} {_FOLDER}/",
            f"echo '{more}' > {_FOLDER}/compose.json",
            f"printf '%s\\n' {' '.join(unit)} > {_DROP_IN}/clock.conf",
        ),
        _says(place, 0),
        shell(
            place.victim,
            "systemctl daemon-reload",
            "systemctl restart overlord-agent",
            _recreate(place, f"{_FOLDER}/compose.json"),
        ),
    ]


def leave_alone(place: Place) -> list[Step]:
    """The clock of the machine again."""
    return [
        shell(
            place.victim,
            f"rm -r {_DROP_IN}/clock.conf {_FOLDER}",
            "systemctl daemon-reload",
            "systemctl restart overlord-agent",
            _recreate(place),
        )
    ]
