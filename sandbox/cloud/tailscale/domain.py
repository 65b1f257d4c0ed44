"""What the emulated Tailscale keeps beside the coordination server: keys, the policy as posted."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

JsonObject = dict[str, Any]

DEFAULT_POLICY = """// The policy of a new tailnet: everybody reaches everything.
{
  "acls": [
    {"action": "accept", "src": ["*"], "dst": ["*:*"]},
  ],
}
"""
DAY = 24 * 3600
LONGEST_KEY = 90 * DAY
"""Seconds: https://tailscale.com/kb/1085/auth-keys."""


def now() -> datetime:
    """The time, without fractions, as the API writes it."""
    return datetime.now(UTC).replace(microsecond=0)


def stamp(time: datetime) -> str:
    """A time as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class DeviceCreate(BaseModel):
    """What a key may create."""

    reusable: bool = False
    ephemeral: bool = False
    preauthorized: bool = False
    tags: list[str] = []


class Devices(BaseModel):
    """Capabilities over devices."""

    create: DeviceCreate = DeviceCreate()


class Capabilities(BaseModel):
    """Capabilities of a key."""

    devices: Devices = Devices()


class CreateKey(BaseModel):
    """POST /tailnet/NAME/keys. Times in seconds."""

    model_config = ConfigDict(populate_by_name=True)
    capabilities: Capabilities
    expiry_seconds: int = Field(default=LONGEST_KEY, alias="expirySeconds")
    description: str = ""


class Key(BaseModel):
    """An auth key, without the secret."""

    id: str
    description: str
    created: datetime
    expires: datetime
    revoked: datetime | None = None
    capabilities: Capabilities


class TailscaleState(BaseModel):
    """The tailnet. `policy` is what was posted, comments included."""

    policy: str = DEFAULT_POLICY
    keys: dict[str, Key] = {}

    @property
    def etag(self) -> str:
        """The policy's entity tag."""
        return f'"{hashlib.sha256(self.policy.encode()).hexdigest()}"'
