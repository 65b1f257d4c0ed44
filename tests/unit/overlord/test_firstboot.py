"""Steps of the first boot that come with the bundle."""

import errno
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from overlord.actions import stack as stack_actions
from overlord.errors import OverlordError
from overlord.facts.services import Container
from overlord.firstboot import host, mesh, services
from overlord.firstboot.context import Context
from overlord.firstboot.steps import STEPS, run_steps
from overlord.journal import read_boot_state
from overlord.node import parse_node, read_boot_settings
from overlord.releases import Releases
from overlord.runner import Command, Result
from tests.unit.overlord.fakes import FakeRunner, bundle, write_boot

KEY = "tskey-auth-" + "k" * 20


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def make_context(root: Path, runner: FakeRunner, state: str = "running") -> Context:
    paths = write_boot(root, state, tailscale_auth_key=KEY, bundle_url="https://x/?sig")
    paths.secrets.mkdir(parents=True, exist_ok=True)
    sha256, data = bundle("first")
    releases = Releases(paths)
    releases.switch(releases.unpack(data, sha256))
    boot = read_boot_settings(paths)
    node = parse_node({"node": "vps-01", "role": "primary"}, boot)
    clock = Clock()
    return Context(paths, runner, boot, node, lambda _: b"", clock.sleep, clock)


Steps = tuple[tuple[str, Callable[[Context], Sequence[str]]], ...]


def steps(log: list[str], **failing: Exception) -> Steps:
    def make(name: str) -> Callable[[Context], Sequence[str]]:
        def step(_: Context) -> Sequence[str]:
            log.append(name)
            if name in failing:
                raise failing[name]
            return [f"{name} done"]

        return step

    return tuple((name, make(name)) for name in ("one", "two", "three"))


def test_steps_run_in_order_and_each_leaves_its_note(tmp_path: Path) -> None:
    context, log = make_context(tmp_path, FakeRunner()), []  # type: tuple[Context, list[str]]
    assert run_steps(context, steps(log), lambda _: None)
    state = read_boot_state(context.paths)
    assert log == ["one", "two", "three"]
    assert [step.notes for step in state.steps] == [("one done",), ("two done",), ("three done",)]


def test_a_failed_step_stops_the_boot_and_the_next_run_starts_with_it(tmp_path: Path) -> None:
    context = make_context(tmp_path, FakeRunner())
    log: list[str] = []
    failing = steps(log, two=OverlordError("no such image", "push it"))
    assert not run_steps(context, failing, lambda _: None)
    failed = read_boot_state(context.paths).failed
    assert failed is not None
    assert (failed.name, failed.error, failed.remedy) == ("two", "no such image", "push it")
    assert run_steps(context, steps(log), lambda _: None)
    assert log == ["one", "two", "two", "three"]
    assert read_boot_state(context.paths).failed is None


def test_another_release_runs_every_step_of_a_failed_boot_its_own_way(tmp_path: Path) -> None:
    context = make_context(tmp_path, FakeRunner())
    log: list[str] = []
    failing = steps(log, three=OverlordError("unhealthy", "mend it"))
    assert not run_steps(context, failing, lambda _: None)
    sha256, data = bundle("mended")
    releases = Releases(context.paths)
    releases.switch(releases.unpack(data, sha256))
    assert run_steps(context, steps(log), lambda _: None)
    assert log == ["one", "two", "three"] * 2


