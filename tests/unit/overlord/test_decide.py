"""What the agent does, for any facts."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from overlord.decide import (
    RESTARTS_PER_HOUR,
    UNHEALTHY_SECONDS,
    History,
    MoveStack,
    RestartService,
    RestoreGuard,
    decide,
    remember,
    with_restart,
)
from overlord.facts.observe import Facts
from overlord.facts.services import Container
from overlord.facts.tailnet import Tailnet
from overlord.journal import BootState
from tests.unit.overlord.fakes import healthy_facts

services = st.sampled_from(["api", "postgres", "prometheus"])
containers = st.builds(
    Container,
    service=services,
    state=st.sampled_from(["running", "exited", "restarting"]),
    health=st.sampled_from(["healthy", "unhealthy", "starting", "none"]),
)
facts_strategy = st.builds(
    replace,
    st.just(healthy_facts()),
    time=st.floats(1e6, 1e6 + 7200),
    role=st.sampled_from(["primary", "standby"]),
    boot=st.sampled_from(
        [BootState("vps-01", state) for state in ("none", "running", "failed", "done")]
    ),
    containers=st.lists(containers, max_size=5, unique_by=lambda one: one.service).map(tuple),
    postgres=st.booleans(),
    docker=st.booleans(),
    metadata_guarded=st.booleans(),
    tailnet=st.sampled_from(
        [Tailnet("Running", "100.64.0.1"), Tailnet("Running", "100.64.0.9"), Tailnet("")]
    ),
    cut_short=st.sampled_from([None, "b" * 12]),
)
histories = st.builds(
    History,
    unhealthy_since=st.dictionaries(services, st.floats(1e6 - 1000, 1e6)),
    restarts=st.dictionaries(services, st.lists(st.floats(1e6 - 9000, 1e6)).map(tuple)),
)


@given(facts_strategy, histories)
def test_nothing_is_mended_before_the_first_boot_or_during_an_apply(
    facts: Facts, history: History
) -> None:
    if facts.boot.state != "done" or facts.cut_short:
        assert decide(facts, history) == ()


@given(st.lists(facts_strategy, min_size=1, max_size=60))
def test_no_service_is_restarted_more_often_than_allowed_in_any_hour(
    rounds: list[Facts],
) -> None:
    history = History()
    restarts: list[tuple[str, float]] = []
    for facts in sorted(rounds, key=lambda one: one.time):
        history = remember(history, facts)
        for action in decide(facts, history):
            if isinstance(action, RestartService):
                restarts.append((action.service, facts.time))
                history = with_restart(history, action.service, facts.time)
    for service, when in restarts:
        hour = [one for one in restarts if one[0] == service and when - 3600 < one[1] <= when]
        assert len(hour) <= RESTARTS_PER_HOUR


@given(facts_strategy, histories)
def test_the_same_facts_lead_to_the_same_actions(facts: Facts, history: History) -> None:
    assert decide(facts, history) == decide(facts, history)


def unhealthy(seconds: float) -> tuple[Facts, History]:
    start = replace(healthy_facts(), containers=(Container("api", "running", "unhealthy"),))
    history = remember(History(), start)
    later = replace(start, time=start.time + seconds)
    return later, remember(history, later)


def test_a_service_that_hangs_is_restarted_after_its_time_and_not_before() -> None:
    assert RestartService("api") in decide(*unhealthy(UNHEALTHY_SECONDS))
    assert RestartService("api") not in decide(*unhealthy(UNHEALTHY_SECONDS - 1))


def test_a_restarted_service_gets_its_time_again() -> None:
    facts, history = unhealthy(UNHEALTHY_SECONDS)
    history = remember(with_restart(history, "api", facts.time), facts)
    assert RestartService("api") not in decide(facts, history)


def test_a_service_that_restarts_do_not_help_is_left_to_people_until_the_hour_is_over() -> None:
    facts, history = unhealthy(UNHEALTHY_SECONDS)
    when = tuple(facts.time - minutes * 60 for minutes in (30, 20, 10))
    tired = remember(History(history.unhealthy_since, {"api": when}), facts)
    assert RestartService("api") not in decide(facts, tired)
    later = replace(facts, time=facts.time + 31 * 60)
    assert RestartService("api") in decide(later, remember(tired, later))


def test_a_service_that_recovers_is_forgotten() -> None:
    facts, history = unhealthy(UNHEALTHY_SECONDS - 1)
    well = replace(facts, containers=(Container("api", "running", "healthy"),))
    assert remember(history, well).unhealthy_since == {}


def test_a_lost_guard_is_restored() -> None:
    facts = replace(healthy_facts(), metadata_guarded=False)
    assert RestoreGuard() in decide(facts, History())


def test_the_stack_follows_the_tailnet_address() -> None:
    facts = replace(healthy_facts(), tailnet=Tailnet("Running", "100.64.0.7"))
    assert MoveStack("100.64.0.7") in decide(facts, History())


def test_a_node_without_a_care_does_nothing() -> None:
    assert decide(healthy_facts(), History()) == ()
