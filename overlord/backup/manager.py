"""Makes backups, watches them, and proves that they restore. One thing at a time on a node."""

import fcntl
import json
import secrets
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from overlord.backup.archive import Upload
from overlord.backup.causes import NOT_ARCHIVED, cause_of, failure, run_tool
from overlord.backup.examination import faults, parse_found
from overlord.backup.logs import back_up_logs
from overlord.backup.objects import Bucket
from overlord.backup.repository import Kind, Repository
from overlord.backup.samples import back_up_samples
from overlord.backup.schedule import due, missed_today
from overlord.backup.source import read_repository
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
    write_lock,
    write_logs,
    write_restore_test,
    write_samples,
    write_watch,
)
from overlord.commands.backup import BackupTool
from overlord.errors import OverlordError
from overlord.paths import Paths
from overlord.runner import Command, Result, Runner, check

REACH = "check the node's B2 key and that B2 answers; docs/runbooks/backup.md goes through it"
POSTGRES = "is PostgreSQL up? see `overlordctl logs postgres`"
LOCK_EVERY = 3600.0
"""Seconds between two looks at the bucket's lock."""
LOGS_EVERY = 3600.0
"""Seconds between two archives of logs."""
FAULTY = "docs/runbooks/backup.md: make a full backup now, and look for what damaged this one"


class BusyError(OverlordError):
    """Something else is at work on this node."""


