"""Compares the record of what was acknowledged with what the server has: lost, doubled, unknown."""

from __future__ import annotations

import asyncio
import csv
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from device.agent.overlord_device.backoff import Backoff, parse_retry_after
from device.simulator.recorder import Record
from device.simulator.target import check_target, connector

PAGE_SIZE = 1000
AT_ONCE = 8
TOO_FAST_TRIES = 20


_WITHOUT_HISTORY = (
    "Where the API has no history, give --csv with the columns device_id and event_id of the "
    "table status_history, as psql's \\copy writes them"
)


class VerifyError(Exception):
    """The server's side could not be read; the text says why."""


@dataclass
class Verdict:
    """The comparison, by count and by id."""

    acknowledged: int = 0
    stored: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)
    doubled: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    stored_unacknowledged: int = 0

    @property
    def good(self) -> bool:
        """Nothing lost, doubled or invented."""
        return not (self.lost or self.doubled or self.unknown)

    def report(self) -> str:
        """For a person; at most ten ids of each kind."""
        lines = [
            f"{'acknowledged':24} {self.acknowledged}",
            f"{'stored':24} {self.stored}",
            f"{'lost':24} {len(self.lost)}",
            f"{'doubled':24} {len(self.doubled)}",
            f"{'stored, never made':24} {len(self.unknown)}",
            # Its acknowledgement was lost on the way, or the run ended first: no fault.
            f"{'stored, unacknowledged':24} {self.stored_unacknowledged}",
        ]
        for word, items in (
            ("LOST", self.lost),
            ("DOUBLED", self.doubled),
            ("UNKNOWN", self.unknown),
        ):
            lines += [f"{word} {device} {event_id}" for device, event_id in items[:10]]
        return "\n".join(lines)


def compare_device(
    verdict: Verdict, record: Record, device: str, stored_ids: Iterable[str]
) -> None:
    """Add one device's comparison to the verdict."""
    stored = Counter(stored_ids)
    acknowledged = record.acknowledged.get(device, {})
    made = record.made.get(device, {})
    verdict.acknowledged += len(acknowledged)
    verdict.stored += stored.total()
    verdict.lost += [(device, e) for e in acknowledged if e not in stored]
    verdict.doubled += [(device, e) for e, number in stored.items() if number > 1]
    verdict.unknown += [(device, e) for e in stored if e not in made]
    verdict.stored_unacknowledged += sum(e in made and e not in acknowledged for e in stored)


def compare_csv(record: Record, path: Path) -> Verdict:
    """Compare with rows of ``device_id,event_id``, as PostgreSQL's COPY gives them.

    Devices that are not in the record are left out: the fleet may have others.
    """
    stored: dict[str, list[str]] = {device: [] for device in record.devices()}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if len(row) < 2:
                raise VerifyError(f"{path}: expected device_id,event_id, found {row}")
            if row[0] in stored:
                stored[row[0]].append(row[1])
    verdict = Verdict()
    for device, ids in stored.items():
        compare_device(verdict, record, device, ids)
    return verdict


async def compare_api(
    record: Record,
    base_url: str,
    operator_token: str,
    *,
    ca_file: Path | None = None,
    allow_public: bool = False,
) -> Verdict:
    """Compare with the history that the API returns for each device.

    Raises:
        VerifyError: the API refused, or has no history.
    """
    base_url = check_target(base_url, allow_public=allow_public)
    verdict = Verdict()
    tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    at_once = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(
        connector=connector(allow_public=allow_public, limit=AT_ONCE, tls=tls),
        headers={"Authorization": f"Bearer {operator_token}"},
        timeout=aiohttp.ClientTimeout(total=60),
    ) as session:

        async def one(device: str) -> None:
            async with at_once:
                url = f"{base_url}/api/devices/{device}/history"
                ids = [event_id async for event_id in _history(session, url)]
                compare_device(verdict, record, device, ids)

        try:
            async with asyncio.TaskGroup() as group:
                for device in record.devices():
                    group.create_task(one(device))
        except* VerifyError as errors:
            raise VerifyError(str(errors.exceptions[0])) from None
    return verdict


async def _history(session: aiohttp.ClientSession, url: str) -> AsyncIterator[str]:
    page = 1
    while True:
        items = await _page(session, url, page)
        for item in items:
            yield item["event_id"]
        if len(items) < PAGE_SIZE:
            return
        page += 1


async def _page(session: aiohttp.ClientSession, url: str, page: int) -> list[dict[str, Any]]:
    """One page, asked for again as often as the server says that it comes too fast."""
    parameters = {"page": str(page), "page_size": str(PAGE_SIZE)}
    backoff = Backoff(base_s=0.5, cap_s=10.0, uniform=random.uniform)
    for _ in range(TOO_FAST_TRIES):
        async with session.get(url, params=parameters) as answer:
            if answer.status == 200:
                return list((await answer.json())["items"])
            text = (await answer.text())[:200]
            if answer.status != 429:
                raise VerifyError(f"{url} answered {answer.status}: {text}. {_WITHOUT_HISTORY}")
            after = parse_retry_after(answer.headers.get("Retry-After"), None)
        await asyncio.sleep(backoff.fail(after))
    raise VerifyError(f"{url} answers 429 for too long: {text}")
