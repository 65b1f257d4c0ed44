"""What a node shows of itself."""

import http.client
import io
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from overlord.agent.__main__ import ROUND_SECONDS, STARTING_SECONDS, pause
from overlord.agent.http import Handler, Service
from overlord.agent.notify import notify
from overlord.agent.state import STALE_SECONDS, State
from overlord.apply import settle_command
from overlord.backup.state import RestoreTest, Watch, write_restore_test, write_watch
from overlord.decide import Action, History, RestoreGuard, decide
from overlord.facts import postgres, system, tailnet
from overlord.facts.logins import Logins
from overlord.facts.observe import Facts
from overlord.facts.peer import Peer, parse_peer
from overlord.facts.services import Container, Health
from overlord.facts.system import Disk
from overlord.facts.tailnet import Tailnet
from overlord.files import write_json
from overlord.integrity import FileCheck
from overlord.journal import BootState, Step
from overlord.paths import Paths
from overlord.problems import find_problems
from overlord.releases import Event, Releases
from overlord.roles.decide import decide as decide_role
from overlord.roles.facts import Lease, RoleFacts
from overlord.roles.record import Record
from overlord.roles.view import STALE_SECONDS as ROLES_STALE_SECONDS
from overlord.roles.view import RoleState, RoleView
from overlord.runner import Command, SystemRunner
from overlord.status import overview_rows, status_document
from tests.unit.overlord.fakes import healthy_facts
from tests.unit.overlord.role_fakes import primary, standby


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clock: Clock, tmp_path: Path) -> Iterator[Service]:
    one = Service(State(clock, RoleState(clock), Paths(tmp_path)), ("127.0.0.1", 0))
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def ask(service: Service, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*service.server_address[:2], timeout=5)  # type: ignore[arg-type]
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def show(service: Service, facts: Facts, roles: RoleFacts | None = None) -> None:
    service.state.publish(facts, decide(facts, History()))
    roles = replace(roles or primary(), now=service.state.clock())
    service.state.roles.publish(RoleView(roles, decide_role(roles), Record(epoch=roles.epoch)))


def test_a_healthy_primary_is_healthy_and_leader(service: Service) -> None:
    show(service, healthy_facts())
    assert ask(service, "/health")[0] == 200
    code, body = ask(service, "/leader")
    assert (code, json.loads(body)["epoch"]) == (200, 3)
    assert ask(service, "/health", "HEAD") == (200, b"")


def test_a_healthy_standby_is_healthy_and_not_leader(service: Service) -> None:
    show(service, healthy_facts(), standby())
    assert ask(service, "/health")[0] == 200
    code, body = ask(service, "/leader")
    assert code == 503
    assert json.loads(body)["reason"] == "standby: streams from vps-02"


def test_during_the_first_boot_no_node_is_leader(service: Service) -> None:
    show(service, replace(healthy_facts(), boot=BootState("vps-01", "running")))
    assert ask(service, "/leader")[0] == 503


def test_a_right_to_take_writes_ends_on_time_whatever_the_loops_do(
    service: Service, clock: Clock
) -> None:
    lease = Lease(epoch=3, until=4.0, answered=0.0, cluster="7", replication="sync")
    show(service, healthy_facts(), replace(primary(), arbiter=True, lease=lease))
    clock.now = 3.9
    assert ask(service, "/leader")[0] == 200
    assert json.loads(ask(service, "/peer")[1])["primary"] is True
    clock.now = 4.0
    assert ask(service, "/leader")[0] == 503
    assert json.loads(ask(service, "/peer")[1])["primary"] is False


def test_leadership_ends_when_the_role_manager_hangs(service: Service, clock: Clock) -> None:
    show(service, healthy_facts())
    clock.now = ROLES_STALE_SECONDS + 0.1
    assert ask(service, "/health")[0] == 200
    assert ask(service, "/leader")[0] == 503


