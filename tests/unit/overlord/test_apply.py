"""Releases come into force whole, or not at all."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from overlord.apply import ApplyError, Deployment
from overlord.errors import OverlordError
from overlord.facts.services import Container, DockerUnavailableError
from overlord.firstboot.steps import STEPS
from overlord.lock import exclusive
from overlord.node import Node, read_boot_settings
from overlord.paths import Paths
from overlord.releases import KEPT, Releases, cut_short, under_way
from overlord.runner import Command, Result
from overlord.settle import host_steps
from overlord.tree import tree_digest
from overlord.turn import Change
from tests.unit.overlord.fakes import FakeRunner, bundle, write_boot


@dataclass
class FakeTurns:
    """A pair in which it is always this node's turn, unless a test says otherwise."""

    calls: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    fails: str = ""
    """The call that fails."""

    def preview(self, change: Change) -> str:
        self._call("preview", change)
        return "it would be this node's turn"

    def begin(self, change: Change) -> None:
        self._call("begin", change)

    def end(self, change: Change) -> None:
        self._call("end", change)

    def abandon(self) -> None:
        self.calls.append("abandon")

    def _call(self, name: str, change: Change) -> None:
        self.calls.append(name)
        self.changes.append(change)
        if name == self.fails:
            raise OverlordError("not in sync", "see the other node")


