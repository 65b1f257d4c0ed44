"""Servers as containers that boot: systemd, cloud-init, sshd and a Docker daemon of their own."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml

from sandbox.commands import SandboxError, run
from sandbox.machines.daemon import Docker
from sandbox.machines.driver import FirewallRule, MachineError, MachineSpec
from sandbox.machines.processes import MARKER
from sandbox.world import GATEWAY, GATEWAY_V6, NETWORK, SUBNET_V6, World

SERVER_IMAGE = "overlord-sandbox/server"
ID_LABEL = "overlord.server.id"
NAME_LABEL = "overlord.server.name"
IPV6_LABEL = "overlord.server.ipv6"

# In the order of the kernel's bits.
# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
)
# fmt: on
# A server must not set this machine's clock, load modules into its kernel or change its policy.
WITHHELD = {"SYS_MODULE", "SYS_RAWIO", "SYS_TIME", "MAC_OVERRIDE", "MAC_ADMIN", "WAKE_ALARM"}
NEEDED = {"SYS_ADMIN", "NET_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "MKNOD", "SETFCAP"}

# What systemd's first process does on these signals; systemd(1).
HALT = "SIGRTMIN+3"
REBOOT = "SIGRTMIN+5"
REBOOT_EXIT_CODE = 129
"""The kernel ends the first process of a container by SIGHUP when the container reboots."""

# In microseconds. Docker's `--cpus` would do too, but cannot be lifted from a running container.
CPU_PERIOD = 100_000
NO_QUOTA = -1
SHARE_OF_MEMORY = 0.8
"""The most of this machine's memory that one server may use."""
FIREWALL_CHAIN = "SANDBOX-FIREWALL"
NEIGHBOUR_DISCOVERY = (133, 134, 135, 136, 137)


def capabilities(bounding_set: int) -> list[str]:
    """List what a server is given: all that this machine has, but for what reaches beyond it.

    `--privileged` would also ask for what the machine itself may lack, and then fails.
    """
    return [
        name
        for bit, name in enumerate(CAPABILITIES)
        if bounding_set >> bit & 1 and name not in WITHHELD
    ]


def own_bounding_set() -> int:
    """Read the capabilities that this process may ever have."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0


def container(machine_id: int) -> str:
    """Name the container of a server."""
    return f"overlord-server-{machine_id}"


def volume(machine_id: int) -> str:
    """Name the volume below the server's own Docker daemon."""
    return f"{container(machine_id)}-docker"


def limits(cores: int, memory_gb: float, cpu_count: int, memory_bytes: int) -> list[str]:
    """Build the limits of a server, capped to what this machine can give."""
    memory = min(int(memory_gb * 2**30), int(memory_bytes * SHARE_OF_MEMORY))
    swap = memory  # equal to the memory means none
    # A server of more cores than there are here may use them all. A quota of all would bound
    # nothing, and make the kernel refuse the larger quotas of the server's own containers.
    quota = cores * CPU_PERIOD if cores < cpu_count else NO_QUOTA
    return [
        f"--cpu-period={CPU_PERIOD}",
        f"--cpu-quota={quota}",
        f"--memory={memory}",
        f"--memory-swap={swap}",
    ]