def test_after_a_reboot_half_way_the_stack_is_started_again(tmp_path: Path) -> None:
    context = make_context(tmp_path, FakeRunner())
    log: list[str] = []

    def named(name: str) -> Callable[[Context], Sequence[str]]:
        def step(_: Context) -> Sequence[str]:
            log.append(name)
            return []

        return step

    first: Steps = tuple((name, named(name)) for name in ("docker", "tailnet", "stack"))

    def power_cut(_: Context) -> Sequence[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_steps(context, (*first, ("healthy", power_cut)), lambda _: None)
    (context.paths.run / "uptime-id").unlink()  # as all of /run
    assert run_steps(context, (*first, ("healthy", named("healthy"))), lambda _: None)
    assert log == ["docker", "tailnet", "stack", "tailnet", "stack", "healthy"]


def test_a_step_that_was_cut_by_a_reboot_runs_again(tmp_path: Path) -> None:
    context = make_context(tmp_path, FakeRunner())
    log: list[str] = []

    def power_cut(_: Context) -> Sequence[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_steps(context, (("one", power_cut),), lambda _: None)
    assert run_steps(context, steps(log), lambda _: None)
    assert log == ["one", "two", "three"]


def test_a_full_disk_is_named_with_the_remedy(tmp_path: Path) -> None:
    context = make_context(tmp_path, FakeRunner())
    error = OSError(errno.ENOSPC, "No space left on device", "/opt/overlord/x")
    assert not run_steps(context, steps([], one=error), lambda _: None)
    failed = read_boot_state(context.paths).failed
    assert failed is not None
    assert failed.error == "no space left on the disk of /opt/overlord/x"
    assert "overlord:serverTypes" in failed.remedy


def test_an_unexpected_error_fails_the_step_and_points_to_its_log(tmp_path: Path) -> None:
    context = make_context(tmp_path, FakeRunner())
    assert not run_steps(context, steps([], one=ValueError("odd")), lambda _: None)
    failed = read_boot_state(context.paths).failed
    assert failed is not None
    assert failed.error == "ValueError: odd"
    assert "one.log" in failed.remedy


def test_the_guard_is_there_before_docker_and_docker_before_the_stack() -> None:
    names = [name for name, _ in STEPS]
    assert names[0] == "tool"
    for earlier, later in (
        ("software", "firewall"),
        ("guard", "docker"),
        ("docker", "images"),
        ("tailnet", "stack"),
        ("stack", "healthy"),
    ):
        assert names.index(earlier) < names.index(later)


RUNNING = json.dumps({"BackendState": "Running", "TailscaleIPs": ["100.64.0.5", "fd7a::5"]})
NEEDS_LOGIN = json.dumps({"BackendState": "NeedsLogin"})


def tailnet_runner(up: Result) -> FakeRunner:
    joined: list[bool] = []

    def join(_: Command) -> Result:
        joined.append(up.code == 0)
        return up

    def status(_: Command) -> Result:
        return Result(0, RUNNING if any(joined) else NEEDS_LOGIN)

    return FakeRunner({"tailscale up": join, "tailscale status": status})


def test_joining_the_tailnet_uses_the_key_once_and_forgets_it(tmp_path: Path) -> None:
    runner = tailnet_runner(Result(0))
    context = make_context(tmp_path, runner)
    assert mesh.tailnet(context) == ["100.64.0.5"]
    assert KEY not in context.paths.boot_settings.read_text()
    assert not (context.paths.run / "tailscale.key").exists()
    assert not any(KEY in line for line in runner.lines)
    assert context.paths.compose_env.read_text() == "OVERLORD_TAILNET_IP=100.64.0.5\n"


def test_a_node_that_is_in_the_tailnet_does_not_join_again(tmp_path: Path) -> None:
    runner = FakeRunner({"tailscale status": Result(0, RUNNING)})
    context = make_context(tmp_path, runner)
    mesh.tailnet(context)
    assert not runner.ran("tailscale up")


@pytest.mark.parametrize("said", ["authkey expired", "invalid key: API key does not exist"])
def test_an_expired_key_names_the_rebuild_and_keeps_the_key_out_of_the_error(
    tmp_path: Path, said: str
) -> None:
    context = make_context(tmp_path, tailnet_runner(Result(1, errors=said)))
    with pytest.raises(OverlordError) as failure:
        mesh.tailnet(context)
    assert "overlord:rebuild: vps-01" in failure.value.remedy
    assert KEY not in failure.value.what
    assert not (context.paths.run / "tailscale.key").exists()


def test_an_unreachable_control_server_is_no_expired_key(tmp_path: Path) -> None:
    context = make_context(tmp_path, tailnet_runner(Result(1, errors="connection refused")))
    with pytest.raises(OverlordError) as failure:
        mesh.tailnet(context)
    assert "control server" in failure.value.remedy


def test_without_the_tailnet_the_last_address_serves(tmp_path: Path) -> None:
    runner = FakeRunner({"tailscale status": Result(0, NEEDS_LOGIN)})
    context = make_context(tmp_path, runner)
    context.paths.tailnet_address.write_text("100.64.0.5\n")
    address = stack_actions.prepare_environment(runner, context.paths, 0.0, context.sleep)
    assert address == "100.64.0.5"


def test_without_any_address_the_stack_does_not_start(tmp_path: Path) -> None:
    runner = FakeRunner({"tailscale status": Result(0, NEEDS_LOGIN)})
    context = make_context(tmp_path, runner)
    with pytest.raises(OverlordError, match="no tailnet address"):
        stack_actions.prepare_environment(runner, context.paths, 0.0, context.sleep)


def test_too_little_disk_for_the_images_is_said_before_pulling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = FakeRunner()
    context = make_context(tmp_path, runner)
    monkeypatch.setattr(services, "IMAGES_NEED_BYTES", 2**60)
    with pytest.raises(OverlordError, match="GiB free"):
        services.images(context)
    assert not runner.ran("pull")


def test_a_registry_that_recovers_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([Result(1, errors="503"), Result(0)])
    context = make_context(tmp_path, FakeRunner({" pull": lambda _: next(answers)}))
    monkeypatch.setattr(services, "IMAGES_NEED_BYTES", 0)
    assert services.images(context) == []


HEALTHY = (
    Container("api", "running", "healthy"),
    Container("migrate", "exited", exit_code=0),
    Container("postgres", "running", "healthy"),
)


def containers(monkeypatch: pytest.MonkeyPatch, *rounds: tuple[Container, ...]) -> None:
    shown = list(rounds)
    monkeypatch.setattr(
        stack_actions,
        "read_containers",
        lambda _: shown.pop(0) if len(shown) > 1 else shown[0],
    )


def test_a_service_that_needs_its_time_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = (Container("api", "running", "starting"), *HEALTHY[1:])
    containers(monkeypatch, *[starting] * 200, HEALTHY)
    context = make_context(tmp_path, FakeRunner())
    assert services.healthy(context) == ["2 services"]


def test_a_service_that_stays_unhealthy_is_named_and_its_log_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers(monkeypatch, (Container("api", "running", "unhealthy"), *HEALTHY[1:]))
    runner = FakeRunner()
    context = make_context(tmp_path, runner)
    with pytest.raises(OverlordError, match="api is unhealthy") as failure:
        services.healthy(context)
    assert "overlordctl logs api" in failure.value.remedy
    assert runner.ran("logs --no-color --no-log-prefix --tail=12 api")
    assert context.clock() < 100  # it does not wait for the hopeless


def test_a_stack_that_does_not_start_names_the_service_and_not_its_dependents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers(
        monkeypatch,
        (
            Container("api", "created"),
            Container("migrate", "created"),
            Container("postgres", "restarting", exit_code=1),
        ),
    )
    runner = FakeRunner({"up --detach": Result(1, errors="dependency failed to start")})
    context = make_context(tmp_path, runner)
    with pytest.raises(OverlordError) as failure:
        services.stack(context)
    assert "postgres is restarting (1)" in failure.value.what
    assert "api" not in failure.value.what


def test_secrets_of_user_data_are_gone_at_the_end(tmp_path: Path) -> None:
    context = make_context(tmp_path, FakeRunner())
    services.finish(context)
    left = json.loads(context.paths.boot_settings.read_text())
    assert not {"tailscale_auth_key", "bundle_url", "secrets_key", "secrets_url"} & set(left)
    assert left["node"] == "vps-01"


def test_a_container_leaves_the_clock_to_its_host(tmp_path: Path) -> None:
    runner = FakeRunner({"systemd-detect-virt": Result(0, "docker")})
    context = make_context(tmp_path, runner)
    assert "host" in host.clock(context)[0]
    assert not runner.ran("chrony")


def test_a_real_server_keeps_its_own_time(tmp_path: Path) -> None:
    runner = FakeRunner({"systemd-detect-virt": Result(1, "none")})
    context = make_context(tmp_path, runner)
    host.clock(context)
    assert runner.ran("restart chrony.service")


def test_another_distribution_is_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    context = make_context(tmp_path, FakeRunner())
    (tmp_path / "etc/os-release").write_text("ID=fedora\n")
    with pytest.raises(OverlordError) as failure:
        host.software(context)
    assert "overlord:image" in failure.value.remedy
