"""How backups, their terms and their test read."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table

from overlord.backup.copy import Whole
from overlord.backup.objects import Stored
from overlord.backup.repository import Repository
from overlord.backup.state import RestoreTest
from overlord.node import BackupTerms

GIGABYTE = 1000**3
DOLLARS_A_GIGABYTE = 0.006
"""Backblaze B2 a month, https://www.backblaze.com/cloud-storage/pricing, as of 2026-11-01."""


def backup_table(found: Repository) -> Table:
    """A line a backup."""
    table = Table("backup", "kind", "ended (UTC)", "took", "database", "stored", box=None)
    for one in found.backups:
        table.add_row(
            one.label,
            one.kind + (" DAMAGED PAGES" if one.broken else ""),
            datetime.fromtimestamp(one.ended, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            f"{one.seconds:.0f} s",
            f"{one.database_bytes / GIGABYTE:.2f} GB",
            f"{one.stored_bytes / GIGABYTE:.2f} GB",
        )
    return table


def summary(found: Repository, terms: BackupTerms) -> list[str]:
    """Retention and cost."""
    stored = found.stored_bytes / GIGABYTE
    if not found.backups:
        return ["no backup yet"]
    first = datetime.fromtimestamp(found.backups[0].ended, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return [
        f"any moment since {first} UTC can be restored; kept {terms.database_days} days",
        f"no key of a node can delete them for {terms.lock_days} days",
        f"{stored:.2f} GB in the bucket, about {stored * DOLLARS_A_GIGABYTE:.2f} USD a month, "
        "without the log and without what is hidden",
    ]


def of_copy(kept: Whole | None, failure: str | None) -> list[str]:
    """This node's own copy, for people; nothing where there never was one."""
    lines = [f"THE LAST COPY ON THIS NODE FAILED: {failure}"] if failure else []
    if kept is None:
        return lines
    made, since = (datetime.fromtimestamp(at, UTC) for at in (kept.made, kept.since))
    samples = f"with {kept.samples}" if kept.samples else "without metrics"
    return [
        *lines,
        f"copy on this node: {kept.label}, {kept.bytes / GIGABYTE:.2f} GB, of what was in the "
        f"bucket at {made:%Y-%m-%d %H:%M:%S} UTC, back to {since:%Y-%m-%d %H:%M:%S}, {samples}",
    ]


def of_logs(archives: Sequence[Stored]) -> str:
    """What is in the bucket of both nodes' logs, and what it costs."""
    if not archives:
        return "no logs in the bucket"
    stored = sum(one.bytes for one in archives) / GIGABYTE
    newest = datetime.fromtimestamp(max(one.changed for one in archives), UTC)
    return (
        f"logs of both nodes: {stored:.2f} GB in the bucket, about "
        f"{stored * DOLLARS_A_GIGABYTE:.2f} USD a month, the last of {newest:%Y-%m-%d %H:%M:%S} UTC"
    )


def of_good_test(test: RestoreTest, where: str) -> str:
    """A backup that was proved good.

    Args:
        where: its repository, see `managers.where`.
    """
    age = test.recovery_point_age
    behind = "no transaction in it" if age is None else f"{age:.0f} s behind the start"
    size = test.bytes / GIGABYTE
    return f"{test.label}{where} is good: {size:.2f} GB, {test.seconds:.0f} s, {behind}"