def test_the_peer_learns_what_it_needs_to_take_turns(service: Service) -> None:
    def told() -> Peer:
        return parse_peer(json.loads(ask(service, "/peer")[1]))

    show(service, healthy_facts(), replace(primary(), mode="sync"))
    assert (told().release, told().changing) == (None, None)
    assert told().healthy
    assert told().synchronous
    paths = service.state.paths
    paths.opt.mkdir(parents=True)
    Releases(paths).switch("b" * 12)
    write_json(paths.applying, {"release": "c" * 12, "previous": "b" * 12})
    assert (told().release, told().changing) == ("b" * 12, None)  # cut short, and nobody at work
    paths.apply_lock.parent.mkdir(parents=True)
    paths.apply_lock.write_text("4711")
    (paths.root / "proc/4711").mkdir(parents=True)
    assert told().changing == "c" * 12
    show(service, replace(healthy_facts(), docker=False), replace(primary(), mode="async"))
    assert not told().healthy
    assert not told().synchronous


def test_the_peer_learns_what_it_needs_to_follow(service: Service) -> None:
    show(service, healthy_facts())
    found = parse_peer(json.loads(ask(service, "/peer")[1]))
    assert (found.node, found.primary, found.epoch, found.data) == ("vps-01", True, 3, True)
    assert (found.timeline, found.history, found.migrated) == (3, ((1, 100), (2, 200)), True)


def test_the_status_tells_of_the_backups_and_of_what_was_never_done(
    service: Service, tmp_path: Path
) -> None:
    show(service, healthy_facts())
    parts = ("watch", "restore_test", "second_watch", "second_restore_test", "samples", "lock")
    assert json.loads(ask(service, "/status")[1])["backups"] == dict.fromkeys(parts)

    write_watch(Paths(tmp_path), Watch(seen=100.0, newest=90.0, backups=3, error="no bucket"))
    write_restore_test(Paths(tmp_path), RestoreTest(ended=50.0, ok=False, faults=("empty",)))
    write_watch(Paths(tmp_path), Watch(seen=110.0, backups=4), 2)

    found = json.loads(ask(service, "/status")[1])["backups"]
    assert (found["watch"]["newest"], found["watch"]["error"]) == (90.0, "no bucket")
    assert (found["restore_test"]["ok"], found["restore_test"]["faults"]) == (False, ["empty"])
    assert found["second_watch"]["backups"] == 4
    assert found["second_restore_test"] is None
    assert found["samples"] is None


def test_before_the_first_round_nothing_is_claimed(service: Service) -> None:
    for path in ("/health", "/leader", "/status"):
        assert ask(service, path)[0] == 503


def test_leadership_ends_when_facts_grow_stale(service: Service, clock: Clock) -> None:
    show(service, healthy_facts())
    clock.now = STALE_SECONDS + 1
    assert ask(service, "/leader")[0] == 503
    assert ask(service, "/health")[0] == 503
    assert b"overlord_agent_fresh 0.0" in ask(service, "/metrics")[1]


def test_health_names_problems_by_code_only(service: Service) -> None:
    facts = replace(healthy_facts(), containers=())
    show(service, facts)
    code, body = ask(service, "/health")
    assert code == 503
    assert json.loads(body)["problems"] == ["service-api", "service-migrate"]


def test_status_is_everything_as_json(service: Service) -> None:
    show(service, healthy_facts())
    code, body = ask(service, "/status")
    assert code == 200
    document = json.loads(body)
    assert document["leader"] is True
    assert document["tailnet"]["address"] == "100.64.0.1"


def test_metrics_tell_of_node_services_and_certificate(service: Service) -> None:
    show(service, replace(healthy_facts(), containers=(Container("api", "running", "healthy"),)))
    text = ask(service, "/metrics")[1].decode()
    assert 'overlord_node_info{node="vps-01",release="aaaaaaaaaaaa",role="primary"} 1.0' in text
    assert 'overlord_service_healthy{service="api"} 1.0' in text
    assert 'overlord_service_healthy{service="migrate"} 0.0' in text
    assert "overlord_leader 1.0" in text
    assert 'overlord_role{role="primary"} 1.0' in text
    assert 'overlord_role{role="standby"} 0.0' in text
    assert "overlord_replication_synchronous 1.0" in text
    assert "overlord_replication_lag_bytes 0.0" in text
    assert "overlord_certificate_expiry_seconds 5.184e+06" in text


