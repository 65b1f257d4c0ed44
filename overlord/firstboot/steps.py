"""All steps in their order, and what runs them: what is done stays done, what fails is named."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from overlord.errors import OverlordError
from overlord.facts.system import read_disk
from overlord.firstboot import data, host, mesh, services
from overlord.firstboot.context import AGAIN, Context, StepFunction
from overlord.journal import Journal, uptime_id
from overlord.node import read_boot_settings, read_node
from overlord.paths import Paths
from overlord.releases import Releases
from overlord.runner import SystemRunner

STEPS: tuple[tuple[str, StepFunction], ...] = (
    ("tool", host.tool),
    ("software", host.software),
    ("admin", host.admin),
    ("sysctl", host.sysctl),
    ("ssh", host.ssh),
    ("clock", host.clock),
    ("firewall", host.firewall),
    ("fail2ban", host.fail2ban),
    ("updates", host.updates),
    ("certificate", host.certificate),
    ("journal", host.journal),
    ("guard", host.guard),
    ("docker", host.docker),
    ("tailnet", mesh.tailnet),
    ("agent", services.agent),
    ("images", services.images),
    ("database", data.database),
    ("stack", services.stack),
    ("healthy", services.healthy),
    ("metrics", data.metrics),
    ("logs", data.logs),
    ("finish", services.finish),
)

VOLATILE = frozenset({"tailnet", "stack"})
"""Steps whose work a reboot undoes: compose.env is in memory, and services have to start again."""


def run_steps(
    context: Context,
    steps: tuple[tuple[str, StepFunction], ...] = STEPS,
    say: Callable[[str], object] = print,
) -> bool:
    """Run the steps that are not done yet; False when one failed, which the journal then names."""
    journal = Journal(context.paths)
    release = Releases(context.paths).current() or ""
    uptime = uptime_id(context.paths)
    for name, function in steps:
        if journal.state.is_done(name, release, uptime if name in VOLATILE else None):
            continue
        say(f"first boot: {name} …")
        try:
            journal.begin(name, release, uptime)
            with _StepLog(context, name) as logged:
                notes = function(logged)
        except OverlordError as error:
            journal.fail(name, error.what, error.remedy)
        except OSError as error:
            journal.fail(name, *_explain_os_error(error, context, name))
        except Exception as error:
            log = context.paths.step_logs / f"{name}.log"
            journal.fail(name, f"{type(error).__name__}: {error}", f"read {log}, {AGAIN}")
        else:
            journal.done(name, notes)
            continue
        failed = journal.state.failed
        if failed:
            say(f"first boot: step {name} failed: {failed.error}\n  what to do: {failed.remedy}")
        return False
    return True


class _StepLog:
    """Runs a step with what its commands say in the step's own log."""

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._file = context.paths.step_logs / f"{name}.log"

    def __enter__(self) -> Context:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._file.open("a", encoding="utf-8")
        if isinstance(self._context.runner, SystemRunner):
            return replace(self._context, runner=SystemRunner(self._log))
        return self._context

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk has been named by then
            self._log.close()


def _explain_os_error(error: OSError, context: Context, name: str) -> tuple[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        paths = context.paths
        folders = (paths.opt, paths.state, paths.secrets, paths.root / "var/lib/docker")
        full = [disk.path for disk in map(read_disk, folders) if disk.free < 1024**2]
        return (
            f"no space left on the disk of {error.filename or ' and '.join(full) or 'this node'}",
            f"free space or choose a larger server type (overlord:serverTypes), {AGAIN}",
        )
    log = context.paths.step_logs / f"{name}.log"
    return f"{type(error).__name__}: {error}", f"read {log}, {AGAIN}"


def main(paths: Paths, download: Callable[[str], bytes]) -> bool:
    """The whole of it on this machine. Raises OverlordError when not even the node is known."""
    os.umask(0o022)
    boot = read_boot_settings(paths)
    node = read_node(paths, boot)
    return run_steps(Context(paths, SystemRunner(), boot, node, download))
