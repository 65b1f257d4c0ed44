"""Runs the Pulumi program without an engine and keeps everything that it registers."""

from __future__ import annotations

import asyncio
import logging
import re
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import empty_pb2, json_format
from pulumi import runtime
from pulumi.runtime import mocks as pulumi_mocks
from pulumi.runtime import rpc, settings, stack

from components import bundle_object
from components.hetzner_api import HetznerApi, LiveResource, Offer

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"
SIGNATURE_KEY = "4dabf18193072939515e22adb298388d"
TOKENS = (
    "HCLOUD_TOKEN",
    "CLOUDFLARE_API_TOKEN",
    "TAILSCALE_API_KEY",
    "OVERLORD_B2_KEY_ID",
    "OVERLORD_B2_KEY",
    "OVERLORD_NODE_B2_KEY_ID",
    "OVERLORD_NODE_B2_KEY",
    "OVERLORD_ARBITER_DNS_TOKEN",
)
# Addresses that are secret by themselves.
SECRET_ADDRESSES = (
    "OVERLORD_ALERT_SLACK_URL",
    "OVERLORD_HEARTBEAT_URL_VPS_01",
    "OVERLORD_HEARTBEAT_URL_VPS_02",
)
CLOUDFLARE_RANGES = {"ipv4Cidrs": ["192.0.2.0/25"], "ipv6Cidrs": ["2001:db8:cf::/48"]}


@dataclass(frozen=True)
class Registration:
    """One resource as the program asked the engine for it.

    Args:
        type: type token.
        name: its name.
        parent: URN of its parent.
        inputs: plain inputs; secrets are unwrapped.
        secret_inputs: names of inputs that are secret or hold a secret.
        options: the request itself, for its options.
    """

    type: str
    name: str
    parent: str
    inputs: Mapping[str, Any]
    secret_inputs: frozenset[str]
    options: Any


@dataclass
class Recording:
    """Everything that one run of the program registered."""

    resources: list[Registration] = field(default_factory=list)
    hooks: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: frozenset[str] = frozenset()
    log: str = ""

    def of_type(self, token: str) -> list[Registration]:
        """Registrations of a type."""
        return [one for one in self.resources if one.type == token]

    def named(self, name: str) -> Registration:
        """The one custom resource of this name."""
        (found,) = [
            one
            for one in self.resources
            if one.name == name and not one.type.startswith("overlord:")
        ]
        return found


class _Vendors(pulumi_mocks.Mocks):
    """Answers as the providers would: every computed output is filled in."""

    def __init__(self, last_state: Mapping[str, Any]) -> None:
        self.last_state = last_state
        self.count = 0

    def call(self, args: pulumi_mocks.MockCallArgs) -> Any:
        if args.token == "cloudflare:index/getIpRanges:getIpRanges":
            return CLOUDFLARE_RANGES
        if args.token == "pulumi:pulumi:readStackResourceOutputs":
            return {"name": args.args["stackName"], "outputs": dict(self.last_state)}
        raise AssertionError(f"unexpected function {args.token}")

    def new_resource(self, args: pulumi_mocks.MockResourceArgs) -> Any:
        self.count += 1
        state = {name: _plain(value) for name, value in args.inputs.items()}
        match args.typ:
            case "hcloud:index/primaryIp:PrimaryIp":
                number = self.count
                state["ipAddress"] = (
                    f"198.51.100.{number}"
                    if state["type"] == "ipv4"
                    else f"2001:db8:0:{number}::/64"
                )
            case "tailscale:index/tailnetKey:TailnetKey":
                state["key"] = f"tskey-{args.name}"
            case "cloudflare:index/originCaCertificate:OriginCaCertificate":
                state["certificate"] = "CERTIFICATE"
            case "pulumi-python:dynamic:GeneratedSecret":
                state |= {
                    "value": f"value-of-{args.name}",
                    "hash": f"hash-of-{args.name}",
                    "previous": f"value-of-{args.name}-before" if state["kind"] == "token" else "",
                    "publicKey": f"ssh-ed25519 PUBLIC {args.name}",
                    "csr": f"csr-of-{args.name}",
                    "certificate": f"certificate-of-{args.name}",
                    "createdAt": "2026-11-20T00:00:00+00:00",
                }
            case "pulumi-python:dynamic:LaunchTicket":
                state |= {
                    "bundleUrl": "https://s3.example.com/bundle?signature=B",
                    "secretsUrl": "https://s3.example.com/secrets?signature=S",
                    "secretsSha256": "0" * 64,
                    "secretsKey": "fernet-key",
                }
        return str(self.count), state


class _Monitor(pulumi_mocks.MockMonitor):
    def __init__(self, mocks: pulumi_mocks.Mocks, recording: Recording) -> None:
        super().__init__(mocks)
        self.recording = recording

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802  # the engine's name
        if request.type != "pulumi:pulumi:Stack":
            raw = json_format.MessageToDict(request.object)
            self.recording.resources.append(
                Registration(
                    type=request.type,
                    name=request.name,
                    parent=request.parent,
                    inputs={name: _plain(value) for name, value in raw.items()},
                    secret_inputs=frozenset(n for n, value in raw.items() if _has_secret(value)),
                    options=request,
                )
            )
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        if "pulumi:pulumi:Stack" in request.urn:
            raw = json_format.MessageToDict(request.outputs)
            self.recording.outputs = {name: _plain(value) for name, value in raw.items()}
            self.recording.secret_outputs = frozenset(
                name for name, value in raw.items() if _has_secret(value)
            )
        return empty_pb2.Empty()


