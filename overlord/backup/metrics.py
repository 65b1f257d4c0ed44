"""Backups and restore tests as Prometheus metrics, from what was written down."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily

from overlord.backup.copy import Whole, copy_failure, find_copy
from overlord.backup.state import (
    Lock,
    Logs,
    RestoreTest,
    Samples,
    Watch,
    read_lock,
    read_logs,
    read_restore_test,
    read_samples,
    read_watch,
)
from overlord.paths import Paths


class BackupCollector:
    """Makes metrics of the files when asked."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Nothing for what this node has never done."""
        watches = {number: read_watch(self._paths, number) for number in REPOSITORIES}
        yield from _by_repository({n: _of_watch(one) for n, one in watches.items() if one})
        if seen := [one for one in watches.values() if one]:
            # There is one archive queue, whatever the repositories.
            yield from _present(_of_archive(max(seen, key=lambda one: one.archive_seen)))
        if samples := read_samples(self._paths):
            yield from _present(_of_samples(samples))
        if logs := read_logs(self._paths):
            yield from _present(_of_logs(logs))
        locks = {number: read_lock(self._paths, number) for number in REPOSITORIES}
        yield from _by_repository({n: _of_lock(one) for n, one in locks.items() if one})
        home = self._paths.backup_copy
        yield from _present(_of_copy(find_copy(home), copy_failure(home)))
        tests = {number: read_restore_test(self._paths, number) for number in REPOSITORIES}
        yield from _by_repository({n: _of_test(one) for n, one in tests.items() if one})


REPOSITORIES = (1, 2)
Row = tuple[str, str, float | None]


def _present(rows: tuple[Row, ...]) -> Iterator[GaugeMetricFamily]:
    for name, text, value in rows:
        if value is not None:
            yield GaugeMetricFamily(f"overlord_{name}", text, float(value))


def _by_repository(rows: Mapping[int, tuple[Row, ...]]) -> Iterator[GaugeMetricFamily]:
    families: dict[str, GaugeMetricFamily] = {}
    for number, of_one in rows.items():
        for name, text, value in of_one:
            if value is not None:
                family = families.setdefault(
                    name, GaugeMetricFamily(f"overlord_{name}", text, labels=["repository"])
                )
                family.add_metric([str(number)], float(value))
    yield from families.values()


def _of_watch(watch: Watch) -> tuple[Row, ...]:
    return (
        ("backup_seen_timestamp_seconds", "Last look at the repository", watch.seen or None),
        ("backup_tried_timestamp_seconds", "Last try to look at it", watch.tried),
        ("backup_failed", "1 after a failed look or backup", bool(watch.error)),
        ("backup_last_timestamp_seconds", "End of the newest backup", watch.newest),
        ("backup_last_full_timestamp_seconds", "End of the newest full one", watch.newest_full),
        ("backup_duration_seconds", "Time that the newest backup took", watch.seconds),
        ("backup_database_bytes", "Database in the newest backup", watch.database_bytes),
        ("backup_stored_bytes", "All backups in the bucket", watch.stored_bytes),
        ("backup_size_ratio", "Newest size to what was usual", watch.size_ratio),
    )


def _of_archive(watch: Watch) -> tuple[Row, ...]:
    return (
        ("archive_waiting_segments", "WAL not archived yet", watch.archive_waiting),
        (
            "archive_behind_seconds",
            "Age of the oldest WAL that is not archived yet, at the last look",
            max(0.0, watch.archive_seen - watch.archive_oldest_waiting)
            if watch.archive_oldest_waiting
            else 0.0,
        ),
        ("archive_last_timestamp_seconds", "Last WAL archived", watch.archive_last),
    )


def _of_samples(samples: Samples) -> tuple[Row, ...]:
    return (
        ("metrics_backup_failed", "1 after a failed snapshot", bool(samples.error)),
        (
            "metrics_backup_timestamp_seconds",
            "Last snapshot of Prometheus in the bucket",
            samples.ended or None,
        ),
        ("metrics_backup_bytes", "Size of that snapshot", samples.bytes),
    )


def _of_logs(logs: Logs) -> tuple[Row, ...]:
    return (
        ("logs_backup_failed", "1 after a failed try to store logs", bool(logs.error)),
        (
            "logs_backup_timestamp_seconds",
            "What Loki wrote before this moment is in the bucket",
            logs.until / 10**9 or None,
        ),
        ("logs_backup_bytes", "Size of what was stored last", logs.bytes),
    )


def _of_lock(lock: Lock) -> tuple[Row, ...]:
    return (
        (
            "backup_lock_seen_timestamp_seconds",
            "Last look at the bucket's lock",
            lock.seen or None,
        ),
        (
            "backup_lock_days",
            "Days that the bucket locks a new object for, 0 without a lock",
            lock.days if lock.seen else None,
        ),
        ("backup_lock_wanted_days", "Days that are set for it", lock.wanted),
    )


def _of_copy(kept: Whole | None, failure: str | None) -> tuple[Row, ...]:
    return (
        (
            "backup_copy_failed",
            "1 after a failed copy of the backup to this node's disk",
            None if failure is None else bool(failure),
        ),
        (
            "backup_copy_timestamp_seconds",
            "Moment that this node's own copy of the backup is of",
            kept.made if kept else None,
        ),
        ("backup_copy_bytes", "Size of that copy", kept.bytes if kept else None),
    )


def _of_test(test: RestoreTest) -> tuple[Row, ...]:
    return (
        ("restore_test_ok", "1 after a restore that was proved good", test.ok),
        ("restore_test_timestamp_seconds", "End of the last restore test", test.ended),
        ("restore_test_good_timestamp_seconds", "Last restore proved good", test.last_good),
        ("restore_test_duration_seconds", "Time that the restore test took", test.seconds),
        (
            "restore_test_recovery_point_seconds",
            "Age of the newest transaction in the restored database when the test began",
            test.recovery_point_age,
        ),
        ("restore_test_bytes", "Size of the restored database", test.bytes),
    )