@dataclass
class World:
    """A node with one release in force, and a bucket."""

    paths: Paths
    releases: Releases
    runner: FakeRunner
    bucket: dict[str, bytes]
    said: list[str]
    first: str
    turns: FakeTurns

    def put(self, mark: str, compose: str | None = None) -> str:
        sha256, data = bundle(mark) if compose is None else bundle(mark, compose=compose)
        self.bucket[sha256] = data
        return sha256

    @property
    def deployment(self) -> Deployment:
        def fetch(node: Node, secrets: dict[str, str], sha256: str) -> bytes:
            assert node.bundles.bucket == "overlord-bundles"
            if sha256 not in self.bucket:
                raise OverlordError(f"bundles/{sha256}: NoSuchKey", "run `pulumi up`")
            return self.bucket[sha256]

        return Deployment(
            paths=self.paths,
            runner=self.runner,
            boot=read_boot_settings(self.paths),
            releases=self.releases,
            fetch=fetch,
            turns=self.turns,
            say=self.said.append,
            lock_timeout=0.0,
        )

    def secret(self, name: str) -> str:
        return (self.paths.secrets / name).read_text()

    @property
    def settled(self) -> list[str]:
        """Releases whose code was asked to settle, in order."""
        return [
            Path(dict(command.env)["PYTHONPATH"]).name
            for command in self.runner.commands
            if "settle" in command.args
        ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    paths = write_boot(tmp_path)
    paths.secrets.mkdir()
    for name in ("postgres_superuser_password", "api_enrol_token", "b2_key_id", "b2_key"):
        (paths.secrets / name).write_text(f"old-{name}")
    clock = iter(range(1, 10_000))
    releases = Releases(paths, lambda: float(next(clock)))
    sha256, data = bundle("first")
    first = releases.unpack(data, sha256)
    releases.switch(first)
    releases.record("first-boot", first, "ok")
    return World(paths, releases, FakeRunner(), {sha256: data}, [], first, FakeTurns())


def fail_settle_of(release: str) -> Callable[[Command], Result]:
    def answer(command: Command) -> Result:
        if release in dict(command.env)["PYTHONPATH"]:
            return Result(1, errors="overlordctl: api is unhealthy\n  what to do: mend it\n")
        return Result(0)

    return answer


def test_a_good_bundle_comes_into_force_and_is_recorded(world: World) -> None:
    sha256 = world.put("second")
    plan = world.deployment.apply(sha256, {})
    assert world.releases.current() == plan.release == sha256[:12]
    assert (world.paths.current / "mark").read_text() == "second"
    assert world.settled == [sha256[:12]]
    assert world.releases.history()[-1].result == "ok"
    assert cut_short(world.paths) is None


def test_images_are_there_before_anything_is_switched(world: World) -> None:
    world.deployment.apply(world.put("second"), {})
    lines = world.runner.lines
    pull = next(number for number, line in enumerate(lines) if " pull" in line)
    settle = next(number for number, line in enumerate(lines) if "settle" in line)
    assert pull < settle


def test_a_dry_run_changes_nothing(world: World) -> None:
    sha256 = world.put("second")
    plan = world.deployment.apply(sha256, {"api_enrol_token": "new"}, dry_run=True)
    assert plan.changed_secrets == ("api_enrol_token",)
    assert plan.recreated == ("api",)
    assert world.releases.current() == world.first
    assert world.releases.present() == (world.first,)
    assert world.secret("api_enrol_token") == "old-api_enrol_token"
    assert world.settled == []


def test_a_failed_release_is_undone_with_its_secrets_and_the_reason_is_told(world: World) -> None:
    sha256 = world.put("broken")
    world.runner.answers = {"settle": fail_settle_of(sha256[:12])}
    with pytest.raises(ApplyError, match="api is unhealthy") as failure:
        world.deployment.apply(sha256, {"api_enrol_token": "new", "brand_new": "x"})
    assert f"release {world.first} is in force again and healthy" in failure.value.what
    assert failure.value.remedy == "mend it"
    assert world.releases.current() == world.first
    assert world.settled == [sha256[:12], world.first]
    assert world.secret("api_enrol_token") == "old-api_enrol_token"
    assert not (world.paths.secrets / "brand_new").exists()
    assert world.releases.history()[-1].result == "failed"
    assert cut_short(world.paths) is None


def test_a_node_that_cannot_go_back_either_says_both(world: World) -> None:
    sha256 = world.put("broken")
    world.runner.answers = {"settle": Result(1, errors="overlordctl: no docker\n  x\n")}
    with pytest.raises(ApplyError, match=f"going back to release {world.first} failed too"):
        world.deployment.apply(sha256, {})
    assert cut_short(world.paths) == sha256[:12]


@pytest.mark.parametrize("step", ["config --quiet", "pull"])
def test_a_stack_that_does_not_validate_or_pull_touches_nothing(world: World, step: str) -> None:
    world.runner.answers = {step: Result(15, errors="no such image")}
    with pytest.raises(OverlordError, match="no such image"):
        world.deployment.apply(world.put("second"), {"api_enrol_token": "new"})
    assert world.releases.current() == world.first
    assert world.releases.present() == (world.first,)
    assert world.secret("api_enrol_token") == "old-api_enrol_token"
    assert world.settled == []


def test_a_bundle_with_a_broken_compose_file_touches_nothing(world: World) -> None:
    with pytest.raises(OverlordError, match="not YAML"):
        world.deployment.apply(world.put("second", compose="services: ["), {})
    assert world.releases.present() == (world.first,)


def test_a_bundle_that_was_tampered_with_is_refused(world: World) -> None:
    sha256 = world.put("second")
    world.bucket[sha256] = bundle("something else")[1]
    with pytest.raises(OverlordError, match="checksum"):
        world.deployment.apply(sha256, {})
    assert world.releases.current() == world.first


def test_a_missing_bundle_is_named(world: World) -> None:
    with pytest.raises(OverlordError, match="NoSuchKey"):
        world.deployment.apply("e" * 64, {})


def test_a_changed_secret_recreates_only_the_services_that_mount_it(world: World) -> None:
    world.deployment.apply(world.put("second"), {"api_enrol_token": "new"})
    (settle,) = [one for one in world.runner.commands if "settle" in one.args]
    assert settle.args[-1] == "--recreate=api"
    assert world.secret("api_enrol_token") == "new"


def test_secrets_are_in_no_command_and_no_line_for_people(world: World) -> None:
    world.deployment.apply(world.put("second"), {"api_enrol_token": "very-secret"})
    assert not any("very-secret" in line for line in world.runner.lines)
    assert not any("very-secret" in line for line in world.said)
    assert "very-secret" not in world.paths.history.read_text()


def test_applying_the_release_in_force_settles_it_again(world: World) -> None:
    (sha256,) = world.bucket
    world.deployment.apply(sha256, {})
    assert world.settled == [world.first]


def test_a_release_that_is_in_force_and_healthy_is_left_alone(world: World) -> None:
    (sha256,) = world.bucket
    deployment = replace(world.deployment, stack_healthy=lambda: True)
    deployment.apply(sha256, {"api_enrol_token": "old-api_enrol_token"})
    assert world.settled == []
    deployment.apply(sha256, {"api_enrol_token": "new"})
    assert world.settled == [world.first]


def test_two_applies_never_run_at_once(world: World) -> None:
    with (
        exclusive(world.paths.apply_lock, 0.0),
        pytest.raises(OverlordError, match=f"another apply is running .process {os.getpid()}"),
    ):
        world.deployment.apply(world.put("second"), {})
    assert world.releases.current() == world.first


def test_an_apply_cut_by_a_power_failure_is_seen_and_the_next_one_completes(world: World) -> None:
    sha256 = world.put("second")

    def power_cut(_: Command) -> Result:
        raise KeyboardInterrupt

    world.runner.answers = {"settle": power_cut}
    with pytest.raises(KeyboardInterrupt):
        world.deployment.apply(sha256, {})
    assert cut_short(world.paths) == sha256[:12]
    world.runner.answers = {}
    world.deployment.apply(sha256, {})
    assert cut_short(world.paths) is None
    assert world.releases.history()[-1].result == "ok"


def test_rollback_puts_the_release_before_in_force(world: World) -> None:
    world.deployment.apply(world.put("second"), {})
    plan = world.deployment.roll_back()
    assert plan.release == world.first
    assert world.releases.current() == world.first
    assert world.releases.history()[-1].action == "rollback"


def test_rollback_never_chooses_a_release_that_failed(world: World) -> None:
    broken = world.put("broken")
    world.runner.answers = {"settle": fail_settle_of(broken[:12])}
    with pytest.raises(ApplyError):
        world.deployment.apply(broken, {})
    with pytest.raises(OverlordError, match="before this one"):
        world.deployment.roll_back()


def test_rollback_without_an_older_release_says_so(world: World) -> None:
    with pytest.raises(OverlordError, match="before this one"):
        world.deployment.roll_back()


def test_three_releases_are_kept(world: World) -> None:
    marks = [f"release-{number}" for number in range(6)]
    shas = [world.put(mark) for mark in marks]
    for sha256 in shas:
        world.deployment.apply(sha256, {})
    assert set(world.releases.present()) == {sha256[:12] for sha256 in shas[-KEPT:]}


def test_a_release_that_a_running_container_still_mounts_is_kept(world: World) -> None:
    mounts = world.paths.root / "proc/77/mountinfo"
    mounts.parent.mkdir(parents=True)
    mounts.write_text(
        f"900 800 8:1 /opt/overlord/releases/{world.first}/nodes/vps-01/prometheus "
        "/etc/prometheus ro - ext4 /dev/sda1 rw\n"
    )
    for number in range(5):
        world.deployment.apply(world.put(f"release-{number}"), {})
    assert world.first in world.releases.present()


def test_an_apply_on_a_node_whose_first_boot_failed_carries_the_boot_on(world: World) -> None:
    write_boot(world.paths.root, state="failed")
    sha256 = world.put("mended")
    world.deployment.apply(sha256, {})
    assert world.settled == []
    assert world.runner.ran("/usr/local/sbin/overlord-launch run")
    assert world.releases.current() == sha256[:12]


def test_a_half_unpacked_bundle_is_no_release(world: World) -> None:
    sha256 = world.put("second")
    (world.paths.release(sha256[:12])).mkdir()
    assert not world.releases.has(sha256)
    world.deployment.apply(sha256, {})
    assert world.releases.has(sha256)


def test_a_bundle_cannot_write_outside_its_folder(world: World) -> None:
    import hashlib

    from tests.unit.overlord.fakes import tar

    data = tar({"../../evil": b"x"})
    with pytest.raises(OverlordError, match="unexpected entry"):
        world.releases.unpack(data, hashlib.sha256(data).hexdigest())
    assert not (world.paths.opt / "evil").exists()


def test_history_is_readable_by_people(world: World) -> None:
    world.deployment.apply(world.put("second"), {})
    events = json.loads(world.paths.history.read_text())["events"]
    assert [event["action"] for event in events] == ["first-boot", "apply"]


def test_a_change_does_to_the_host_what_the_first_boot_does_and_joins_no_tailnet() -> None:
    names = [name for name, _ in host_steps()]
    assert names[0] == "tool"
    assert names[-2:] == ["docker", "agent"]
    assert not {"tailnet", "images", "stack", "healthy", "finish"} & set(names)
    assert [step for step in STEPS if step in host_steps()] == list(host_steps())


def test_nothing_is_changed_before_it_is_this_nodes_turn(world: World) -> None:
    sha256 = world.put("second")
    world.turns.fails = "begin"
    with pytest.raises(OverlordError, match="not in sync"):
        world.deployment.apply(sha256, {"api_enrol_token": "new"})
    assert world.releases.current() == world.first
    assert world.secret("api_enrol_token") == "old-api_enrol_token"
    assert world.settled == []
    assert cut_short(world.paths) is None


def test_a_release_that_does_not_follow_afterwards_is_undone(world: World) -> None:
    sha256 = world.put("second")
    world.turns.fails = "end"
    with pytest.raises(ApplyError, match="not in sync"):
        world.deployment.apply(sha256, {})
    assert world.turns.calls == ["begin", "end", "abandon"]
    assert world.settled == [sha256[:12], world.first]
    assert world.releases.current() == world.first


def test_a_first_boot_that_is_carried_on_waits_for_no_turn(world: World) -> None:
    write_boot(world.paths.root, state="failed")
    world.deployment.apply(world.put("mended"), {})
    assert world.turns.calls == []


def test_a_dry_run_says_whose_turn_it_would_be(world: World) -> None:
    world.deployment.apply(world.put("second"), {}, dry_run=True)
    assert world.turns.calls == ["preview"]
    assert "it would be this node's turn" in world.said


def hashes(**services: str) -> Result:
    return Result(0, "".join(f"{name} {digest}\n" for name, digest in services.items()))


@pytest.mark.parametrize(
    ("wanted", "running", "renewed"),
    [
        ({"api": "1", "postgres": "2"}, {"api": "1", "postgres": "2"}, set()),
        ({"api": "9", "postgres": "2"}, {"api": "1", "postgres": "2"}, {"api"}),
        ({"api": "1", "postgres": "9"}, {"api": "1", "postgres": "2"}, {"postgres"}),
        ({"api": "1", "postgres": "2"}, {"postgres": "2"}, {"api"}),
        ({}, {"api": "1", "postgres": "2"}, {"api", "postgres"}),
    ],
)
def test_new_containers_are_foreseen_by_the_digests_that_compose_goes_by(
    world: World, wanted: dict[str, str], running: dict[str, str], renewed: set[str]
) -> None:
    world.runner.answers = {"config --hash": hashes(**wanted)}
    found = tuple(
        Container(name, "running", config_hash=digest) for name, digest in running.items()
    )
    replace(world.deployment, containers=lambda: found).apply(world.put("second"), {})
    assert world.turns.changes[0].services == renewed
    asked = next(line for line in world.runner.lines if "config --hash" in line)
    assert f"--project-directory {world.paths.current}/nodes/vps-01" in asked


def test_without_docker_every_service_may_get_a_new_container(world: World) -> None:
    def away() -> tuple[Container, ...]:
        raise DockerUnavailableError("no socket")

    world.runner.answers = {"config --hash": hashes(api="1", postgres="2")}
    replace(world.deployment, containers=away).apply(world.put("second"), {})
    assert world.turns.changes[0].database


def test_the_agents_restart_is_foreseen(world: World) -> None:
    compose = "services: {api: {image: x}}"
    world.paths.run.mkdir(parents=True, exist_ok=True)
    world.paths.agent_code.write_text(tree_digest(world.paths.root / "no-code"))
    world.deployment.apply(world.put("second", compose), {})
    assert world.turns.changes[0].agent is False
    world.paths.agent_code.write_text("another")
    world.deployment.apply(world.put("third", compose), {})
    assert world.turns.changes[-1].agent is True


def test_a_node_is_being_changed_only_while_the_process_that_does_it_lives(world: World) -> None:
    seen: list[str | None] = []

    def look(_: Command) -> Result:
        own = world.paths.root / "proc" / str(os.getpid())
        seen.append(under_way(world.paths))
        own.mkdir(parents=True)
        seen.append(under_way(world.paths))
        return Result(0)

    sha256 = world.put("second")
    world.runner.answers = {"settle": look}
    world.deployment.apply(sha256, {})
    assert seen == [None, sha256[:12]]
    assert under_way(world.paths) is None
