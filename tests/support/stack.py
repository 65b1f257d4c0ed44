"""A node's stack as tests render it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stack.limits import limits_for
from stack.mirrors import GitMirror
from stack.render import BackupRepository, StackContext

VPS_01 = StackContext(
    node="vps-01",
    peer="vps-02",
    role="primary",
    public_name="fleet.example.com",
    domain="example.com",
    fleet_size=50,
    registry="registry.example.com:5000",
    limits=limits_for(8192, 4),
    retention_days=90,
    retention_size="60GB",
    environment="test",
    git_mirrors=(GitMirror("fleet-config", "https://git.example.com/fleet/config.git"),),
    backup=BackupRepository(
        endpoint="https://s3.eu-central-003.backblazeb2.com",
        region="eu-central-003",
        bucket="overlord-test-data",
        retention_days=30,
    ),
    openbao=True,
    trusted_proxy_cidrs=("173.245.48.0/20", "2400:cb00::/32"),
)
VPS_02 = replace(VPS_01, node="vps-02", peer="vps-01", role="standby")


def context(**changes: Any) -> StackContext:
    """The context of vps-01 with changes."""
    return replace(VPS_01, **changes)
