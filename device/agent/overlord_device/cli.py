"""The command line: ``overlord-device run|status|enrol|queue|config``."""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from . import __version__
from .clock import ServerTime, SystemClock, parse_rfc3339, rfc3339
from .enrol import EnrolError, enrol, read_token
from .fleet_config import ConfigError, parse_manifest, seal
from .queue import Queue
from .service import Agent, AlreadyRunningError, fleet_config, open_queue
from .settings import DEFAULT_PATH, Settings, SettingsError, load
from .transport import HttpClient, TransportError

BEHIND_S = 600.0
"""`status` says that something is wrong when the oldest waiting status is older."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code is 0 when all is well."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    try:
        if options.command == "config" and options.action == "sign":
            return _config_sign(options)
        settings = load(options.settings)
        return int(options.run(settings, options))
    except (
        SettingsError,
        EnrolError,
        TransportError,
        ConfigError,
        AlreadyRunningError,
        OSError,
    ) as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="overlord-device", description="Reports this device's status to Overlord."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--settings", type=Path, default=DEFAULT_PATH, help="settings file (default: %(default)s)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say more")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("run", help="run the agent (the service does this)")
    command.set_defaults(run=_run)

    command = commands.add_parser("status", help="is this device well, and heard?")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=_status)

    command = commands.add_parser("enrol", help="join the fleet with a one-time enrol token")
    command.add_argument(
        "--token-file",
        type=Path,
        help="file with the enrol token; else it is asked for, or read"
        " from standard input. Never given as an argument, where others could see it",
    )
    command.add_argument("--replace", action="store_true", help="replace the token that is here")
    command.set_defaults(run=_enrol)

    command = commands.add_parser("queue", help="what waits, what was refused")
    command.add_argument(
        "--resend-since",
        metavar="TIME",
        help="send again what was acknowledged since TIME (RFC 3339), after a restore of the "
        "server from a backup",
    )
    command.add_argument("--refused", type=int, default=5, metavar="N", help="show N refused ones")
    command.set_defaults(run=_queue)

    command = commands.add_parser("config", help="the fleet's configuration on this device")
    actions = command.add_subparsers(dest="action", required=True)
    action = actions.add_parser("pull", help="look for a new configuration now")
    action.set_defaults(run=_config_pull)
    action = actions.add_parser("sign", help="operator: write and sign a folder's manifest")
    action.add_argument("folder", type=Path)
    action.add_argument("--key", type=Path, required=True, help="OpenSSH private key, ed25519")
    action.add_argument("--version", dest="config_version", required=True, help="name of it")
    action.add_argument("--serial", type=int, help="default: one more than the last")
    action.add_argument("--devices", nargs="+", default=["*"], help="patterns of device ids")
    return parser


def _run(settings: Settings, options: argparse.Namespace) -> int:
    agent = Agent(settings, SystemClock())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.run()
    return 0


def _enrol(settings: Settings, options: argparse.Namespace) -> int:
    if options.token_file is not None:
        try:
            token = options.token_file.read_text()
        except OSError as error:
            raise EnrolError(f"cannot read {options.token_file}: {error.strerror}") from error
    elif sys.stdin.isatty():
        token = getpass.getpass("Enrol token: ")
    else:
        token = sys.stdin.readline()
    if not token.strip():
        raise EnrolError("the enrol token is empty")
    enrol(settings, token.strip(), HttpClient(settings.ca_file), replace=options.replace)
    print(f"{settings.device_id} is enrolled at {settings.server}.")
    print(f"Its token is in {settings.token_file}. Start the service next.")
    return 0


def _open_existing(settings: Settings) -> Queue | None:
    """The queue for a look; the command must not be the one to make it, maybe as root."""
    if not settings.queue_file.exists():
        return None
    if not os.access(settings.queue_file, os.R_OK | os.W_OK):
        raise EnrolError(
            f"{settings.queue_file} is not yours: run this with sudo -u overlord-device"
        )
    clock = SystemClock()
    return open_queue(settings, clock, ServerTime(clock), owner=False)


def _status(settings: Settings, options: argparse.Namespace) -> int:
    problems: list[str] = []
    try:
        read_token(settings)
    except EnrolError as error:
        problems.append(str(error))
    report: dict[str, object] = {
        "device": settings.device_id,
        "server": settings.server,
        "agent_version": __version__,
    }
    queue = _open_existing(settings)
    if queue is None:
        problems.append(f"{settings.queue_file} does not exist: the agent has not run yet")
    else:
        counts, notes, oldest = queue.counts(), queue.notes(), queue.oldest_waiting()
        queue.close()
        acknowledged = notes.get("last_acknowledged")
        report.update(counts.as_dict())
        report["last_acknowledged"] = rfc3339(float(acknowledged)) if acknowledged else None
        report["oldest_waiting"] = rfc3339(oldest) if oldest is not None else None
        if oldest is not None and time.time() - oldest > BEHIND_S:
            problems.append(f"{counts.waiting} statuses wait, the oldest since {rfc3339(oldest)}")
        if notes.get("last_error"):
            problems.append(f"not delivered since {notes['last_error']}")
    config = fleet_config(settings)
    if config is not None:
        current = config.current()
        report["config_version"] = current.version if current else None
        if current is None:
            problems.append("no configuration has been taken yet")
    report["problems"] = problems
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            if name != "problems":
                print(f"{name:24} {value}")
        for problem in problems:
            print(f"PROBLEM  {problem}")
    return 1 if problems else 0


def _queue(settings: Settings, options: argparse.Namespace) -> int:
    queue = _open_existing(settings)
    if queue is None:
        print("no queue yet")
        return 0
    try:
        if options.resend_since:
            since = parse_rfc3339(options.resend_since)
            if since is None:
                raise SettingsError("--resend-since: give a time such as 2026-11-23T16:00:00Z")
            again = queue.resend_since(since)
            if again is None:
                return 1
            print(f"{again} statuses will be sent again; the server drops what it has")
            return 0
        for name, value in queue.counts().as_dict().items():
            print(f"{name:24} {value}")
        for event_id, wall, reason in queue.refused(options.refused):
            print(f"refused {event_id} of {rfc3339(wall)}: {reason}")
        return 0
    finally:
        queue.close()


def _config_pull(settings: Settings, options: argparse.Namespace) -> int:
    config = fleet_config(settings)
    if config is None:
        raise SettingsError("[config] sources: none is set")
    pull = config.pull()
    for problem in pull.problems:
        print(f"not taken from {problem}", file=sys.stderr)
    if pull.source is None or pull.manifest is None:
        return 1
    word = "now in force" if pull.changed else "is in force already"
    print(f"{pull.manifest.version} (serial {pull.manifest.serial}) {word}, from {pull.source}")
    return 0


def _config_sign(options: argparse.Namespace) -> int:
    serial = options.serial
    if serial is None:
        manifest_file = options.folder / "manifest.json"
        last = parse_manifest(manifest_file.read_bytes()).serial if manifest_file.exists() else 0
        serial = last + 1
    manifest = seal(options.folder, options.key, serial, options.config_version, options.devices)
    print(f"signed {len(manifest.files)} files as serial {manifest.serial}; commit and push them")
    return 0