def create_command(
    spec: MachineSpec,
    seed: Path,
    granted: Sequence[str],
    cpu_count: int,
    memory_bytes: int,
) -> list[str]:
    """Build the Docker command that creates a server's container."""
    address = [f"--network={NETWORK}", f"--ip={spec.ipv4}"] if spec.ipv4 else ["--network=none"]
    # Without an IPv4 address Docker gives no interface, so there is none for IPv6 either.
    ipv6 = spec.ipv6 if spec.ipv4 and spec.ipv6 else ""
    labels = {ID_LABEL: str(spec.id), NAME_LABEL: spec.name, IPV6_LABEL: ipv6}
    return [
        "create",
        f"--name={container(spec.id)}",
        f"--hostname={spec.name}",
        *(f"--label={key}={value}" for key, value in labels.items()),
        *address,
        *limits(spec.cores, spec.memory_gb, cpu_count, memory_bytes),
        "--cap-drop=ALL",
        *(f"--cap-add={name}" for name in granted),
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--security-opt=systempaths=unconfined",
        "--device-cgroup-rule=a *:* rwm",
        "--device=/dev/net/tun",
        # With a namespace of its own, what the server's Docker starts counts to the server.
        "--cgroupns=private",
        "--tmpfs=/run:exec,mode=755",
        "--tmpfs=/tmp:exec,mode=1777",
        f"--volume={volume(spec.id)}:/var/lib/docker",
        f"--volume={seed}:/var/lib/cloud/seed/nocloud:ro",
        f"--env=SANDBOX_NAME_SERVER={GATEWAY}",
        f"--stop-signal={HALT}",
        "--tty",
        "--log-opt=max-size=20m",
        f"{SERVER_IMAGE}:{spec.image}",
    ]


def meta_data(spec: MachineSpec) -> str:
    """Render the cloud-init meta-data of a server."""
    document = {
        "instance-id": str(spec.id),
        "local-hostname": spec.name,
        "public-keys": list(spec.ssh_keys),
    }
    return yaml.safe_dump(document, sort_keys=True)


