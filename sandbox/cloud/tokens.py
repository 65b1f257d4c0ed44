"""The tokens that the emulated vendors accept, from `<state>/tokens.json`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Tokens(BaseModel):
    """One secret a vendor, and two key pairs for B2: the operator's and the nodes'."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    hcloud: str
    cloudflare: str
    tailscale: str
    b2_key_id: str
    b2_key: str
    b2_node_key_id: str
    b2_node_key: str
    hcloud_read: str | None = None
    """A token that may only read, where one is wanted."""
    cloudflare_dns: str | None = None
    """A token that edits DNS records and nothing else, where one is wanted."""

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read the file; a missing key is a validation error that names it."""
        return cls.model_validate_json(path.read_bytes())
