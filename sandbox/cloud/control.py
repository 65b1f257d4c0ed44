"""The sandbox's own door into the emulated cloud, for tests and `sandbox status`. Not a vendor's.

GET /status
    Servers, addresses, firewalls, SSH keys, running actions, DNS records, load balancers with
    the health of their pools, certificates, tailnet keys, buckets. No secrets.
GET /faults, POST /faults, DELETE /faults, DELETE /faults/ID
    Faults in force. To add one, post an object with `vendor` (hetzner, cloudflare, tailscale,
    s3, workers), `method` and `path_regex` to choose requests, `count` (default 1; null for
    all), and:

    - `status`, `body`, `headers`: answer this instead. A body that is a string is sent as it is.
    - `delay`: seconds to wait first.
    - `drop`: cut the connection without an answer.
    - `after`: do the work first, then fail as above. The answer is lost, the effect is not.

    Two more for hetzner stay until lifted and match no requests:

    - `sold_out: {type, location}`: orders get 412, the catalogue says not available.
    - `quota: {resource, limit}`: no more than so many servers, primary_ips, firewalls, ssh_keys.

    ``curl -d '{"vendor": "hetzner", "method": "POST", "path_regex": "/servers$", "status": 503}'
    http://127.0.0.1:8800/faults``

POST /workers/NAME/cron
    Run a Worker's cron now, as if a minute had passed. Answers {outcome}.
DELETE /workers/NAME/storage
    Lose everything that a Worker's objects have stored, and start it again.

POST /buckets/save
    Write the buckets that hold data to the disk, for the next cloud, but those named in
    `leave_out`. Answers {saved}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox.cloud.edge.health import HealthChecks
from sandbox.cloud.faults import Fault, Faults
from sandbox.cloud.s3.storage import MotoStorage
from sandbox.cloud.state import CloudState
from sandbox.cloud.workers.runtime import WorkerRuntime


class Control:
    """The routes."""

    def __init__(
        self,
        state: CloudState,
        faults: Faults,
        storage: MotoStorage,
        saved_buckets: Path | None,
        health: HealthChecks,
        runtime: WorkerRuntime,
    ) -> None:
        self._state, self._faults, self._storage = state, faults, storage
        self._saved_buckets = saved_buckets
        self._health, self._runtime = health, runtime

    def build(self) -> ASGIApp:
        """Put the API together."""
        return Starlette(
            routes=[
                Route("/status", self.status),
                Route("/faults", self.faults, methods=["GET"]),
                Route("/faults", self.add, methods=["POST"]),
                Route("/faults", self.clear, methods=["DELETE"]),
                Route("/faults/{id:int}", self.clear, methods=["DELETE"]),
                Route("/workers/{name}/cron", self.cron, methods=["POST"]),
                Route("/workers/{name}/storage", self.wipe, methods=["DELETE"]),
                Route("/buckets/save", self.save, methods=["POST"]),
            ]
        )

    async def status(self, request: Request) -> Response:
        """Show everything that exists at the vendors."""
        return JSONResponse(self.summary())

    def summary(self) -> dict[str, Any]:
        """Everything that exists at the vendors, without secrets."""
        hetzner, cloudflare = self._state.hetzner, self._state.cloudflare
        return {
            "hetzner": {
                "servers": [
                    s.model_dump(exclude={"user_data", "ssh_keys"})
                    for s in hetzner.servers.values()
                ],
                "primary_ips": [ip.model_dump() for ip in hetzner.primary_ips.values()],
                "firewalls": [f.model_dump() for f in hetzner.firewalls.values()],
                "ssh_keys": [k.model_dump() for k in hetzner.ssh_keys.values()],
                "running_actions": [
                    a.model_dump() for a in hetzner.actions.values() if a.status == "running"
                ],
            },
            "cloudflare": {
                "zone": cloudflare.zone,
                "settings": cloudflare.settings,
                "records": [r.model_dump() for r in cloudflare.records.values()],
                "load_balancers": [b.model_dump() for b in cloudflare.load_balancers.values()],
                "pools": [
                    {**pool.model_dump(), "health": self._health.report(pool.id)}
                    for pool in cloudflare.pools.values()
                ],
                "monitors": [m.model_dump() for m in cloudflare.monitors.values()],
                "rulesets": [r.model_dump() for r in cloudflare.rulesets.values()],
                "certificates": [
                    c.model_dump(exclude={"csr", "certificate"})
                    for c in cloudflare.certificates.values()
                ],
                "workers": [
                    {
                        "name": worker.name,
                        "running": self._runtime.is_running(worker.name),
                        "hostnames": [
                            domain.hostname
                            for domain in cloudflare.worker_domains.values()
                            if domain.service == worker.name
                        ],
                        "crons": [schedule["cron"] for schedule in worker.schedules],
                    }
                    for worker in cloudflare.workers.values()
                ],
            },
            "tailscale": {
                "keys": [k.model_dump(mode="json") for k in self._state.tailscale.keys.values()],
                "policy": self._state.tailscale.policy,
            },
            "s3": {"buckets": self._storage.summary()},
            "faults": [fault.model_dump() for fault in self._faults.active],
        }

    async def faults(self, request: Request) -> Response:
        """List the faults in force."""
        return JSONResponse([fault.model_dump() for fault in self._faults.active])

    async def add(self, request: Request) -> Response:
        """Put a fault in force."""
        try:
            fault = Fault.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"errors": error.errors(include_context=False)}, 422)
        return JSONResponse(self._faults.add(fault).model_dump(), 201)

    async def clear(self, request: Request) -> Response:
        """Lift one fault, or all."""
        return JSONResponse({"lifted": self._faults.clear(request.path_params.get("id"))})

    async def cron(self, request: Request) -> Response:
        """Run a Worker's cron now."""
        name = request.path_params["name"]
        if not self._runtime.is_running(name):
            return JSONResponse({"errors": [f"worker {name} does not run"]}, 404)
        return JSONResponse({"outcome": await self._runtime.fire(name, "* * * * *")})

    async def wipe(self, request: Request) -> Response:
        """Lose what a Worker's objects have stored."""
        name = request.path_params["name"]
        if not self._runtime.is_running(name):
            return JSONResponse({"errors": [f"worker {name} does not run"]}, 404)
        await self._runtime.wipe(name)
        return JSONResponse({"wiped": name})

    async def save(self, request: Request) -> Response:
        """Write buckets to the disk."""
        leave_out = (await request.json())["leave_out"]
        if self._saved_buckets is None:
            return JSONResponse({"errors": ["this cloud saves no buckets"]}, 409)
        saved = await run_in_threadpool(self._storage.save, self._saved_buckets, leave_out)
        return JSONResponse({"saved": saved})
