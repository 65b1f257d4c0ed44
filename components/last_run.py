"""What the last run left behind, and what it means for each node's server.

A server's `user_data` holds a key and links that live one hour. So whenever a server is to be made
anew, these must be made anew first, whatever the reason: a rebuild that was asked for, a server
that burned down, or a run that was killed half-way. Each node has a generation for that, a number
that is written on the server as a label. Raising it replaces the launch ticket, the tailnet key
and, if there is one, the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.hetzner_api import LiveResource

GENERATION_LABEL = "overlord-generation"
STACK_LABEL = "overlord-stack"
NODE_LABEL = "overlord-node"

_SERVER_TYPE_TOKEN = "hcloud:index/server:Server"  # noqa: S105  # a Pulumi type, no password
_TICKET_TYPE_TOKEN = "pulumi-python:dynamic:LaunchTicket"  # noqa: S105  # a Pulumi type


@dataclass(frozen=True)
class RecordedNode:
    """A node in the state of the last run.

    Args:
        server_id: the server's number, or None if the state has none.
        server_generation: the generation on its label, or 0.
        ticket_generation: the generation of its launch ticket, or 0.
    """

    server_id: str | None = None
    server_generation: int = 0
    ticket_generation: int = 0


@dataclass(frozen=True)
class LastRun:
    """The state that the last run left.

    Args:
        nodes: by name.
        rebuild: value of `overlord:rebuild` when a run last ended well.
        generations: generation of each node's server when a run last ended well.
        deploy_key: number of the deploy key when a run last ended well, or 0.
    """

    nodes: Mapping[str, RecordedNode] = field(default_factory=dict)
    rebuild: str = ""
    generations: Mapping[str, int] = field(default_factory=dict)
    deploy_key: int = 0


@dataclass(frozen=True)
class NodePlan:
    """What this run does with a node's server.

    Args:
        generation: value of the server's replacement trigger and label.
        ticket_generation: value of the trigger of its launch ticket and tailnet key.
        reason: why a new server is made, or None if the present one stays.
        leftover: a server of an interrupted run, unknown to the state, to be removed first.
    """

    generation: int
    ticket_generation: int
    reason: str | None = None
    leftover: LiveResource | None = None


def read_last_run(nodes: tuple[str, ...]) -> LastRun:
    """Read this stack's own recorded state from the engine. The first run finds nothing."""
    stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    answer = pulumi.runtime.invoke(
        "pulumi:pulumi:readStackResourceOutputs", {"stackName": stack}
    ).value
    return parse_state((answer or {}).get("outputs") or {}, nodes)


def parse_state(resources: Mapping[str, Any], nodes: tuple[str, ...]) -> LastRun:
    """Pick the recorded nodes and outputs out of a state.

    Args:
        resources: {type, outputs} by URN.
        nodes: names of the nodes.
    """
    found: dict[str, dict[str, Any]] = {node: {} for node in nodes}
    rebuild, generations, deploy_key = "", {}, 0
    for urn, resource in resources.items():
        outputs = resource.get("outputs") or {}
        name = urn.rsplit("::", 1)[-1]
        if resource["type"] == "pulumi:pulumi:Stack":
            rebuild = str(outputs.get("rebuild") or "")
            deploy_key = int(outputs.get("deployKey") or 0)
            generations = {
                node: int(number)
                for node, number in (outputs.get("rebuildGenerations") or {}).items()
            }
        for node in nodes:
            if resource["type"] == _SERVER_TYPE_TOKEN and name == f"{node}-server":
                labels = outputs.get("labels") or {}
                found[node]["server_generation"] = int(labels.get(GENERATION_LABEL, 0))
                found[node]["server_id"] = str(outputs.get("id") or outputs.get("name") or name)
            if resource["type"] == _TICKET_TYPE_TOKEN and name == f"{node}-launch-ticket":
                found[node]["ticket_generation"] = int(outputs.get("generation") or 0)
    return LastRun(
        nodes={node: RecordedNode(**fields) for node, fields in found.items()},
        rebuild=rebuild,
        generations=generations,
        deploy_key=deploy_key,
    )


def plan_node(node: str, rebuild: str, last: LastRun, live: LiveResource | None) -> NodePlan:
    """Decide whether a node needs a new server, and the generation that it then gets.

    Args:
        node: its name.
        rebuild: the node named by `overlord:rebuild`, or nothing.
        last: what the last run left.
        live: the node's server as Hetzner has it now, or None.
    """
    recorded = last.nodes.get(node, RecordedNode())
    newest = max(recorded.server_generation, recorded.ticket_generation)
    if recorded.server_id is None:
        if live is not None:
            return NodePlan(
                newest + 1,
                newest + 1,
                reason="the last run was interrupted while it made the server",
                leftover=live,
            )
        if newest == 0:
            return NodePlan(1, 1, reason="first run")
        return NodePlan(newest + 1, newest + 1, reason="there is no server")
    if live is None:
        return NodePlan(newest + 1, newest + 1, reason="the server is gone from Hetzner")
    asked = rebuild == node and last.rebuild != node
    # A rebuild that was made by a run that failed later is not made again.
    made = recorded.server_generation > last.generations.get(node, recorded.server_generation)
    if asked and not made:
        return NodePlan(newest + 1, newest + 1, reason="overlord:rebuild names it")
    return NodePlan(recorded.server_generation, max(recorded.ticket_generation, 1))
