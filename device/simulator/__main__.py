"""The command line: ``python -m device.simulator run|verify|exporters|logs``."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import click

from device.simulator.exporters import serve, serve_addresses
from device.simulator.fleet import MAX_DEVICES, MAX_DURATION_S, Plan, SimulationError, play
from device.simulator.logs import push_logs
from device.simulator.recorder import read_record
from device.simulator.target import TargetError, addresses
from device.simulator.verify import Verdict, VerifyError, compare_api, compare_csv

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TOKEN_HELP = "file with the token; without it, the variable {} is read"  # noqa: S105


def _token(file: Path | None, variable: str) -> str:
    text = file.read_text() if file else os.environ.get(variable, "")
    if not text.strip():
        raise click.UsageError(f"no token: give a file or set {variable}")
    return text.strip()


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Play a fleet of devices against an Overlord of your own."""


@main.command()
@click.option("--base-url", required=True, help="the server, such as https://localhost:8443")
@click.option("--devices", default=50, type=click.IntRange(1, MAX_DEVICES))
@click.option("--duration", default=300.0, type=click.FloatRange(1, MAX_DURATION_S), help="seconds")
@click.option("--period", default=60.0, help="seconds between two statuses of a device")
@click.option("--speed", default=1.0, help="device seconds in a second; above 1 it is a replay")
@click.option("--outages", default=0.0, help="share of devices cut off in the middle third")
@click.option("--skew", default=0.0, help="clocks are off by up to so many seconds")
@click.option("--duplicates", default=0.0, help="share of statuses sent twice on purpose")
@click.option("--shuffle", is_flag=True, help="send a backlog out of order")
@click.option("--batch", default=1, help="the most statuses in a request")
@click.option("--connections", default=100, help="the most connections at once")
@click.option("--drain", default=60.0, help="seconds to go on delivering at the end")
@click.option("--prefix", default="sim", help="device ids are PREFIX-00001 and so on")
@click.option("--seed", type=int, help="to play the same again, on a server without its statuses")
@click.option(
    "--state", required=True, type=click.Path(path_type=Path), help="folder of the record"
)
@click.option("--enrol-token-file", type=_FILE, help=_TOKEN_HELP.format("OVERLORD_ENROL_TOKEN"))
@click.option("--ca-file", type=_FILE, help="PEM of the authority to trust")
@click.option("--allow-public", is_flag=True, help="allow a public address: your own server only")
def run(state: Path, enrol_token_file: Path | None, ca_file: Path | None, **options: Any) -> None:
    """Enrol devices and let them report; leaves a record for `verify`."""
    plan = Plan(
        base_url=options["base_url"].rstrip("/"),
        devices=options["devices"],
        duration_s=options["duration"],
        period_s=options["period"],
        speed=options["speed"],
        outage_share=options["outages"],
        skew_s=options["skew"],
        duplicate_share=options["duplicates"],
        shuffle=options["shuffle"],
        batch=options["batch"],
        connections=options["connections"],
        drain_s=options["drain"],
        prefix=options["prefix"],
        # Drawn anew by default: the event ids come from it, and a run's must be its own.
        seed=secrets.randbits(32) if options["seed"] is None else options["seed"],
        allow_public=options["allow_public"],
    )
    token = _token(enrol_token_file, "OVERLORD_ENROL_TOKEN")
    click.echo(f"seed {plan.seed}")
    asyncio.run(play(plan, token, state, ca_file=ca_file, say=click.echo))


@main.command()
@click.option("--state", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--base-url", help="compare with the history that the API returns")
@click.option("--csv", "csv_file", type=_FILE, help="compare with rows of device_id,event_id")
@click.option(
    "--operator-token-file", type=_FILE, help=_TOKEN_HELP.format("OVERLORD_OPERATOR_TOKEN")
)
@click.option("--ca-file", type=_FILE)
@click.option("--allow-public", is_flag=True)
def verify(
    state: Path,
    base_url: str | None,
    csv_file: Path | None,
    operator_token_file: Path | None,
    ca_file: Path | None,
    allow_public: bool,
) -> None:
    """Compare the record with what the server has. Exit code 1: lost, doubled or unknown."""
    record = read_record(state / "record.jsonl")
    verdict: Verdict
    if csv_file is not None:
        verdict = compare_csv(record, csv_file)
    elif base_url is not None:
        token = _token(operator_token_file, "OVERLORD_OPERATOR_TOKEN")
        verdict = asyncio.run(
            compare_api(record, base_url, token, ca_file=ca_file, allow_public=allow_public)
        )
    else:
        raise click.UsageError("give --base-url or --csv")
    click.echo(verdict.report())
    if not verdict.good:
        sys.exit(1)


@main.command()
@click.option("--devices", default=50, type=click.IntRange(1, MAX_DEVICES))
@click.option("--host", default="127.0.0.1", help="address to listen on")
@click.option("--port", default=9200)
@click.option("--port-a-device", is_flag=True, help="one port a device, from the next port up")
@click.option(
    "--first-address", help="an address a device, from this one up, on the ports 9100 and 19999"
)
@click.option("--prefix", default="sim")
@click.option(
    "--duration", default=3600.0, type=click.FloatRange(1, MAX_DURATION_S), help="seconds"
)
def exporters(
    devices: int,
    host: str,
    port: int,
    port_a_device: bool,
    first_address: str | None,
    prefix: str,
    duration: float,
) -> None:
    """Serve metrics for each device, as node exporter and Netdata would."""
    names = [f"{prefix}-{number:05}" for number in range(1, devices + 1)]

    async def work() -> None:
        if first_address:
            by_address = {a: name for name, a in addresses(names, first_address).items()}
            runner = await serve_addresses(by_address)
            click.echo(f"{devices} devices, the first at {first_address}")
        else:
            runner = await serve(names, host, port, port_a_device=port_a_device)
            click.echo(f"{devices} devices, listed for http_sd at http://{host}:{port}/targets")
        try:
            await asyncio.sleep(duration)
        finally:
            await runner.cleanup()

    asyncio.run(work())


@main.command()
@click.option("--url", required=True, help="Loki, such as http://127.0.0.1:3100")
@click.option("--devices", default=50, type=click.IntRange(1, MAX_DEVICES))
@click.option("--rate", default=0.2, help="lines a second of each device")
@click.option("--together", default=1, help="devices that share a push, as behind one collector")
@click.option("--duration", default=300.0, type=click.FloatRange(1, MAX_DURATION_S), help="seconds")
@click.option("--prefix", default="sim")
@click.option("--ca-file", type=_FILE)
@click.option("--allow-public", is_flag=True)
def logs(
    url: str,
    devices: int,
    rate: float,
    together: int,
    duration: float,
    prefix: str,
    ca_file: Path | None,
    allow_public: bool,
) -> None:
    """Push log lines of each device to Loki."""
    names = [f"{prefix}-{number:05}" for number in range(1, devices + 1)]
    began = time.monotonic()
    stats = asyncio.run(
        push_logs(
            names,
            url,
            lines_per_device_s=rate,
            duration_s=duration,
            together=together,
            allow_public=allow_public,
            ca_file=ca_file,
        )
    )
    click.echo(stats.report(time.monotonic() - began))


def guarded() -> None:
    """Run the command line; errors that are no fault of the program become one line."""
    try:
        main()
    except (SimulationError, VerifyError, TargetError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    guarded()
