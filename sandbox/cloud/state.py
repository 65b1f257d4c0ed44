"""The vendors' state on disk: one JSON file, replaced at once after each write."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel

from sandbox.cloud.cloudflare.domain import CloudflareState
from sandbox.cloud.hetzner.domain import HetznerState
from sandbox.cloud.tailscale.domain import TailscaleState


class CloudState(BaseModel):
    """Everything that survives a restart. S3's objects do not."""

    hetzner: HetznerState = HetznerState()
    cloudflare: CloudflareState = CloudflareState()
    tailscale: TailscaleState = TailscaleState()


class Store:
    """Reads the state once and writes it as often as asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.state = CloudState()
        if path.exists():
            self.state = CloudState.model_validate_json(path.read_bytes())

    def save(self) -> None:
        """Replace the file; a reader sees the old or the new one, never a part."""
        draft = self._path.with_suffix(".new")
        # user_data holds what lets a server join, so the file is its owner's alone.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self.state.model_dump_json().encode())
        draft.replace(self._path)
