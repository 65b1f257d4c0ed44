"""Fills a Prometheus with series by its remote write interface.

Every series is a straight line with a little noise, so a whole fleet's history is made as fast as
Prometheus takes it, and compresses about as badly as real samples do.
"""

from __future__ import annotations

import random
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import requests

STEP_SECONDS = 15
_CONTENT = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
# A sample: field 2 of a series, 16 bytes: a double and a timestamp in milliseconds, of which the
# varint has 6 bytes from the year 2004 to 2109.
_SAMPLE_BYTES = 18
_VALUE_AT = 3
_TIME_AT = 12
_REQUEST_BYTES = 4_000_000
# Prometheus takes samples up to half a block, an hour, behind the newest it has.
_SLICE = 60
_NOISE = 1440
_WALKS = 64
_A_TIME = 1e9  # a value as large is seconds since the epoch
_SAMPLE_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"]*)"')


@dataclass(frozen=True)
class Line:
    """A series.

    Args:
        labels: its name and labels, encoded.
        start: its value at the beginning.
        rate: growth a second.
        noise: how far a sample is off the line, in its own unit.
        walk: which of the noises.
    """

    labels: bytes
    start: float
    rate: float
    noise: float
    walk: int


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(content)) + content


def line(name: str, labels: Mapping[str, str], value: float, rate: float = 0.0) -> Line:
    """A series that begins at a value and grows by a rate a second; by none it is a gauge."""
    encoded = b"".join(
        _field(0x0A, _field(0x0A, key.encode()) + _field(0x12, text.encode()))
        for key, text in sorted({"__name__": name, **labels}.items())
    )
    if rate:
        noise = rate * STEP_SECONDS * 0.4  # a counter never falls
    elif value in (0.0, 1.0) or value > _A_TIME:
        noise = 0.0
    else:
        noise = value * 0.02
    return Line(encoded, value, rate, noise, zlib.crc32(encoded) % _WALKS)


def lines_of(text: str, labels: Mapping[str, str], age: float) -> Iterator[Line]:
    """Series of an exposition in Prometheus' text format.

    Args:
        text: the exposition.
        labels: what the scrape configuration adds. The exposition's own label of such a name
            becomes `exported_…`, as in a scrape.
        age: seconds over which its counters have grown.
    """
    for row in text.splitlines():
        if not row or row.startswith("#"):
            continue
        found = _SAMPLE_LINE.match(row)
        if found is None:
            raise ValueError(f"not a sample: {row}")
        name, value = found[1], float(found[3])
        own = {
            f"exported_{key}" if key in labels else key: text
            for key, text in _LABEL.findall(found[2] or "")
        }
        counts = name.endswith(("_total", "_count", "_sum", "_bucket"))
        yield line(name, {**own, **labels}, value, value / age if counts else 0.0)


class Writer:
    """Writes samples into one Prometheus.

    Args:
        url: its base URL.
        origin: time of the lines' start, in seconds since the epoch; a multiple of the step.
    """

    def __init__(self, url: str, origin: int) -> None:
        self._url = f"{url}/api/v1/write"
        self._origin = origin
        chance = random.Random(4)  # noqa: S311 (the same in every run)
        self._walks = [[chance.uniform(-1, 1) for _ in range(_NOISE)] for _ in range(_WALKS)]
        self._http = requests.Session()
        self.samples = 0

    def history(self, lines: list[Line], start: int, end: int, step: int = STEP_SECONDS) -> None:
        """Every sample from `start` up to `end`, in the order in which they would have come.

        Args:
            lines: the series.
            start: time of the first samples, in seconds since the epoch; a multiple of the step.
            end: first time without a sample.
            step: seconds between two samples; a multiple of STEP_SECONDS.
        """
        span = _SLICE * step
        # One makes the next request while the other is taken.
        with ThreadPoolExecutor(1) as sender:
            sent: list[Future[None]] = []
            for first in range(start, end, span):
                for body in self._requests(lines, first, min(first + span, end), step):
                    for done in sent[:-1]:
                        done.result()
                    sent = [*sent[-1:], sender.submit(self._send, body)]
            for done in sent:
                done.result()

    def now(self, lines: list[Line], at: int) -> None:
        """One sample of each series."""
        for body in self._requests(lines, at, at + STEP_SECONDS, STEP_SECONDS):
            self._send(body)

    def _requests(self, lines: Iterable[Line], start: int, end: int, every: int) -> Iterator[bytes]:
        count = (end - start) // every
        empty = bytearray(_SAMPLE_BYTES * count)
        for index in range(count):
            at = index * _SAMPLE_BYTES
            empty[at : at + 3] = b"\x12\x10\x09"
            stamp = _varint((start + index * every) * 1000)
            empty[at + _TIME_AT - 1 : at + _SAMPLE_BYTES] = b"\x10" + stamp
        offset = (start - self._origin) // STEP_SECONDS
        steps = [offset + index * every // STEP_SECONDS for index in range(count)]
        places = [step % _NOISE for step in steps]
        body = bytearray()
        for one in lines:
            walk, grown = self._walks[one.walk], one.rate * STEP_SECONDS
            values = array(
                "d",
                [
                    one.start + grown * step + one.noise * walk[place]
                    for step, place in zip(steps, places, strict=True)
                ],
            ).tobytes()
            samples = empty.copy()
            for byte in range(8):
                samples[_VALUE_AT + byte :: _SAMPLE_BYTES] = values[byte::8]
            body += _field(0x0A, one.labels + samples)
            self.samples += count
            if len(body) > _REQUEST_BYTES:
                yield bytes(body)
                body.clear()
        if body:
            yield bytes(body)

    def _send(self, body: bytes) -> None:
        # Snappy's format with everything as one literal: nothing is saved by packing on loopback.
        packed = _varint(len(body)) + b"\xfc" + (len(body) - 1).to_bytes(4, "little") + body
        answer = self._http.post(self._url, data=packed, headers=_CONTENT, timeout=120)
        if answer.status_code >= 300:
            raise RuntimeError(f"remote write: {answer.status_code} {answer.text[:300]}")