def test_metrics_tell_of_failed_logins_and_of_a_guard_that_is_gone(service: Service) -> None:
    show(service, replace(healthy_facts(), logins=Logins(failed=41, banned=3)))
    text = ask(service, "/metrics")[1].decode()
    assert "overlord_login_guard_up 1.0" in text
    assert "overlord_login_failures_total 41.0" in text
    assert "overlord_banned_addresses 3.0" in text
    show(service, replace(healthy_facts(), logins=None))
    text = ask(service, "/metrics")[1].decode()
    assert "overlord_login_guard_up 0.0" in text
    assert "overlord_banned_addresses" not in text


def test_metrics_tell_of_changed_files_and_of_processes_from_nowhere(service: Service) -> None:
    show(service, healthy_facts())
    text = ask(service, "/metrics")[1].decode()
    assert "overlord_processes_out_of_place 0.0" in text
    assert "overlord_files_" not in text
    facts = replace(
        healthy_facts(),
        file_check=FileCheck(1_000.0, 2, ("/usr/bin/ls differs", "/usr/sbin/sshd is gone")),
        processes_out_of_place=("30 /tmp/miner",),
    )
    show(service, facts)
    text = ask(service, "/metrics")[1].decode()
    assert "overlord_files_changed 2.0" in text
    assert "overlord_files_checked_timestamp_seconds 1000.0" in text
    assert "overlord_processes_out_of_place 1.0" in text
    assert codes(facts) == {"files": "warning", "process-out-of-place": "warning"}


def test_an_unknown_path_is_not_found(service: Service) -> None:
    assert ask(service, "/secrets")[0] == 404


def test_an_answer_that_nobody_waits_for_any_more_is_no_error() -> None:
    class Gone(io.BytesIO):
        def write(self, _: object) -> int:
            raise BrokenPipeError

    handler = Handler.__new__(Handler)
    handler.request_version, handler.requestline, handler.command = "HTTP/1.0", "", "GET"
    handler.wfile = Gone()
    handler._answer(200, "text/plain", b"late")
    assert handler.wfile.getvalue() == b""


@pytest.mark.parametrize(
    ("health", "actions", "seconds"),
    [
        ("healthy", (), ROUND_SECONDS),
        ("starting", (), STARTING_SECONDS),
        ("starting", (RestoreGuard(),), ROUND_SECONDS),
        ("unhealthy", (), ROUND_SECONDS),
    ],
)
def test_a_node_whose_service_starts_is_looked_at_again_soon(
    health: Health, actions: tuple[Action, ...], seconds: float
) -> None:
    """Such as PostgreSQL of the node that led, which a switch of roles restarts."""
    containers = (Container("api", "running", "healthy"), Container("postgres", "running", health))
    assert pause(replace(healthy_facts(), containers=containers), actions) == seconds


def test_the_agent_listens_on_loopback_only() -> None:
    from overlord.agent.http import ADDRESS

    assert ADDRESS == ("127.0.0.1", 9600)


def codes(facts: Facts) -> dict[str, str]:
    return {problem.code: problem.severity for problem in find_problems(facts)}


def test_nothing_is_wrong_with_a_node_without_a_care() -> None:
    assert find_problems(healthy_facts()) == ()


FAILED = BootState("vps-01", "failed", (Step("docker", "failed", 1.0, error="x", remedy="y"),))


