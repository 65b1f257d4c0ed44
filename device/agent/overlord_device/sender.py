"""Brings the queue to the server, in order, and lets nothing go before it is acknowledged."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from . import wire
from .backoff import Backoff, Uniform, parse_retry_after
from .clock import SUSPECT_OFFSET_S, Clock, ServerTime, rfc3339
from .queue import Event, Queue
from .transport import HttpClient, Reply, TransportError

log = logging.getLogger(__name__)

MAX_BATCH = 200
MAX_BODY_BYTES = 200_000
"""Before compression; the API takes 256 KiB."""
SINGLES_FOR_S = 3600.0
"""How long a server that took no batch is asked one by one."""
REPLAY_PAUSE_S = 1.0
"""The most that is waited between two batches: a returning fleet must leave room for others."""
LOG_AGAIN_S = 900.0
"""How often an ongoing outage is logged."""

_OVERHEAD_BYTES = 120
"""What the API's form of a status adds to the queue's: the time of sending, brackets."""

# The event itself is at fault: sending it again would end the same way. Anything else may pass.
# Only with a reason, which the API always gives: whatever else answers, a proxy or a captive
# portal, has no say in what is dropped, nor in what the time is.
_FINAL = frozenset({400, 413, 422})
# A whole batch refused like this says nothing about its items.
_NO_BATCH = frozenset({400, 404, 405, 415, 422, 501})


class Sender:
    """One `step` sends what is due and says how long to wait. It never raises."""

    def __init__(
        self,
        queue: Queue,
        client: HttpClient,
        server: str,
        token: str,
        clock: Clock,
        server_time: ServerTime,
        *,
        backoff: Backoff | None = None,
        uniform: Uniform = random.uniform,
    ) -> None:
        self._queue = queue
        self._client = client
        self._url = server.rstrip("/") + wire.STATUS_PATH
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._clock = clock
        self._server_time = server_time
        self._backoff = backoff or Backoff()
        self._uniform = uniform
        self._batch_size = MAX_BATCH
        self._singles_until = float("-inf")
        self._down_since: float | None = None
        self._logged_at = float("-inf")
        self._problem = ""
        self._epoch = queue.notes().get("epoch")

    def step(self) -> float | None:
        """Send what is due.

        Returns:
            Seconds to wait before the next step, or None when the queue is empty.
        """
        one_by_one = self._clock.boottime() < self._singles_until
        events = self._queue.waiting(1 if one_by_one else self._batch_size)
        if not events:
            return None
        events, reports = self._encoded(_within(events, MAX_BODY_BYTES))
        if not events:
            return 0.0
        try:
            reply = self._post(reports)
        except TransportError as error:
            # On a slow line a smaller batch gets through where a large one times out.
            self._batch_size = max(1, len(events) // 2)
            return self._failed(str(error), None)
        if reply.status in (200, 201):
            return self._accepted(reply, events)
        return self._refused(reply, events)

    def _encoded(self, events: Sequence[Event]) -> tuple[list[Event], list[dict[str, Any]]]:
        """The events with their reports. One that cannot be read must not block the rest."""
        good: list[Event] = []
        reports: list[dict[str, Any]] = []
        for stored in events:
            try:
                event = self._restamped(stored)
                report = wire.encode(event, self._clock, self._server_time)
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                log.error("status %s in the queue is unreadable: %r", stored.event_id, error)
                self._queue.refuse({stored.event_id: f"unreadable in the queue: {error!r}"})
                continue
            good.append(event)
            reports.append(report)
        return good, reports

    def _post(self, reports: Sequence[dict[str, Any]]) -> Reply:
        if len(reports) == 1:
            body, headers = wire.single(reports[0]), self._headers
        else:
            body, headers = wire.batch(reports), {**self._headers, "Content-Encoding": "gzip"}
        return self._client.request("POST", self._url, body=body, headers=headers)

    def _true_wall(self, event: Event) -> float | None:
        """When the event was made by the server's clock, if its own is too far off to be taken.

        None otherwise, and when nobody can know: the age of an event is known only within the boot
        that made it.
        """
        server_now = self._server_time.now()
        if server_now is None or event.boot_id != self._clock.boot_id():
            return None
        true_wall = server_now - (self._clock.boottime() - event.boottime)
        # A minute more than the server's bound, because the server's Date is good to a second only.
        return true_wall if abs(event.wall - true_wall) > wire.MAX_SKEW_S + 60.0 else None

    def _restamped(self, event: Event) -> Event:
        """The event, with the server's time if its own clock was more than a day off.

        The API takes no such event otherwise. It is done once, on disk and before the event is
        sent, since the time is part of the event's identity; an event that far off was never
        recorded, so none can be doubled by it.
        """
        true_wall = self._true_wall(event)
        if true_wall is None:
            return event
        record = json.loads(event.body)
        record["metrics"]["clock_corrected"] = 1.0
        fixed = replace(event, wall=true_wall, body=json.dumps(record))
        return fixed if self._queue.restamp(fixed) else event

    def _accepted(self, reply: Reply, events: Sequence[Event]) -> float:
        try:
            receipt = wire.read_receipt(reply, [event.event_id for event in events])
        except wire.NotUnderstoodError as error:
            return self._failed(f"{self._url}: {error}", None)
        self._server_time.learn(reply.headers.get("date"))
        # Before the new ones are marked, or they would be sent again as well.
        self._follow_epoch(receipt)
        self._queue.acknowledge(receipt.acknowledged)
        for event in events:
            if event.event_id in receipt.refused:
                self._give_up(event, *receipt.refused[event.event_id])
        self._recovered()
        self._batch_size = min(MAX_BATCH, self._batch_size * 2)
        return self._uniform(0.0, max(0.1, REPLAY_PAUSE_S * len(events) / MAX_BATCH))

    def _follow_epoch(self, receipt: wire.Receipt) -> None:
        """After a failover, send again what the new primary may lack."""
        if receipt.epoch is None:
            return
        known, epoch = self._epoch, str(receipt.epoch)
        if known == epoch:
            return
        if known is not None:
            # The watermark is in the server's time, so it is of use to a right clock only. Without
            # one, everything kept is sent: the old primary may have been alone for hours.
            since = 0.0
            if receipt.watermark is not None and self._server_time.trusted():
                since = receipt.watermark - SUSPECT_OFFSET_S
            again = self._queue.resend_since(since)
            if again is None:
                return
            log.info("epoch %s follows %s: %d sent again", epoch, known, again)
        self._epoch = epoch
        self._queue.note("epoch", epoch)

    def _refused(self, reply: Reply, events: Sequence[Event]) -> float:
        reason, detail = wire.read_problem(reply)
        if reason:
            self._server_time.learn(reply.headers.get("date"))
        if len(events) > 1 and reply.status == 413:
            self._batch_size = len(events) // 2
            return 0.0
        if len(events) > 1 and reply.status in _NO_BATCH:
            # Either the server takes no batches, or one item spoils this one. Singles tell.
            self._singles_until = self._clock.boottime() + SINGLES_FOR_S
            log.info("the server took no batch (%s): sending one by one for a while", detail)
            return 0.0
        if reply.status in _FINAL and reason:
            if reason == wire.CLOCK_OFF and self._true_wall(events[0]) is not None:
                # Not at once: a full disk may keep the corrected time from being saved.
                return self._failed("the clock is more than a day off; set it", None)
            self._recovered()
            self._give_up(events[0], reason, detail)
            return 0.0
        text = f"{self._url} answered {reply.status}: {detail}"
        if reply.status in (401, 403):
            text += " If this device was retired or its token withdrawn, enrol it anew."
        retry_after = parse_retry_after(reply.headers.get("retry-after"), reply.headers.get("date"))
        return self._failed(text, retry_after)

    def _give_up(self, event: Event, reason: str, detail: str) -> None:
        if reason == wire.CLOCK_OFF and self._true_wall(event) is not None:
            log.info("the clock is more than a day off: using the server's time for what waits")
            return
        log.warning("the server refused status %s for good: %s", event.event_id, detail)
        self._queue.refuse({event.event_id: f"{reason}: {detail}"})

    # -- outages -----------------------------------------------------------------------------

    def _failed(self, problem: str, retry_after_s: float | None) -> float:
        wait = self._backoff.fail(retry_after_s)
        now = self._clock.boottime()
        if self._down_since is None:
            self._down_since = now
            self._queue.note("last_error", f"{rfc3339(self._clock.wall())} {problem}")
        if problem != self._problem or now - self._logged_at >= LOG_AGAIN_S:
            log.warning(
                "not delivered: %s; %d waiting on this device, next try in %.0f s",
                problem,
                self._queue.counts().waiting,
                wait,
            )
            self._problem, self._logged_at = problem, now
        return wait

    def _recovered(self) -> None:
        self._backoff.reset()
        if self._down_since is None:
            return
        away = self._clock.boottime() - self._down_since
        log.info(
            "the server answers again after %.0f s; %d waiting", away, self._queue.counts().waiting
        )
        self._queue.note("last_error", "")
        self._down_since, self._problem = None, ""


def _within(events: Sequence[Event], max_bytes: int) -> list[Event]:
    """As many of the first events as fit, at least one."""
    size = 0
    for number, event in enumerate(events):
        size += len(event.body.encode()) + _OVERHEAD_BYTES
        if size > max_bytes and number:
            return list(events[:number])
    return list(events)
