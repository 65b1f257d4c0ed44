"""Day 2: put another release in force, or go back, without leaving a half-made state.

    obtain → validate → pull → this node's turn → store secrets → switch → settle → record

Up to "pull" nothing of the running stack is touched. The turn (overlord.turn) may hand the role of
the primary to the other node. "settle" is done by the new release's own code (overlord.settle), so
a release that cannot even start is found out. If it fails, the symlink and the secrets go back and
the old release settles again.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from overlord.actions.secrets import changed_secrets, snapshot, store
from overlord.errors import OverlordError
from overlord.facts.mounts import releases_in_use
from overlord.facts.services import (
    Container,
    DockerUnavailableError,
    ExpectedService,
    expected_services,
)
from overlord.files import write_json
from overlord.journal import read_boot_state
from overlord.layout import stack_of
from overlord.lock import exclusive
from overlord.node import BootSettings, Node, read_node
from overlord.paths import Paths
from overlord.releases import Releases
from overlord.runner import Command, CommandFailedError, Result, Runner, check
from overlord.settle import running_code
from overlord.tree import tree_digest
from overlord.turn import Change

LOCK_TIMEOUT = 900.0
"""Longer than an apply takes: one that lost its operator ends by itself."""
SETTLE_TIMEOUT = 1500.0

Fetch = Callable[[Node, dict[str, str], str], bytes]
"""Node, secrets and SHA-256 to the bundle's bytes."""


@dataclass(frozen=True)
class Plan:
    """What an apply would change."""

    release: str
    current: str | None
    changed_secrets: tuple[str, ...] = ()
    recreated: tuple[str, ...] = ()
    """Services that mount a changed secret."""
    renewed: tuple[str, ...] = ()
    """Services that get a new container, these among them."""
    agent: bool = False
    """Whether the node agent's code changes."""

    @property
    def lines(self) -> tuple[str, ...]:
        """For people."""
        release = (
            f"release {self.release} stays"
            if self.release == self.current
            else f"release {self.current or 'none'} → {self.release}"
        )
        return (
            release,
            f"secrets changed: {', '.join(self.changed_secrets) or 'none'}",
            f"new containers: {', '.join(self.renewed) or 'none'}",
        )

    @property
    def change(self) -> Change:
        """What matters of it to the pair."""
        return Change(
            self.release, frozenset(self.renewed), self.agent, frozenset(self.changed_secrets)
        )


class Turns(Protocol):
    """Puts the changes of both nodes in order, see turn.Pair."""

    def preview(self, change: Change) -> str:
        """What `begin` would do now."""
        ...

    def begin(self, change: Change) -> None:
        """Wait until this node may be changed. Raises OverlordError."""
        ...

    def end(self, change: Change) -> None:
        """Wait until this node is what it was. Raises OverlordError."""
        ...

    def abandon(self) -> None:
        """The change has failed."""
        ...


class ApplyError(OverlordError):
    """A release could not be put in force."""


