"""Waits for each first boot, then carries changes to the running pair, one node after the other.

The order is fixed; roles are not. Each node sees to it that what devices write through is changed
first on the one that follows: see overlord/turn.py. Both go over SSH with the host key that the
program made itself, and both fail the update with the node's own words when something is wrong
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_command.remote import Command, ConnectionArgs, Logging

from components.launcher import CTL, DEPLOY_USER, LAUNCHER

FIRST_BOOT_TIMEOUT_SECONDS = 1200
# A server answers on SSH within two minutes; attempts are some seconds apart.
_DIAL_ATTEMPTS = 100
_DIAL_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class BootstrapArgs:
    """What the bootstrap is made from.

    Args:
        order: nodes in the order of changes, the one that is a standby most of the time first.
        hosts: address by node.
        server_ids: server by node; another server is another first boot.
        deploy_key: private key of the deploy user.
        host_keys: public SSH host key by node.
        bundle_sha256: the bundle that should run.
        documents: secrets document by node.
    """

    order: Sequence[str]
    hosts: Mapping[str, pulumi.Input[str]]
    server_ids: Mapping[str, pulumi.Input[str]]
    deploy_key: pulumi.Input[str]
    host_keys: Mapping[str, pulumi.Input[str]]
    bundle_sha256: pulumi.Input[str]
    documents: Mapping[str, pulumi.Input[str]]


class Bootstrap(pulumi.ComponentResource):
    """First boot in parallel, changes one node after the other, each gated on health."""

    def __init__(
        self, name: str, args: BootstrapArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:Bootstrap", name, None, opts)
        booted: list[pulumi.Resource] = [
            Command(
                f"{name}-first-boot-{node}",
                connection=_connection(node, args),
                create=f"sudo {LAUNCHER} wait --timeout {FIRST_BOOT_TIMEOUT_SECONDS}",
                triggers=[args.server_ids[node]],
                add_previous_output_in_env=False,
                logging=Logging.STDOUT_AND_STDERR,
                opts=pulumi.ResourceOptions(
                    parent=self, delete_before_replace=True, custom_timeouts=_TIMEOUT
                ),
            )
            for node in args.order
        ]
        before = booted
        for node in args.order:
            # The checksum stands in the command and the secrets in its input, so a change of
            # either runs it again in place. Nothing secret is on a command line.
            apply = Command(
                f"{name}-apply-{node}",
                connection=_connection(node, args),
                create=pulumi.Output.concat("sudo ", CTL, " apply --bundle ", args.bundle_sha256),
                stdin=pulumi.Output.secret(args.documents[node]),
                add_previous_output_in_env=False,
                logging=Logging.STDOUT_AND_STDERR,
                opts=pulumi.ResourceOptions(
                    parent=self, depends_on=before, custom_timeouts=_TIMEOUT
                ),
            )
            before = [*before, apply]
        self.register_outputs({})


_TIMEOUT = pulumi.CustomTimeouts(create="30m", update="30m")


def _connection(node: str, args: BootstrapArgs) -> ConnectionArgs:
    return ConnectionArgs(
        host=args.hosts[node],
        user=DEPLOY_USER,
        private_key=args.deploy_key,
        host_key=args.host_keys[node],
        dial_error_limit=_DIAL_ATTEMPTS,
        per_dial_timeout=_DIAL_TIMEOUT_SECONDS,
    )
