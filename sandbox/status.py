"""`python -m sandbox status`: one page of what runs."""

from __future__ import annotations

import time
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

from sandbox.cloud.tailnet import TailnetError, TailnetNode
from sandbox.machines.headscale import Headscale
from sandbox.machines.processes import Processes
from sandbox.world import (
    CONTROL_URL,
    EDGE_HTTPS_PORT,
    LOOPBACK,
    PUBLIC_NAME,
    PUBLIC_URL,
    World,
)

SECONDS = 5
WELL = {"running", "online", "answers"}


def show_status(world: World, console: Console, patience: float = 0.0) -> bool:
    """Print the state of the world. Returns whether everything that should run does.

    Args:
        world: the sandbox.
        console: where to.
        patience: seconds in which the public name may become healthy: after a switch of roles a
            node looks at its services once more before it says so.
    """
    processes = Processes(world)
    names = processes.names()
    table = _table("Processes", "name", "state", "pid")
    for name in names:
        process = processes.find(name)
        state = "running" if process else "dead"
        table.add_row(name, _mark(state), str(process.pid) if process else "-")
    console.print(table)
    well = all(processes.find(name) for name in names)
    vendors = _vendors()
    if vendors is None:
        console.print("The emulated vendors do not answer; `make up` starts them again.")
        return False
    _show_vendors(vendors, _tailnet(world), console)
    servers = vendors["hetzner"]["servers"]
    well = well and all(server["status"] == "running" for server in servers)
    well = well and all(worker["running"] for worker in vendors["cloudflare"]["workers"])
    if servers:
        deadline = time.monotonic() + patience
        while (answer := _public_health(world)) != "ok" and time.monotonic() < deadline:
            time.sleep(1)
        console.print(f"{PUBLIC_URL}  {_mark('answers') if answer == 'ok' else answer}")
        well = well and answer == "ok"
    else:
        console.print("There are no servers yet; `make up` creates them.")
    return well


def _show_vendors(
    vendors: dict[str, Any], members: dict[str, TailnetNode], console: Console
) -> None:
    hetzner, cloudflare = vendors["hetzner"], vendors["cloudflare"]
    addresses = {address["id"]: address["ip"] for address in hetzner["primary_ips"]}
    health = {
        # The monitor asks for the leader, so that a standby's "no" is as it should be.
        origin["name"]: "yes" if origin["healthy"] else f"no ({origin['failure_reason']})"
        for pool in cloudflare["pools"]
        for region in pool["health"].values()
        for entry in region["origins"]
        for origin in entry.values()
    }
    servers = _table(
        "Servers", "name", "state", "type", "location", "IPv4", "takes traffic", "tailnet"
    )
    for server in hetzner["servers"]:
        member = members.get(server["name"])
        tailnet = "not joined"
        if member:
            state = _mark("online" if member.online else "offline")
            tailnet = f"{state} {member.addresses[0] if member.addresses else ''}"
        servers.add_row(
            server["name"],
            _mark(server["status"]),
            server["server_type"],
            server["location"],
            addresses.get(server["ipv4"], "-"),
            health.get(server["name"], "-"),
            tailnet,
        )
    console.print(servers)
    buckets = _table("Buckets", "name", "objects", "versions", "object lock")
    for bucket in vendors["s3"]["buckets"]:
        lock = "yes" if bucket["object_lock"] else "no"
        buckets.add_row(bucket["name"], str(bucket["objects"]), str(bucket["versions"]), lock)
    console.print(buckets)
    workers = _table("Workers", "name", "state", "answers on", "cron")
    for worker in cloudflare["workers"]:
        state = _mark("running" if worker["running"] else "not running")
        names, crons = ", ".join(worker["hostnames"]) or "-", ", ".join(worker["crons"]) or "-"
        workers.add_row(worker["name"], state, names, crons)
    if cloudflare["workers"]:
        console.print(workers)
    if vendors["faults"]:
        console.print(f"[yellow]{len(vendors['faults'])} faults are in force[/yellow]")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _mark(state: str) -> str:
    return f"[green]{state}[/green]" if state in WELL else f"[red]{state}[/red]"


def _vendors() -> dict[str, Any] | None:
    try:
        answer = requests.get(f"{CONTROL_URL}/status", timeout=SECONDS)
        answer.raise_for_status()
        summary: dict[str, Any] = answer.json()
    except requests.RequestException:
        return None
    return summary


def _tailnet(world: World) -> dict[str, TailnetNode]:
    try:
        return {node.name: node for node in Headscale(world).nodes()}
    except TailnetError:
        return {}


def _public_health(world: World) -> str:
    """Ask the public name through the edge, as a visitor would."""
    try:
        # By address, since not every resolver knows that *.localhost is loopback.
        answer = requests.get(
            f"https://{LOOPBACK}:{EDGE_HTTPS_PORT}/health",
            headers={"Host": f"{PUBLIC_NAME}:{EDGE_HTTPS_PORT}"},
            verify=str(world.ca_bundle),
            timeout=SECONDS,
        )
    except requests.RequestException as error:
        return f"no answer ({type(error).__name__})"
    return "ok" if answer.ok else f"HTTP {answer.status_code}"