@dataclass(frozen=True)
class Deployment:
    """Applies releases on this node."""

    paths: Paths
    runner: Runner
    boot: BootSettings
    releases: Releases
    fetch: Fetch
    turns: Turns
    say: Callable[[str], object] = print
    lock_timeout: float = LOCK_TIMEOUT
    stack_healthy: Callable[[], bool] = lambda: False
    """Whether every service is as it should be right now."""
    containers: Callable[[], tuple[Container, ...]] = tuple
    """As Docker has them. Raises DockerUnavailableError."""

    def apply(self, sha256: str, secrets: dict[str, str], dry_run: bool = False) -> Plan:
        """Put a bundle in force. Raises OverlordError; then the old release is in force again."""
        with exclusive(self.paths.apply_lock, self.lock_timeout, self.say):
            had = self.releases.has(sha256)
            release = self._obtain(sha256, secrets)
            try:
                plan = self._plan(release, secrets)
                if self._booted:
                    self._validate(release)
            except OverlordError:
                if not had:
                    self.releases.remove(release)
                raise
            for line in plan.lines:
                self.say(line)
            if dry_run:
                if self._booted:
                    self.say(self.turns.preview(plan.change))
                if not had:
                    self.releases.remove(release)
                return plan
            if self._nothing_to_do(plan):
                self.say("nothing to do: in force and healthy")
                return plan
            self._put_in_force(plan, secrets, "apply")
            return plan

    def roll_back(self, release: str | None = None) -> Plan:
        """Put an older release in force, by default the one before. Raises OverlordError."""
        with exclusive(self.paths.apply_lock, self.lock_timeout, self.say):
            target = release or self.releases.previous()
            if target is None or target not in self.releases.present():
                raise OverlordError(
                    f"no release {target or 'before this one'} on disk",
                    "see `overlordctl releases`; an older bundle comes back with `pulumi up`",
                )
            plan = self._plan(target, {})
            self._validate(target)
            self._put_in_force(plan, {}, "rollback")
            return plan

    @property
    def _booted(self) -> bool:
        return read_boot_state(self.paths).state == "done"

    def _nothing_to_do(self, plan: Plan) -> bool:
        """As right after the first boot, which has just settled this very release."""
        history = self.releases.history()
        return (
            plan.release == plan.current
            and not plan.changed_secrets
            and self._booted
            and bool(history)
            and (history[-1].release, history[-1].result) == (plan.release, "ok")
            and not self._marker.exists()
            and self.stack_healthy()
        )

    def _obtain(self, sha256: str, secrets: dict[str, str]) -> str:
        if self.releases.has(sha256):
            return sha256[:12]
        self.say(f"fetching bundle {sha256[:12]}")
        node = read_node(self.paths, self.boot)
        return self.releases.unpack(self.fetch(node, secrets, sha256), sha256)

    def _plan(self, release: str, secrets: dict[str, str]) -> Plan:
        read_node(self.paths, self.boot, release)
        changed = changed_secrets(secrets, self.paths)
        services = expected_services(stack_of(self.paths, self.boot.node, release).file)
        recreated = tuple(
            service.name for service in services if set(service.secrets) & set(changed)
        )
        return Plan(
            release=release,
            current=self.releases.current(),
            changed_secrets=changed,
            recreated=recreated,
            renewed=self._renewed(release, services, recreated) if self._booted else recreated,
            agent=running_code(self.paths) != tree_digest(self.paths.release(release) / "overlord"),
        )

    def _renewed(
        self, release: str, services: tuple[ExpectedService, ...], recreated: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Services that compose will make a new container for; all of them where that cannot be
        known."""
        home = stack_of(self.paths, self.boot.node).file.parent
        compose = stack_of(self.paths, self.boot.node, release)
        result = self.runner.run(compose.hashes(home))
        wanted = dict(line.split(maxsplit=1) for line in result.output.splitlines() if " " in line)
        try:
            found = {one.service: one.config_hash for one in self.containers()}
        except DockerUnavailableError:
            found = {}
        return tuple(
            one.name
            for one in services
            if one.name in recreated
            or one.name not in found
            or found[one.name] != wanted.get(one.name)
        )

    def _validate(self, release: str) -> None:
        compose = stack_of(self.paths, self.boot.node, release)
        remedy = "nothing was changed; mend the stack in the repository and run `pulumi up`"
        check(self.runner, compose.validate(), remedy)
        # Before the switch, so that a missing image or a dead registry changes nothing either.
        check(self.runner, compose.pull(), remedy)

    def _put_in_force(
        self, plan: Plan, secrets: dict[str, str], action: Literal["apply", "rollback"]
    ) -> None:
        if self._booted:
            self.turns.begin(plan.change)
        before = self.releases.current()
        saved = snapshot(plan.changed_secrets, self.paths)
        write_json(self._marker, {"release": plan.release, "previous": before})
        try:
            store({name: secrets[name] for name in plan.changed_secrets}, self.paths)
            self.releases.switch(plan.release)
            self._settle(plan.recreated)
            if self._booted:
                self.turns.end(plan.change)
        except (OverlordError, OSError) as error:
            reason = error.what if isinstance(error, OverlordError) else str(error)
            self.turns.abandon()
            self.releases.record(action, plan.release, "failed", reason)
            remedy = error.remedy if isinstance(error, OverlordError) else "see the reason"
            if not self._booted:
                self._marker.unlink(missing_ok=True)  # the first boot tells of itself
                raise ApplyError(f"release {plan.release}: {reason}", remedy) from error
            outcome = self._go_back(before, saved, plan.recreated)
            raise ApplyError(f"release {plan.release}: {reason}\n{outcome}", remedy) from error
        self.releases.record(action, plan.release, "ok")
        self._marker.unlink(missing_ok=True)
        gone = self.releases.prune(releases_in_use(self.paths.root / "proc"))
        for release in gone:
            self.say(f"removed old release {release}")

    def _settle(self, recreate: tuple[str, ...]) -> None:
        """Let the release in force bring the node to what it wants."""
        if not self._booted:
            # The first boot never ended: this release carries it on.
            command = Command(("/usr/local/sbin/overlord-launch", "run"), timeout=SETTLE_TIMEOUT)
            check(self.runner, command, "see `overlordctl status`")
            return
        command = settle_command(self.paths.current.resolve(), recreate)
        result = self.runner.run(command)
        for line in (result.output + result.errors).splitlines():
            self.say(f"  {line}")
        if result.code:
            raise _settle_error(command, result)

    def _go_back(
        self, before: str | None, saved: dict[str, str | None], recreate: tuple[str, ...]
    ) -> str:
        if before is None:
            return "there is no release to go back to"
        self.say(f"failed, going back to release {before}")
        try:
            store(saved, self.paths)
            self.releases.switch(before)
            self._settle(recreate)
        except (OverlordError, OSError) as error:
            reason = error.what if isinstance(error, OverlordError) else str(error)
            return f"going back to release {before} failed too: {reason}"
        self._marker.unlink(missing_ok=True)
        return f"release {before} is in force again and healthy"

    @property
    def _marker(self) -> Path:
        return self.paths.applying


def _settle_error(command: Command, result: Result) -> OverlordError:
    """What the other process said was wrong, see ctl._stop."""
    lines = result.errors.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("overlordctl: "):
            remedy = "".join(lines[number + 1 : number + 2]).strip().removeprefix("what to do: ")
            return OverlordError(line.removeprefix("overlordctl: "), remedy)
    return CommandFailedError(command, result, "this release's own tools do not run: mend them")


def settle_command(release_home: Path, recreate: tuple[str, ...] = ()) -> Command:
    """Run the code of a release to bring the node to what that release wants."""
    options = tuple(f"--recreate={service}" for service in recreate)
    return Command(
        (sys.executable, "-m", "overlord.ctl", "settle", *options),
        env=(("PYTHONPATH", str(release_home)),),
        timeout=SETTLE_TIMEOUT,
        name="overlordctl settle",
    )
