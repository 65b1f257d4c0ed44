"""Looks before it leaps: what the last run left, what Hetzner has now, what this run will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pulumi

from components.hetzner_api import HetznerApi, LiveResource
from components.last_run import (
    NODE_LABEL,
    STACK_LABEL,
    NodePlan,
    plan_node,
    read_last_run,
)
from components.server_types import choose_server_type
from components.settings import NODES, Settings
from components.sizing import SIZES
from components.ssh_keys import DEPLOY_KEY, check_number


@dataclass(frozen=True)
class Survey:
    """What this run does.

    Args:
        plans: by node.
        server_types: by node.
    """

    plans: Mapping[str, NodePlan]
    server_types: Mapping[str, str]


def survey(settings: Settings, api: HetznerApi) -> Survey:
    """Plan each node's server, and choose its type.

    Raises:
        VendorError: Hetzner refuses or does not answer.
        NoServerTypeError: a new server cannot be ordered.
        pulumi.RunError: the deploy key that is asked for opens no node.
    """
    last = read_last_run(NODES)
    check_number(settings.secret_versions.get(DEPLOY_KEY, 1), last.deploy_key)
    live = {
        server.labels.get(NODE_LABEL): server
        for server in api.servers(f"{STACK_LABEL}={pulumi.get_stack()}")
    }
    plans = {node: plan_node(node, settings.rebuild, last, live.get(node)) for node in NODES}
    for node, plan in plans.items():
        if plan.reason:
            pulumi.log.info(f"{node}: a new server will be made: {plan.reason}")
    if settings.rebuild:
        pulumi.log.warn(
            f"overlord:rebuild names {settings.rebuild}: it is not protected. Remove it."
        )
    return Survey(
        plans=plans,
        server_types={
            node: _server_type(node, settings, api, plans[node], live.get(node)) for node in NODES
        },
    )


def _server_type(
    node: str, settings: Settings, api: HetznerApi, plan: NodePlan, live: LiveResource | None
) -> str:
    size = SIZES[settings.fleet_size]
    preferred = settings.server_types or size.server_types
    if live is not None and live.server_type in preferred:
        if plan.reason is None:
            # A running server keeps its type, even when that type is sold out or no longer first.
            return live.server_type
        preferred = (live.server_type, *preferred)
    location = settings.location(node)
    return choose_server_type(
        node, location, preferred, api.offers(location), size, datetime.now(UTC)
    )
