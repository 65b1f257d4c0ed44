"""When a node's server is made anew, and what must be made anew with it."""

from datetime import UTC, datetime

import pytest

from components.hetzner_api import LiveResource
from components.last_run import LastRun, NodePlan, RecordedNode, parse_state, plan_node

NODE = "vps-02"


def server(generation: int = 1) -> LiveResource:
    return LiveResource(
        id=42,
        name=NODE,
        labels={"overlord-generation": str(generation)},
        created=datetime.now(UTC),
        protected=True,
        in_use=False,
        server_type="cpx32",
    )


def recorded(
    server_generation: int = 1,
    ticket_generation: int = 1,
    server_id: str | None = "42",
    rebuild: str = "",
    finished: int | None = 1,
) -> LastRun:
    return LastRun(
        nodes={NODE: RecordedNode(server_id, server_generation, ticket_generation)},
        rebuild=rebuild,
        generations={} if finished is None else {NODE: finished},
    )


def test_the_first_run_makes_generation_one() -> None:
    assert plan_node(NODE, "", LastRun(), None) == NodePlan(1, 1, reason="first run")


def test_a_server_that_runs_stays() -> None:
    plan = plan_node(NODE, "", recorded(), server())
    assert (plan.generation, plan.ticket_generation, plan.reason) == (1, 1, None)


def test_a_rebuild_that_is_asked_for_raises_the_generation_of_server_and_ticket() -> None:
    plan = plan_node(NODE, NODE, recorded(), server())
    assert (plan.generation, plan.ticket_generation) == (2, 2)


def test_a_rebuild_happens_once_although_the_setting_stays() -> None:
    plan = plan_node(NODE, NODE, recorded(2, 2, rebuild=NODE, finished=2), server(2))
    assert plan.reason is None


def test_taking_the_rebuild_setting_away_changes_nothing() -> None:
    plan = plan_node(NODE, "", recorded(2, 2, rebuild=NODE, finished=2), server(2))
    assert (plan.generation, plan.reason) == (2, None)


def test_a_rebuild_can_be_asked_for_again_after_the_setting_was_away() -> None:
    assert plan_node(NODE, NODE, recorded(2, 2, finished=2), server(2)).generation == 3


def test_the_rebuild_of_one_node_leaves_the_other_alone() -> None:
    assert plan_node(NODE, "vps-01", recorded(), server()).reason is None


def test_a_rebuild_that_failed_after_the_new_server_was_made_is_not_repeated() -> None:
    # The run that failed never wrote its outputs: they still say generation 1.
    plan = plan_node(NODE, NODE, recorded(2, 2, finished=1), server(2))
    assert (plan.generation, plan.reason) == (2, None)


def test_a_rebuild_that_failed_before_the_new_server_was_made_gets_a_fresh_ticket() -> None:
    plan = plan_node(NODE, NODE, recorded(1, 2, finished=1), server(1))
    assert (plan.generation, plan.ticket_generation) == (3, 3)


def test_a_server_that_burned_down_gets_a_fresh_ticket() -> None:
    plan = plan_node(NODE, "", recorded(), None)
    assert (plan.generation, plan.ticket_generation) == (2, 2)
    assert plan.reason == "the server is gone from Hetzner"


def test_a_server_that_a_refresh_dropped_from_the_state_gets_a_fresh_ticket() -> None:
    plan = plan_node(NODE, "", recorded(0, 1, server_id=None), None)
    assert (plan.generation, plan.ticket_generation) == (2, 2)


def test_a_server_of_an_interrupted_run_is_cleared_away_and_made_with_a_fresh_ticket() -> None:
    plan = plan_node(NODE, "", recorded(0, 1, server_id=None), server())
    assert plan.leftover is not None
    assert (plan.generation, plan.ticket_generation) == (2, 2)


@pytest.mark.parametrize("ticket", [1, 2, 5])
def test_a_server_that_stays_never_changes_its_generation(ticket: int) -> None:
    plan = plan_node(NODE, "", recorded(1, ticket), server())
    assert (plan.generation, plan.ticket_generation) == (1, ticket)


def test_the_state_is_read_by_type_and_name() -> None:
    last = parse_state(
        {
            "urn:pulumi:s::overlord::pulumi:pulumi:Stack::overlord-s": {
                "type": "pulumi:pulumi:Stack",
                "outputs": {"rebuild": "vps-02", "rebuildGenerations": {"vps-01": 1, "vps-02": 3}},
            },
            "urn:pulumi:s::overlord::a$hcloud:index/server:Server::vps-02-server": {
                "type": "hcloud:index/server:Server",
                "outputs": {"id": "7", "labels": {"overlord-generation": "3"}},
            },
            "urn:pulumi:s::overlord::a$x::vps-02-launch-ticket": {
                "type": "pulumi-python:dynamic:LaunchTicket",
                "outputs": {"generation": 3.0},
            },
        },
        ("vps-01", "vps-02"),
    )
    assert last.rebuild == "vps-02"
    assert last.generations == {"vps-01": 1, "vps-02": 3}
    assert last.nodes["vps-02"] == RecordedNode("7", 3, 3)
    assert last.nodes["vps-01"] == RecordedNode()


def test_an_empty_state_is_a_first_run() -> None:
    assert parse_state({}, (NODE,)).nodes == {NODE: RecordedNode()}
