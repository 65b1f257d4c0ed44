"""Joins the fleet: a one-time enrol token for a token of the device's own."""

from __future__ import annotations

import json
from pathlib import Path

from . import wire
from .files import write_durably
from .settings import Settings
from .transport import HttpClient, Reply


class EnrolError(Exception):
    """The device could not be enrolled; the text says what to do."""


def enrol(settings: Settings, enrol_token: str, client: HttpClient, *, replace: bool) -> None:
    """Enrol this device and keep its token.

    Args:
        settings: which server and which device.
        enrol_token: from the fleet's operator; it is not kept.
        client: how to reach the server.
        replace: whether a token that is here already may be overwritten.

    Raises:
        EnrolError: refused, or there is a token already.
        TransportError: no usable answer.
    """
    path = settings.token_file
    if path.exists() and not replace:
        raise EnrolError(f"{path} exists: this device is enrolled. Use --replace for a new token.")
    # Before the server spends the enrolment: the answer is given once, so it must be storable.
    try:
        write_durably(path.with_name(".enrol-check"), b"", 0o600)
        path.with_name(".enrol-check").unlink()
    except OSError as error:
        raise EnrolError(
            f"cannot write in {path.parent}: {error}. Run this as the user of the service."
        ) from error
    reply = client.request(
        "POST",
        settings.server + wire.DEVICES_PATH,
        body=wire.single({"device_id": settings.device_id, "name": settings.name}),
        headers={"Authorization": f"Bearer {enrol_token}", "Content-Type": "application/json"},
    )
    if reply.status != 201:
        raise EnrolError(_explain(reply, settings))
    try:
        token = wire.read_token(reply, settings.device_id)
    except wire.NotUnderstoodError as error:
        raise EnrolError(f"{settings.server} did not answer as Overlord does: {error}") from error
    record = {"device_id": settings.device_id, "server": settings.server, "token": token}
    write_durably(path, (json.dumps(record) + "\n").encode(), 0o600)


def read_token(settings: Settings) -> str:
    """This device's token.

    Raises:
        EnrolError: there is none, or it is another device's.
    """
    path: Path = settings.token_file
    try:
        record = json.loads(path.read_text())
        token, device_id = record["token"], record["device_id"]
    except FileNotFoundError as error:
        raise EnrolError(f"{path} is missing: run `overlord-device enrol` first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnrolError(f"{path} cannot be read: {error}. Enrol again with --replace.") from error
    if device_id != settings.device_id:
        raise EnrolError(
            f"{path} is the token of {device_id}, but the settings say {settings.device_id}. "
            "Correct device_id in the settings, or enrol again with --replace."
        )
    return str(token)


def _explain(reply: Reply, settings: Settings) -> str:
    _, detail = wire.read_problem(reply)
    text = f"{settings.server} did not enrol {settings.device_id} ({reply.status}): {detail}"
    if reply.status == 401:
        text += " The enrol token may be used up or mistyped: ask for a new one."
    if reply.status == 409:
        text += (
            " If it is this very device (a lost answer, a new SD card), have the operator retire"
            " the old entry or give this one another id."
        )
    return text