def firewall(rules: tuple[FirewallRule, ...] | None, family: Literal[4, 6]) -> str:
    """Render a server's firewall for iptables-restore or ip6tables-restore.

    It stands in the mangle table, before whatever the server itself filters or translates, as the
    vendor's stands before the server. Answers to the server's own connections pass.
    """
    ping = "icmp" if family == 4 else "ipv6-icmp"
    lines = ["*mangle", f":{FIREWALL_CHAIN} - [0:0]"]
    if rules is None:
        return "\n".join([*lines, "COMMIT", ""])
    allow = f"-A {FIREWALL_CHAIN}"
    lines.append(f"{allow} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    if family == 6:
        lines += [
            f"{allow} -p {ping} --icmpv6-type {kind} -j ACCEPT" for kind in NEIGHBOUR_DISCOVERY
        ]
    for rule in rules:
        for source in rule.source_ips:
            if ipaddress.ip_network(source, strict=False).version != family:
                continue
            protocol = ping if rule.protocol == "icmp" else rule.protocol
            port = ""
            if rule.protocol in ("tcp", "udp") and rule.port and rule.port != "any":
                port = f" --dport {rule.port.replace('-', ':')}"
            lines.append(f"{allow} -s {source} -p {protocol}{port} -j ACCEPT")
    return "\n".join([*lines, f"{allow} -j DROP", "COMMIT", ""])


class DockerDriver:
    """Machine driver on our Docker daemon. See `sandbox.machines.driver.MachineDriver`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.docker = Docker(world)
        self._consoles: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._watch_reboots, daemon=True, name="reboots").start()

    @classmethod
    def of_state(cls, state: Path) -> DockerDriver:
        """Make a driver for the world whose state folder this is."""
        return cls(World(state.absolute().parent))

    def create(self, spec: MachineSpec) -> None:
        """Create the container with its seed and start it."""
        image = f"{SERVER_IMAGE}:{spec.image}"
        if not self.docker.succeeds("image", "inspect", image):
            raise MachineError(
                f"server {spec.name}: the sandbox has no image {spec.image}; it boots debian-12"
            )
        if missing := NEEDED - set(granted := capabilities(own_bounding_set())):
            raise MachineError(
                f"server {spec.name}: this machine lacks {', '.join(sorted(missing))}; "
                "run the sandbox as root, outside of a restricted container"
            )
        command = create_command(
            spec,
            self._write_seed(spec),
            granted,
            os.cpu_count() or 1,
            psutil.virtual_memory().total,
        )
        self._do(spec.id, *command)
        try:
            self._start(spec.id)
        except MachineError:
            self.delete(spec.id)
            raise

    def delete(self, machine_id: int) -> None:
        """Remove container, volume and seed."""
        name = container(machine_id)
        if self._exists(machine_id):
            self._do(machine_id, "rm", "--force", "--volumes", name, seconds=300)
        if self.docker.succeeds("volume", "inspect", volume(machine_id)):
            self._do(machine_id, "volume", "rm", "--force", volume(machine_id))
        seed = self._seed(machine_id)
        for file in seed.glob("*"):
            file.unlink()
        if seed.exists():
            seed.rmdir()
        self._rules(machine_id).unlink(missing_ok=True)
        self._end_console(machine_id)

    def power_on(self, machine_id: int) -> None:
        """Start a container that is off."""
        if self.state(machine_id) == "off":
            self._start(machine_id)

    def power_off(self, machine_id: int) -> None:
        """Kill the container's first process, and with it all others."""
        if self.state(machine_id) == "running":
            self._do(machine_id, "kill", "--signal=SIGKILL", container(machine_id))
            self._wait_off(machine_id)

    def shutdown(self, machine_id: int) -> None:
        """Tell systemd to halt."""
        if self.state(machine_id) == "running":
            self._do(machine_id, "kill", f"--signal={HALT}", container(machine_id))

    def reboot(self, machine_id: int) -> None:
        """Tell systemd to reboot; `_watch_reboots` starts the container again."""
        if self.state(machine_id) == "off":
            self._start(machine_id)
        else:
            self._do(machine_id, "kill", f"--signal={REBOOT}", container(machine_id))

    def reset(self, machine_id: int) -> None:
        """Kill and start."""
        self.power_off(machine_id)
        self._start(machine_id)

    def state(self, machine_id: int) -> Literal["running", "off"]:
        """Ask Docker."""
        template = "{{.State.Running}}"
        running = self._do(machine_id, "inspect", "--format", template, container(machine_id))
        return "running" if running == "true" else "off"

    def set_firewall(self, machine_id: int, rules: tuple[FirewallRule, ...] | None) -> None:
        """Put the rules in force, and keep them for the next start."""
        self._write_rules(machine_id, rules)
        if self.state(machine_id) == "running":
            self._apply_firewall(machine_id)

    def resize(self, machine_id: int, cores: int, memory_gb: float) -> None:
        """Change the limits."""
        changed = limits(cores, memory_gb, os.cpu_count() or 1, psutil.virtual_memory().total)
        self._do(machine_id, "update", *changed, container(machine_id))

    def _do(self, machine_id: int, *arguments: str, seconds: float = 120) -> str:
        try:
            return self.docker(*arguments, seconds=seconds)
        except SandboxError as error:
            raise MachineError(f"server {machine_id}: {error}") from error

    def _exists(self, machine_id: int) -> bool:
        return self.docker.succeeds("container", "inspect", container(machine_id))

    def _start(self, machine_id: int) -> None:
        # The lock keeps a start by hand and one by `_watch_reboots` apart.
        with self._lock:
            if self.state(machine_id) == "running":
                return
            self._do(machine_id, "start", container(machine_id))
            started = time.time()
            self._apply_firewall(machine_id)
            self._add_ipv6(machine_id)
        self._follow_console(machine_id, started)

    def _inside(
        self, machine_id: int, namespace: str, *argv: str, stdin: str | None = None
    ) -> None:
        """Run a program of this machine in a namespace of the server."""
        pid = self._do(machine_id, "inspect", "--format", "{{.State.Pid}}", container(machine_id))
        try:
            run(["nsenter", "--target", pid, namespace, *argv], stdin=stdin)
        except SandboxError as error:
            raise MachineError(f"server {machine_id}: {error}") from error

    def _apply_firewall(self, machine_id: int) -> None:
        file = self._rules(machine_id)
        if not file.exists():
            return
        stored: list[dict[str, Any]] | None = json.loads(file.read_text())
        rules = (
            None
            if stored is None
            else tuple(
                FirewallRule(rule["protocol"], rule["port"], tuple(rule["source_ips"]))
                for rule in stored
            )
        )
        families: tuple[tuple[Literal[4, 6], str], ...] = ((4, "iptables"), (6, "ip6tables"))
        for family, program in families:
            restore = (f"{program}-restore", "--wait", "--noflush")
            self._inside(machine_id, "--net", *restore, stdin=firewall(rules, family))
            jump = f"PREROUTING -i eth0 -j {FIREWALL_CHAIN}"
            table = f"{program} --wait --table mangle"
            script = f"{table} --check {jump} 2>/dev/null || {table} --append {jump}"
            self._inside(machine_id, "--net", "sh", "-c", script)

    def _add_ipv6(self, machine_id: int) -> None:
        """Give the server the first address of its /64, which Docker's own pool cannot do."""
        template = f'{{{{index .Config.Labels "{IPV6_LABEL}"}}}}'
        network = self._do(machine_id, "inspect", "--format", template, container(machine_id))
        if not network or network == "<no value>":
            return
        address = ipaddress.ip_network(network, strict=False)[1]
        prefix = SUBNET_V6.partition("/")[2]
        script = (
            "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0 && "
            f"ip -6 address replace {address}/{prefix} dev eth0 nodad && "
            f"ip -6 route replace default via {GATEWAY_V6} dev eth0"
        )
        self._inside(machine_id, "--net", "sh", "-c", script)

    def _follow_console(self, machine_id: int, since: float) -> None:
        """Copy the server's console into a file until it stops."""
        template = f'{{{{index .Config.Labels "{NAME_LABEL}"}}}}'
        name = self._do(machine_id, "inspect", "--format", template, container(machine_id))
        self._end_console(machine_id)
        self.world.log.mkdir(parents=True, exist_ok=True)
        with (self.world.log / f"{name}.console").open("ab") as output:
            self._consoles[machine_id] = subprocess.Popen(
                ["docker", "logs", "--follow", f"--since={since:.3f}", container(machine_id)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **self.docker.env, MARKER: str(self.world.state)},
                start_new_session=True,
            )

    def _end_console(self, machine_id: int) -> None:
        follower = self._consoles.pop(machine_id, None)
        if follower:
            follower.terminate()
            follower.wait()

    def _wait_off(self, machine_id: int, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while self.state(machine_id) == "running":
            if time.monotonic() > deadline:
                raise MachineError(f"server {machine_id} did not stop within {seconds:.0f} s")
            time.sleep(0.05)

    def _watch_reboots(self) -> None:
        """Start a server again whose systemd asked the kernel for a reboot."""
        filters = ("type=container", "event=die", f"label={ID_LABEL}")
        command = ["docker", "events", "--format={{json .}}", *(f"--filter={f}" for f in filters)]
        while True:
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **self.docker.env, MARKER: str(self.world.state)},
                text=True,
            ) as events:
                for line in events.stdout or ():
                    self._on_death(json.loads(line)["Actor"]["Attributes"])
            # The daemon went away; a new one may come.
            time.sleep(1)

    def _on_death(self, attributes: Mapping[str, str]) -> None:
        if int(attributes.get("exitCode", "0")) != REBOOT_EXIT_CODE:
            return
        machine_id = int(attributes[ID_LABEL])
        try:
            self._start(machine_id)
        except MachineError as error:
            print(f"reboot of server {machine_id}: {error}", flush=True)

    def _seed(self, machine_id: int) -> Path:
        return self.world.seeds / str(machine_id)

    def _write_seed(self, spec: MachineSpec) -> Path:
        seed = self._seed(spec.id)
        seed.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, content in (("meta-data", meta_data(spec)), ("user-data", spec.user_data)):
            file = seed / name
            file.touch(mode=0o600)
            file.write_text(content)
        return seed

    def _rules(self, machine_id: int) -> Path:
        return self.world.state / "firewalls" / f"{machine_id}.json"

    def _write_rules(self, machine_id: int, rules: tuple[FirewallRule, ...] | None) -> None:
        file = self._rules(machine_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        stored = (
            None
            if rules is None
            else [
                {
                    "protocol": rule.protocol,
                    "port": rule.port,
                    "source_ips": list(rule.source_ips),
                }
                for rule in rules
            ]
        )
        file.write_text(json.dumps(stored))