@pytest.mark.parametrize(
    ("facts", "code", "severity"),
    [
        (replace(healthy_facts(), docker=False), "docker", "critical"),
        (replace(healthy_facts(), boot=FAILED), "first-boot", "critical"),
        (replace(healthy_facts(), boot=BootState("x", "running")), "first-boot", "critical"),
        (replace(healthy_facts(), disk=Disk("/", 100, 19)), "disk", "warning"),
        (replace(healthy_facts(), disk=Disk("/", 100, 4)), "disk", "critical"),
        (replace(healthy_facts(), certificate_days=None), "certificate", "critical"),
        (replace(healthy_facts(), certificate_days=-1.0), "certificate", "critical"),
        (replace(healthy_facts(), certificate_days=13.0), "certificate", "warning"),
        (replace(healthy_facts(), tailnet=Tailnet("Stopped")), "tailnet", "warning"),
        (replace(healthy_facts(), clock_synchronised=False), "clock", "warning"),
        (replace(healthy_facts(), metadata_guarded=False), "metadata", "warning"),
        (replace(healthy_facts(), firewall=False), "firewall", "warning"),
        (replace(healthy_facts(), reboot_required=True), "reboot", "warning"),
        (replace(healthy_facts(), cut_short="b" * 12), "apply", "warning"),
        (
            replace(healthy_facts(), last_change=Event(1.0, "apply", "b" * 12, "failed", "why")),
            "apply",
            "warning",
        ),
    ],
)
def test_each_problem_is_named_with_a_remedy(facts: Facts, code: str, severity: str) -> None:
    assert codes(facts)[code] == severity
    assert all(problem.remedy for problem in find_problems(facts))


def test_critical_problems_come_first() -> None:
    facts = replace(healthy_facts(), docker=False, reboot_required=True)
    assert find_problems(facts)[0].severity == "critical"


def test_the_page_of_truth_has_a_line_for_each_thing_an_operator_asks() -> None:
    names = {name for name, _ in overview_rows(healthy_facts())}
    assert names == {
        "release",
        "last change",
        "first boot",
        "disk",
        "memory",
        "clock",
        "certificate",
        "tailnet",
        "postgres",
    }


def test_status_for_programs_is_json() -> None:
    facts = healthy_facts()
    agent = {"leader": True, "roles": {"state": "primary"}}
    document = json.loads(json.dumps(status_document(facts, find_problems(facts), agent)))
    assert (document["healthy"], document["leader"]) == (True, True)
    assert status_document(facts, (), {})["leader"] is False


def test_tailscales_answer_is_understood() -> None:
    text = json.dumps(
        {
            "BackendState": "Running",
            "TailscaleIPs": ["fd7a:115c:a1e0::1", "100.64.0.3"],
            "Peer": {"a": {"Online": True}, "b": {"Online": False}},
        }
    )
    assert tailnet.parse_tailnet(text) == Tailnet("Running", "100.64.0.3", 1, 2)


def test_a_tailscaled_that_is_not_there_is_not_up() -> None:
    class Nothing:
        def run(self, command: Command) -> object:
            from overlord.runner import Result

            return Result(127, errors="not installed")

    assert not tailnet.read_tailnet(Nothing()).up  # type: ignore[arg-type]


def test_memory_is_read_in_bytes() -> None:
    text = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    250 kB\n"
    assert system.parse_memory(text) == system.Memory(1_024_000, 256_000)


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    # A short path: the name of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        yield Path(folder)


def listening(folder: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(folder / ".s.PGSQL.5432"))
    server.listen()
    return server


def test_a_server_that_is_not_postgres_is_not_taken_for_one(socket_folder: Path) -> None:
    with listening(socket_folder) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP"), daemon=True).start()
        assert not postgres.answers(socket_folder)


def test_a_postgres_is_known_by_its_answer_to_an_ssl_request(socket_folder: Path) -> None:
    def serve(server: socket.socket) -> None:
        connection = server.accept()[0]
        assert connection.recv(8) == bytes.fromhex("0000000804d2162f")
        connection.sendall(b"N")

    with listening(socket_folder) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        assert postgres.answers(socket_folder)


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        notify("READY=1")
        assert server.recv(100) == b"READY=1"


def test_a_program_that_is_missing_or_hangs_is_a_result_and_no_crash() -> None:
    runner = SystemRunner()
    assert runner.run(Command(("no-such-program-here",))).code == 127
    assert runner.run(Command(("sleep", "5"), timeout=0.1)).code == 124


def test_stdin_of_a_command_is_in_no_log(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        SystemRunner(log).run(Command(("true",), stdin=b"password"))
        log.seek(0)
        assert "password" not in log.read()


def test_a_release_settles_with_its_own_code(tmp_path: Path) -> None:
    command = settle_command(tmp_path, ("api",))
    assert dict(command.env)["PYTHONPATH"] == str(tmp_path)
    assert command.args[-1] == "--recreate=api"
