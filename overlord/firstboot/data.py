"""Steps that give the node its data: the database, and metrics and logs from before."""

import time
from dataclasses import replace
from typing import Literal

from overlord.actions import database as database_actions
from overlord.arbiter import ArbiterSilentError
from overlord.backup.causes import failure
from overlord.backup.logs import (
    LOGS,
    for_loki,
    has_earlier_days,
    newest_archives,
    put_back_logs,
)
from overlord.backup.objects import data_bucket, logs_bucket
from overlord.backup.restore import recovery_notes
from overlord.backup.samples import SAMPLES, newest_snapshot, put_back
from overlord.backup.source import Look, Source, backups_word, choose, look_at
from overlord.commands.backup import BackupTool
from overlord.errors import OverlordError
from overlord.firstboot.context import AGAIN, Context, Notes
from overlord.firstboot.services import share_secrets
from overlord.layout import stack_of
from overlord.node import read_backup_terms
from overlord.roles.origin import (
    Clone,
    Init,
    Keep,
    OriginFacts,
    Restore,
    Stop,
    Wait,
    decide_origin,
)
from overlord.runner import check

ORIGIN_PAUSE = 2.0
RESTORE_PAUSES = (10.0, 30.0, 0.0)


def database(context: Context) -> Notes:
    """The database: kept, copied from the peer, restored, or made where there never was any."""
    share_secrets(context)
    compose = stack_of(context.paths, context.node.name)
    began = context.clock()
    said = ""
    while True:
        origin = decide_origin(_origin_facts(context, context.clock() - began))
        match origin:
            case Keep():
                return ["kept what is there"]
            case Init():
                check(
                    context.runner, database_actions.init_command(compose), f"free space?, {AGAIN}"
                )
                return ["made an empty one"]
            case Clone(peer):
                command = database_actions.clone_command(compose, peer)
                if context.runner.run(command).code == 0:
                    return [f"copied from {peer}"]
                # The peer may have gone meanwhile: what it says now decides.
                reason = f"copying from {peer} failed"
            case Restore():
                return _restore(context)
            case Wait(reason):
                pass
            case Stop(what, remedy):
                raise OverlordError(what, f"{remedy}, {AGAIN}")
        if reason != said:
            said = reason
            print(f"first boot: database: waiting: {reason}", flush=True)
        context.sleep(ORIGIN_PAUSE)


def metrics(context: Context) -> Notes:
    """Metrics from before, where this node has none: from the newest snapshot of either node. The
    services run already, and no failure here stops a boot."""
    volume = context.paths.prometheus_volume
    if any((block / "meta.json").exists() for block in volume.iterdir()):
        return ["kept what is there"]
    try:
        bucket = data_bucket(context.paths)
        key = newest_snapshot(bucket.objects(SAMPLES))
        if not key:
            return ["there are none"]
        with bucket.opened(key) as archive:
            blocks = put_back(volume, archive)
    except (OverlordError, OSError) as error:
        what = error.what if isinstance(error, OverlordError) else str(error)
        return [_none_from_before(what, "--metrics")]
    return [f"{blocks} blocks of {key}"]


def logs(context: Context) -> Notes:
    """Logs from before, where this node has none: from the newest archive of either node. As with
    the metrics, Loki runs already, and no failure here stops a boot."""
    volume, now = context.paths.loki_volume, time.time()
    if has_earlier_days(volume, now):
        return ["kept what is there"]
    try:
        bucket = logs_bucket(context.paths)
        archives = for_loki(newest_archives(bucket.objects(LOGS)), now)
        if not archives:
            return ["there are none"]
        files = put_back_logs(volume, bucket, archives)
    except OverlordError as error:
        return [_none_from_before(error.what, "--logs")]
    return [f"{files} files of {len(archives)} archives"]


def _none_from_before(what: str, option: str) -> str:
    return f"none from before: {what}; `overlordctl restore {option}` tries again"


def _restore(context: Context) -> Notes:
    source = _source(context)
    tool = BackupTool(
        stack_of(context.paths, context.node.name), which=source.which if source else ""
    )
    last_segment = source.last_segment if source else ""
    second = " of the second repository" if source and source.number == 2 else ""
    for pause in RESTORE_PAUSES:
        result = context.runner.run(tool.restore(None))
        if result.code == 0:
            notes = recovery_notes(result.output, last_segment)
            return [f"restored the newest backup{second}", *notes]
        context.sleep(pause)
    error = failure("the restore", tool.restore(None), result, "see the runbook of backups")
    raise OverlordError(
        error.what,
        f"the backups are as they were; {error.remedy}; see "
        f"docs/operations/disaster-recovery.md, {AGAIN}",
    )


def _origin_facts(context: Context, waited: float) -> OriginFacts:
    facts = OriginFacts(
        data=database_actions.has_database(context.paths),
        role=context.node.role,
        peer_name=context.node.peer,
        peer=context.ask_peer(context.node.peer),
        arbiter=_arbiters_word(context),
        waited=waited,
    )
    if not facts.asks_for_backup:
        return facts
    return replace(facts, backup=backups_word(_looks(context)))


def _looks(context: Context) -> list[Look]:
    tool = BackupTool(stack_of(context.paths, context.node.name))
    count = len(read_backup_terms(context.paths, context.boot).repositories)
    return look_at(context.runner, tool.of_each(count))


def _source(context: Context) -> Source | None:
    """Where a restore starts; None where that is not clear any more: then from the first alone."""
    looks = _looks(context)
    return choose(looks, None) if backups_word(looks) == "exists" else None


def _arbiters_word(context: Context) -> Literal["none", "silent", "empty", "known"]:
    if context.node.arbiter is None:
        return "none"
    try:
        state = context.ask_arbiter(context)
    except (ArbiterSilentError, OSError):
        return "silent"
    return "known" if state.cluster else "empty"