class _Callbacks:
    """Keeps the hooks, so that a test can run one."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def register_resource_hook(self, hook: Any) -> None:
        assert hook.name not in self.recording.hooks, f"two hooks named {hook.name}"
        self.recording.hooks[hook.name] = hook


class FakeHetzner:
    """What the program asks Hetzner itself."""

    def __init__(self, servers: list[LiveResource], offers: Mapping[str, Offer]) -> None:
        self.live = servers
        self.offered = offers

    def servers(self, selector: str) -> list[LiveResource]:
        """Servers with the stack's label."""
        return self.live

    def offers(self, location: str) -> Mapping[str, Offer]:
        """Offers of any location."""
        return self.offered


def offer(name: str, **changes: Any) -> Offer:
    """A server type that can be ordered."""
    values: dict[str, Any] = {
        "name": name,
        "cores": 16,
        "memory_gb": 64,
        "disk_gb": 400,
        "architecture": "x86",
        "offered": True,
        "available": True,
        "unavailable_after": None,
    }
    return Offer(**{**values, **changes})


def run_program(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    config: Mapping[str, str],
    *,
    stack_name: str = "sandbox",
    last_state: Mapping[str, Any] | None = None,
    hetzner: FakeHetzner | None = None,
    preview: bool = False,
) -> Recording:
    """Run `__main__.py` as the language host would.

    Args:
        monkeypatch: to set tokens and the fake Hetzner for this test.
        tmp_path: where bundles go.
        config: configuration by full name.
        stack_name: name of the stack.
        last_state: what the engine says of the last run.
        hetzner: live servers and offers; by default none, and everything can be ordered.
        preview: whether nothing is really done.
    """
    vendor = hetzner or FakeHetzner([], {name: offer(name) for name in ("cpx32", "cpx42")})
    monkeypatch.setattr(HetznerApi, "of", classmethod(lambda cls, settings: vendor))
    monkeypatch.setattr(bundle_object, "WORK_DIR", tmp_path)
    monkeypatch.setattr(bundle_object.keep_content, "__defaults__", (tmp_path,))
    for token in TOKENS:
        monkeypatch.setenv(token, f"token-{token.lower()}")
    for address in SECRET_ADDRESSES:
        monkeypatch.setenv(address, f"https://hook.example.com/token-{address.lower()}")
    recording = Recording()
    lines: list[str] = []
    _run(
        _program,
        _Monitor(_Vendors(last_state or {}), recording),
        config,
        stack_name,
        preview,
        lines,
    )
    recording.log = "\n".join(lines)
    return recording


def _program() -> None:
    runpy.run_path(str(REPOSITORY / "__main__.py"), run_name="__main__")


def _run(
    program: Callable[[], None],
    monitor: _Monitor,
    config: Mapping[str, str],
    stack_name: str,
    preview: bool,
    lines: list[str],
) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.Logger("program")
    # What the command line shows; the SDK's own debug lines are not shown.
    logger.addHandler(Handler(level=logging.INFO))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        settings.reset_options(project="overlord", stack=stack_name)
        settings.configure(
            pulumi_mocks.MockSettings(  # type: ignore[no-untyped-call]
                monitor=monitor,
                engine=pulumi_mocks.MockEngine(logger),
                project="overlord",
                stack=stack_name,
                organization="organization",
                dry_run=preview,
                callbacks=_Callbacks(monitor.recording),
            )
        )
        settings.set_root_resource(None)  # type: ignore[arg-type]
        runtime.set_all_config(dict(config), [])
        loop.run_until_complete(stack.run_in_stack(program))
    finally:
        settings.set_root_resource(None)  # type: ignore[arg-type]
        runtime.set_all_config({}, [])
        loop.close()
        asyncio.set_event_loop(asyncio.new_event_loop())


def _has_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get(SIGNATURE_KEY) == SECRET_SIGNATURE or any(
            _has_secret(inner) for inner in value.values()
        )
    return isinstance(value, list) and any(_has_secret(inner) for inner in value)


def _plain(value: Any) -> Any:
    value = rpc.unwrap_rpc_secret(value) if rpc.is_rpc_secret(value) else value
    if isinstance(value, dict):
        if value.get(SIGNATURE_KEY) == SECRET_SIGNATURE:
            return _plain(value["value"])
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def config_of(stack_file: str) -> dict[str, str]:
    """Configuration of a stack with the defaults of Pulumi.yaml, as the engine would pass it."""
    import json

    import yaml

    project = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
    values = {
        f"overlord:{name}": declared["default"]
        for name, declared in project["config"].items()
        if "default" in declared
    }
    values |= yaml.safe_load((REPOSITORY / stack_file).read_text())["config"]
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }


def secret_looking(text: str) -> list[str]:
    """Words in a text that only a secret of the fake vendors contains."""
    return re.findall(r"value-of-\S+|tskey-\S+|fernet-key|signature=\S+|token-overlord\S+", text)
