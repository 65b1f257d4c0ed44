"""What workerd is told about an uploaded script: its configuration and its environment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sandbox.cloud.cloudflare.domain import Worker

SCHEME_HEADER = "X-Forwarded-Proto"
"""Tells the way out whether the Worker asked for http or https."""
WORKER_SOCKET, CRON_SOCKET = "worker", "cron"
CRON_SOURCE = Path(__file__).parent / "cron.js"
_FILE = re.compile(r"[^A-Za-z0-9._-]")


def environment(worker: Worker) -> dict[str, str]:
    """The texts of bindings by variable: so no secret is in a file or on a command line."""
    return {
        _variable(number): str(binding.get("text", ""))
        for number, binding in enumerate(_bindings(worker))
        if binding["type"] in ("plain_text", "secret_text")
    }


def module_file(name: str) -> str:
    """The file that a module is kept in."""
    return f"module-{_FILE.sub('_', name)}"


def configuration(worker: Worker, storage: Path, outbound: str) -> str:
    """The configuration, in Cap'n Proto's text form. Modules are beside it, see `module_file`."""
    main = worker.metadata["main_module"]
    names = [main, *(name for name in sorted(worker.modules) if name != main)]
    modules = [f"(name = {_text(n)}, esModule = embed {_text(module_file(n))})" for n in names]
    bindings = [
        line
        for number, binding in enumerate(_bindings(worker))
        if (line := _binding(number, binding))
    ]
    classes = [
        f"(className = {_text(name)}, uniqueKey = {_text(f'{worker.name}-{name}')}, "
        "enableSql = true)"
        for name in worker.classes
    ]
    flags = [_text(flag) for flag in worker.metadata.get("compatibility_flags") or []]
    return f"""using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "cron", worker = .cron),
    (name = "storage", disk = (path = {_text(str(storage))}, writable = true)),
    (name = "outside", external = (
      address = {_text(outbound)},
      http = (style = host, forwardedProtoHeader = "{SCHEME_HEADER}"),
    )),
  ],
  sockets = [
    (name = "{WORKER_SOCKET}", address = "127.0.0.1:0", http = (), service = "worker"),
    (name = "{CRON_SOCKET}", address = "127.0.0.1:0", http = (), service = "cron"),
  ],
);

const worker :Workerd.Worker = (
  compatibilityDate = {_text(worker.metadata.get("compatibility_date") or "2021-11-02")},
  compatibilityFlags = [{", ".join(flags)}],
  modules = [{", ".join(modules)}],
  bindings = [{", ".join(bindings)}],
  durableObjectNamespaces = [{", ".join(classes)}],
  durableObjectStorage = (localDisk = "storage"),
  globalOutbound = "outside",
);

const cron :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  compatibilityFlags = ["service_binding_extra_handlers"],
  modules = [(name = "cron.js", esModule = embed "cron.js")],
  bindings = [(name = "WORKER", service = "worker")],
);
"""


def _binding(number: int, binding: dict[str, Any]) -> str | None:
    name = _text(binding["name"])
    match binding["type"]:
        case "plain_text" | "secret_text":
            return f"(name = {name}, fromEnvironment = {_text(_variable(number))})"
        case "durable_object_namespace":
            return f"(name = {name}, durableObjectNamespace = {_text(binding['class_name'])})"
    return None


def _bindings(worker: Worker) -> list[dict[str, Any]]:
    return worker.metadata.get("bindings") or []


def _variable(number: int) -> str:
    return f"BINDING_{number}"


def _text(value: str) -> str:
    """A text in the form that Cap'n Proto shares with JSON."""
    if not value.isascii():
        raise ValueError(f"{value!r} is not plain ASCII")
    return json.dumps(value)
