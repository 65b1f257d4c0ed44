"""Kernel and boot of a device; events of one device in the order of their numbers.

Revision: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for table in ("device_latest", "status_history"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN kernel text, ADD COLUMN boot_id uuid")
    # Pages are cut by number, which is unique, and not by time, which is not.
    op.execute("DROP INDEX events_by_device")
    op.execute("CREATE INDEX events_by_device ON events (device_id, id DESC)")


def downgrade() -> None:
    """Take back."""
    op.execute("DROP INDEX events_by_device")
    op.execute("CREATE INDEX events_by_device ON events (device_id, at DESC)")
    for table in ("device_latest", "status_history"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN kernel, DROP COLUMN boot_id")
