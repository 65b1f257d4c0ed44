"""`python -m sandbox.cloud --state DIR`: run the emulated cloud until SIGTERM or SIGINT.

Objects in S3 live in the memory of this process, and are saved when `destroy` asks for it; all else
is kept in DIR/cloud.json.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from logging.handlers import RotatingFileHandler
from pathlib import Path

import click

from sandbox import world
from sandbox.cloud.cloud import Addresses, Cloud, Setup
from sandbox.machines.docker import DockerDriver
from sandbox.machines.headscale import Headscale
from sandbox.toolchain.fetched import WORKERD

LOG_BYTES = 10 * 1024 * 1024
READY = "cloud.ready"
"""A file in the state folder that is there while all listeners accept connections."""


def sandbox_setup(state: Path, ca: Path) -> Setup:
    """The cloud of the sandbox's world."""
    home, gateway = world.LOOPBACK, world.GATEWAY
    here = world.World(state.absolute().parent)
    workerd = here.bin / WORKERD.name
    return Setup(
        state_dir=state,
        ca_dir=ca,
        zone=world.DOMAIN,
        zone_id=world.vendor_id("zone"),
        account_id=world.vendor_id("account"),
        network=world.GATEWAY.rpartition(".")[0],
        edge_address=world.EDGE_ADDRESS,
        edge_source=world.EDGE_ADDRESS,
        addresses=Addresses(
            control=((home, world.CONTROL_PORT),),
            hetzner=((home, world.HETZNER_PORT),),
            cloudflare=((home, world.CLOUDFLARE_PORT),),
            tailscale=((home, world.TAILSCALE_PORT),),
            s3=((gateway, world.S3_PORT), (home, world.S3_PORT)),
            # Visitors on this machine come by loopback, servers by the address that DNS gives.
            edge_https=((home, world.EDGE_HTTPS_PORT), (world.EDGE_ADDRESS, 443)),
            edge_http=((home, world.EDGE_HTTP_PORT), (world.EDGE_ADDRESS, 80)),
            dns=((gateway, world.DNS_PORT),),
            workers=((gateway, world.WORKERS_PORT),),
            inbox=((gateway, world.INBOX_PORT), (home, world.INBOX_PORT)),
        ),
        workerd=workerd if workerd.exists() else None,
        saved_buckets=here.kept_buckets,
    )


def log_to(path: Path) -> None:
    """Log to a file that does not grow without end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("botocore", "werkzeug", "asyncio", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


async def serve(cloud: Cloud, ready: Path) -> None:
    """Run until a signal says stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ready.unlink(missing_ok=True)
    try:
        await cloud.start()
        ready.touch()
        await stop.wait()
    finally:
        ready.unlink(missing_ok=True)
        await cloud.stop()


@click.command()
@click.option("--state", type=click.Path(path_type=Path), required=True, help="State folder.")
def main(state: Path) -> None:
    """Run the emulated cloud."""
    log_to(state / "log" / "cloud.log")
    setup = sandbox_setup(state, world.World(state.absolute().parent).ca)
    cloud = Cloud(setup, DockerDriver.of_state(state), Headscale.of_state(state))
    asyncio.run(serve(cloud, state / READY))


if __name__ == "__main__":
    main()