@dataclass(frozen=True)
class Manager:
    """The backups of one node in one repository."""

    paths: Paths
    runner: Runner
    tool: BackupTool
    leads: Callable[[], bool]
    """Whether this node may take writes."""
    say: Callable[[str], object] = print
    now: Callable[[], float] = time.time
    number: int = 1
    """Of the repository."""

    def repository(self) -> Repository:
        """What is in the bucket. Raises OverlordError when that is not clear."""
        return read_repository(self.runner, self.tool)

    def tend(self) -> Kind | None:
        """Look at the repository and the archive, and make the backup that is due; returns its
        kind. Does nothing on a node that does not lead. Raises OverlordError, after it has been
        written down for the alert."""
        if not self.leads():
            return None
        with self.alone(), self._reported():
            repository = self._look()
            kind = due(repository, datetime.fromtimestamp(self.now(), UTC))
            if kind:
                self._back_up(kind)
            return kind

    def back_up(self, kind: Kind | None) -> Kind:
        """Make a backup now; of the kind that is due next when none is given. Raises
        OverlordError."""
        if not self.leads():
            raise OverlordError(
                "this node does not lead", "run it on the other one: `overlordctl role` says which"
            )
        with self.alone(), self._reported():
            repository = self._look()
            kind = kind or ("diff" if repository.newest_full else "full")
            self._back_up(kind)
            return kind

    def tend_samples(self, upload: Upload, node: str) -> bool:
        """Store the day's snapshot of Prometheus if it is due; tell whether it was. Raises
        OverlordError, after it has been written down for the alert."""
        before = read_samples(self.paths) or Samples()
        moment = datetime.fromtimestamp(self.now(), UTC)
        if not self.leads() or not missed_today(before.ended, moment):
            return False
        self.back_up_samples(upload, node)
        return True

    def back_up_samples(self, upload: Upload, node: str) -> None:
        """Store a snapshot of Prometheus. Raises OverlordError, after it has been written down for
        the alert."""
        with self.alone():
            try:
                volume = self.paths.prometheus_volume
                _, size = back_up_samples(volume, node, upload, self.now())
            except OverlordError as error:
                before = read_samples(self.paths) or Samples()
                write_samples(self.paths, replace(before, error=error.what))
                raise
            write_samples(self.paths, Samples(self.now(), size))

    def tend_logs(self, open_bucket: Callable[[], Bucket], node: str) -> int | None:
        """Store what this node's Loki wrote, once an hour, whichever node leads; returns the bytes,
        None where it is not its turn. Raises OverlordError, after it has been written down for the
        alert."""
        before = read_logs(self.paths) or Logs()
        if 0 <= self.now() - before.ended < LOGS_EVERY:
            return None
        try:
            return self.back_up_logs(open_bucket, node)
        except BusyError:  # the restore test takes its time every night
            return None

    def back_up_logs(self, open_bucket: Callable[[], Bucket], node: str) -> int:
        """Store what this node's Loki wrote since the last time; returns the bytes. Raises
        OverlordError, after it has been written down for the alert."""
        with self.alone():
            logs, began, size = read_logs(self.paths) or Logs(), self.now(), 0
            try:
                volume, bucket = self.paths.loki_volume, open_bucket()
                for step in back_up_logs(volume, node, bucket, logs.until, began):
                    size += step.bytes
                    # Not again, whatever happens to the rest.
                    logs = replace(logs, until=step.until)
                    write_logs(self.paths, logs)
            except OverlordError as error:
                write_logs(self.paths, replace(logs, error=error.what))
                raise
            write_logs(self.paths, Logs(logs.until, began, size))
            return size

    def tend_lock(self, read_days: Callable[[], int], wanted: int) -> None:
        """Look whether the bucket still locks what goes into it for as long as is set, once an
        hour. A look that fails is said and written down, and is no error: backups go on.

        Args:
            read_days: asks the bucket, see `Bucket.lock_days`.
            wanted: days that are set for it.
        """
        before, now = read_lock(self.paths, self.number) or Lock(), self.now()
        if not self.leads() or now - before.tried < LOCK_EVERY:
            return
        try:
            lock = Lock(now, read_days(), wanted, tried=now)
        except OverlordError as error:
            lock = replace(before, wanted=wanted, error=error.what, tried=now)
            self.say(f"{error.what}\n  what to do: {error.remedy}")
        write_lock(self.paths, lock, self.number)

    def verify(self) -> RestoreTest:
        """Restore the newest backup into a scratch folder and prove it; what could not be proved
        counts as failed. Raises OverlordError only when another one is at work."""
        with self.alone():
            before = read_restore_test(self.paths, self.number) or RestoreTest()
            began = self.now()
            test = self._prove(before, began)
            write_restore_test(self.paths, test, self.number)
            return test

    def _prove(self, before: RestoreTest, began: float) -> RestoreTest:
        failed = replace(before, ok=False, seconds=0.0, recovery_point_age=None, label="")
        try:
            repository = self.repository()
            if repository.newest is None:
                raise OverlordError("there is no backup", FAULTY)
            failed = replace(failed, label=repository.newest.label)
            check(self.runner, self.tool.clear_scratch(), FAULTY)
            try:
                output = self._run("the restore test", self.tool.examine(), FAULTY).output
            finally:
                self.runner.run(self.tool.clear_scratch())
            found = parse_found(output)
        except OverlordError as error:
            return replace(failed, ended=self.now(), faults=(error.what,))
        except (ValueError, LookupError, TypeError) as error:
            said = f"the examination gave no clear result: {type(error).__name__}"
            return replace(failed, ended=self.now(), faults=(said,))
        wrong = faults(found, repository, before.good_rows)
        age = None if found.last_commit is None else max(0.0, began - found.last_commit)
        ended = self.now()
        return RestoreTest(
            ended=ended,
            ok=not wrong,
            faults=wrong,
            seconds=ended - began,
            recovery_point_age=age,
            bytes=found.bytes,
            label=repository.newest.label,
            last_good=before.last_good if wrong else ended,
            good_rows=before.good_rows if wrong else dict(found.rows),
        )

    def _look(self) -> Repository:
        self._look_at_archive()
        repository = self.repository()
        if not repository.has_stanza:
            self.say("preparing the repository")
            self._run("preparing the repository", self.tool.stanza_create(), REACH)
        self._write_down(repository)
        return repository

    def _look_at_archive(self) -> Watch:
        """What waits for the archive, which is known whether the bucket answers or not."""
        output = self._run("the look at the archive", self.tool.archiver(), POSTGRES).output
        archiver, now = json.loads(output), self.now()
        before = read_watch(self.paths, self.number) or Watch()
        cause = cause_of(b64decode(archiver.get("said", "")).decode(errors="replace"))
        watch = replace(
            before,
            archive_seen=now,
            archive_waiting=int(archiver["waiting"]),
            archive_oldest_waiting=archiver["oldest_waiting"],
            archive_last=archiver["last_archived"],
            # pgBackRest forgets why while it tries again.
            archive_error=(cause.what if cause else before.archive_error)
            if archiver["waiting"]
            else "",
            tried=now,
        )
        write_watch(self.paths, watch, self.number)
        if watch.archive_error:
            self.say(f"the log does not reach the bucket: {watch.archive_error}")
        return watch

    def _back_up(self, kind: Kind) -> None:
        self.say(f"{kind} backup …")
        work, command = f"the {kind} backup", self.tool.backup(kind)
        self._run(work, self.tool.mark(secrets.token_hex(16)), POSTGRES)
        result = self.runner.run(command)
        if result.code:
            error = failure(work, command, result, REACH)
            stuck = NOT_ARCHIVED in result.errors + result.output
            if stuck and (why := self._look_at_archive().archive_error):
                error = OverlordError(f"{error.what}: {why}", error.remedy)
            raise error
        self._look()

    def _write_down(self, repository: Repository) -> None:
        newest, full = repository.newest, repository.newest_full
        watch = replace(
            read_watch(self.paths, self.number) or Watch(),
            seen=self.now(),
            newest=newest.ended if newest else None,
            newest_full=full.ended if full else None,
            backups=len(repository.backups),
            seconds=newest.seconds if newest else None,
            database_bytes=newest.database_bytes if newest else None,
            stored_bytes=repository.stored_bytes,
            size_ratio=repository.size_ratio,
        )
        write_watch(self.paths, watch, self.number)

    def _run(self, work: str, command: Command, remedy: str) -> Result:
        return run_tool(self.runner, work, command, remedy)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OverlordError as error:
            watch = replace(
                read_watch(self.paths, self.number) or Watch(), error=error.what, tried=self.now()
            )
            write_watch(self.paths, watch, self.number)
            raise
        # Not before the end of it all: a look that went well does not mend a backup that fails.
        watch = read_watch(self.paths, self.number) or Watch()
        write_watch(self.paths, replace(watch, error=""), self.number)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the one place at work on this node. Raises BusyError when it is taken."""
        self.paths.run.mkdir(parents=True, exist_ok=True)
        with (self.paths.run / "backup.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    "a backup, a restore or a restore test is at work on this node",
                    "wait for its end: `systemctl status overlord-backup overlord-restore-test`",
                ) from None
            yield
