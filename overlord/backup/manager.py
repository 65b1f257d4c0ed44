"""Makes backups, watches them, and proves that they restore. One thing at a time on a node."""

import fcntl
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from overlord.backup.examination import faults, parse_found
from overlord.backup.repository import Kind, Repository, parse_info, unclear
from overlord.backup.samples import Upload, back_up_samples
from overlord.backup.schedule import due, missed_today
from overlord.backup.state import (
    RestoreTest,
    Samples,
    Watch,
    read_restore_test,
    read_samples,
    read_watch,
    write_restore_test,
    write_samples,
    write_watch,
)
from overlord.commands.backup import BackupTool
from overlord.errors import OverlordError
from overlord.paths import Paths
from overlord.runner import CommandFailedError, Runner, check

REACH = "check the node's B2 key and that B2 answers; docs/runbooks/backup.md goes through it"
FAULTY = "docs/runbooks/backup.md: make a full backup now, and look for what damaged this one"


@dataclass(frozen=True)
class Manager:
    """The backups of one node."""

    paths: Paths
    runner: Runner
    tool: BackupTool
    leads: Callable[[], bool]
    """Whether this node may take writes."""
    say: Callable[[str], object] = print
    now: Callable[[], float] = time.time

    def repository(self) -> Repository:
        """What is in the bucket. Raises OverlordError when that is not clear."""
        result = self.runner.run(self.tool.info())
        if result.code:
            said = (result.errors.strip() or result.output.strip()).splitlines()
            raise unclear(said[-1] if said else f"pgBackRest ended with {result.code}")
        return parse_info(result.output)

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
        now = self.now()
        before = read_samples(self.paths) or Samples()
        if not self.leads() or not missed_today(before.ended, datetime.fromtimestamp(now, UTC)):
            return False
        with self.alone():
            try:
                _, size = back_up_samples(self.paths.prometheus_volume, node, upload, now)
            except OverlordError as error:
                write_samples(self.paths, replace(before, error=error.what))
                raise
            write_samples(self.paths, Samples(self.now(), size))
        return True

    def verify(self) -> RestoreTest:
        """Restore the newest backup into a scratch folder and prove it; what could not be proved
        counts as failed. Raises OverlordError only when another one is at work."""
        with self.alone():
            before = read_restore_test(self.paths) or RestoreTest()
            began = self.now()
            test = self._prove(before, began)
            write_restore_test(self.paths, test)
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
                output = check(self.runner, self.tool.examine(), FAULTY).output
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
        repository = self.repository()
        if not repository.has_stanza:
            self.say("preparing the repository")
            check(self.runner, self.tool.stanza_create(), REACH)
        self._write_down(repository)
        return repository

    def _back_up(self, kind: Kind) -> None:
        self.say(f"{kind} backup …")
        check(self.runner, self.tool.mark(secrets.token_hex(16)), "is PostgreSQL up?")
        result = self.runner.run(self.tool.backup(kind))
        if result.code:
            raise CommandFailedError(self.tool.backup(kind), result, REACH)
        self._write_down(self.repository())

    def _write_down(self, repository: Repository) -> None:
        archiver = json.loads(check(self.runner, self.tool.archiver(), "is PostgreSQL up?").output)
        newest, full, now = repository.newest, repository.newest_full, self.now()
        watch = Watch(
            seen=now,
            newest=newest.ended if newest else None,
            newest_full=full.ended if full else None,
            backups=len(repository.backups),
            seconds=newest.seconds if newest else None,
            database_bytes=newest.database_bytes if newest else None,
            stored_bytes=repository.stored_bytes,
            size_ratio=repository.size_ratio,
            archive_waiting=int(archiver["waiting"]),
            archive_oldest_waiting=archiver["oldest_waiting"],
            archive_last=archiver["last_archived"],
            tried=now,
        )
        write_watch(self.paths, watch)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OverlordError as error:
            watch = read_watch(self.paths) or Watch()
            write_watch(self.paths, replace(watch, error=error.what, tried=self.now()))
            raise

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the one place at work on this node. Raises OverlordError when it is taken."""
        self.paths.run.mkdir(parents=True, exist_ok=True)
        with (self.paths.run / "backup.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OverlordError(
                    "a backup, a restore or a restore test is at work on this node",
                    "wait for its end: `systemctl status overlord-backup overlord-restore-test`",
                ) from None
            yield
