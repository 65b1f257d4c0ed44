"""What the device agent's queue keeps when the power is cut, and when the disk is full.

The power cut is worked out, not waited for: strace writes down what the queue asks of the disk, and
from that come the states in which a disk may be found after a cut at any moment. What was synced is
there; of what was not, any part may be, in any order, down to single sectors. See T. Pillai et al.,
"All File Systems Are Not Created Equal", OSDI 2014.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.api import ROOT, Api, running_api
from tests.support.memory_disk import memory_disk
from tests.support.programs import native
from tests.support.rough_line import rough_line
from tests.support.torn_device import ACKNOWLEDGED, TornDevice
from tests.unit.device.fakes import FakeClock, make_queue

SEED = 20261127
SECTOR = 512
CUTS = 400

# Opens the queue anew now and then, as an agent that is restarted does.
WRITER = """
import sys
from pathlib import Path
from tests.unit.device.fakes import FakeClock, make_queue, make_status
folder, synchronous = Path(sys.argv[1]), sys.argv[2]
clock = FakeClock()
for start in range(4):
    queue = make_queue(folder, clock)
    queue._database().execute("PRAGMA synchronous=" + synchronous)
    for number in range(70):
        event = make_status(clock, padding=400)
        assert queue.put(event)
        sys.stdout.write("put " + event.event_id + "\\n")
        sys.stdout.flush()
        if number % 3 == 0:
            first = queue.waiting(1)[0].event_id
            queue.acknowledge([first])
            sys.stdout.write("ack " + first + "\\n")
            sys.stdout.flush()
        clock.advance(60)
    queue.close()
"""


@dataclass
class File:
    """An inode: what is synced, and the writes since."""

    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    """Offset and data; an offset of -1 stands for a new length, given by the length of the data."""

    def sync(self) -> None:
        for offset, data in self.pending:
            self.durable = _applied(self.durable, offset, data)
        self.pending.clear()

    def after_a_cut(self, draw: random.Random) -> bytes:
        """The content with any part of what was not synced."""
        content = self.durable
        for offset, data in self.pending:
            fate = draw.random()
            if fate < 0.4:
                continue
            if fate < 0.6 and offset >= 0:
                for start in range(0, len(data), SECTOR):
                    if draw.random() < 0.5:
                        content = _applied(content, offset + start, data[start : start + SECTOR])
            else:
                content = _applied(content, offset, data)
        return content


def _applied(content: bytes, offset: int, data: bytes) -> bytes:
    if offset < 0:
        return content[: len(data)].ljust(len(data), b"\0")
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


class Disk:
    """A folder's files as a disk has them, fed with what a program asked of it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._now: dict[str, File] = {}
        self._durable: dict[str, File] = {}
        self._renamed: list[tuple[str, File | None]] = []
        """Names since the folder was last synced, and what they came to stand for."""

    def _enter(self, name: str, file: File | None) -> None:
        self._renamed.append((name, file))
        if file is None:
            self._now.pop(name, None)
        else:
            self._now[name] = file

    def take(self, call: Call) -> None:
        """One call, in the order in which they were made."""
        if call.path == self._folder:
            if call.name in ("fsync", "fdatasync"):
                for name, file in self._renamed:
                    _name(self._durable, name, file)
                self._renamed.clear()
            return
        folder, _, name = call.path.rpartition("/")
        if folder != self._folder or name.endswith("-shm"):  # shared memory, made anew at a start
            return
        if call.name == "openat":
            if name not in self._now:
                self._enter(name, File())
            elif "O_TRUNC" in call.words:
                self._now[name].pending.append((-1, b""))
        elif call.name in ("unlink", "unlinkat"):
            self._enter(name, None)
        elif call.name in ("fsync", "fdatasync"):
            self._now[name].sync()
        elif call.name == "ftruncate":
            length = int(call.words.split(",")[1])
            self._now[name].pending.append((-1, bytes(length)))
        elif call.name == "pwrite64":
            self._now[name].pending.append((int(call.words.rsplit(",", 1)[1]), call.data))
        else:
            raise AssertionError(f"{call.name} of {call.path} is not understood")

    def after_a_cut(self, draw: random.Random) -> dict[str, bytes]:
        """One way in which the folder may be found. A journal keeps the order of names."""
        names = dict(self._durable)
        for name, file in self._renamed[: draw.randint(0, len(self._renamed))]:
            _name(names, name, file)
        return {name: file.after_a_cut(draw) for name, file in names.items()}


def _name(names: dict[str, File], name: str, file: File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file


@dataclass(frozen=True)
class Call:
    """A system call that succeeded.

    Args:
        path: of the file that it is about.
        words: its arguments, the data left out.
        data: what it writes.
    """

    name: str
    path: str
    words: str
    data: bytes = b""


_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"^\d+<([^>]*)>")


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def calls(trace: Path) -> Iterator[Call]:
    """What strace wrote down, run with -y and -xx."""
    for line in trace.read_text().splitlines():
        match = _CALL.match(line)
        if match is None:
            assert " = -1 " in line or line.startswith(("+++", "---")), line
            continue
        name, words = match[1], match[2]
        texts = [_bytes(text) for text in _TEXT.findall(words)]
        rest = _TEXT.sub("", words)
        about = _FILE.match(words)
        if about is None:
            yield Call(name, texts[0].decode(), rest)
        else:
            path = re.sub(r"\\x([0-9a-f]{2})", lambda one: chr(int(one[1], 16)), about[1])
            yield Call(name, path, _FILE.sub("", rest), texts[0] if texts else b"")


def traced(folder: Path, trace: Path, synchronous: str) -> list[Call]:
    """What the writer asked of the disk, with its words about it in between."""
    strace = native("strace")
    assert strace is not None, "strace is not on PATH: `make tracer` brings it"
    watched = "openat,pwrite64,pwritev,write,fsync,fdatasync,ftruncate,?unlink,unlinkat,?rename"
    line = [strace, "-y", "-xx", "-s", "1000000", "-e", f"trace={watched}", "-o", str(trace)]
    done = subprocess.run(
        [*line, sys.executable, "-c", WRITER, str(folder), synchronous],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(calls(trace))


def lost(asked: list[Call], folder: Path, scratch: Path, draw: random.Random) -> list[str]:
    """Cut the power at moments by chance; what had been promised by then and is not there."""
    disk = Disk(str(folder))
    cuts = sorted(draw.randrange(len(asked)) for _ in range(CUTS))
    promised: dict[str, str] = {}
    missing: list[str] = []
    for position, call in enumerate(asked):
        if call.name == "write":
            word, _, event_id = call.data.decode("utf-8", "replace").strip().partition(" ")
            if word in ("put", "ack"):
                promised[event_id] = word
        else:
            disk.take(call)
        for _ in range(cuts.count(position)):
            missing += _missing(disk.after_a_cut(draw), promised, scratch)
    assert len(promised) == 280
    return missing


def _missing(files: dict[str, bytes], promised: dict[str, str], scratch: Path) -> list[str]:
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        with closing(make_queue(folder, FakeClock())) as queue:
            rows = dict(queue._database().execute("SELECT event_id, state FROM events").fetchall())
        if (folder / "queue.db.damaged").exists():
            return ["the whole queue"]
        return [
            event_id
            for event_id, word in promised.items()
            if event_id not in rows or (word == "ack" and rows[event_id] != ACKNOWLEDGED)
        ]


@pytest.mark.timeout(600)
def test_no_status_that_was_saved_is_lost_by_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    asked = traced(folder, tmp_path / "trace", "FULL")
    syncs = sum(call.name in ("fsync", "fdatasync") for call in asked)
    missing = lost(asked, folder, tmp_path, random.Random(SEED))
    print(f"\n280 statuses, {len(asked)} calls, {syncs} of them syncs; {CUTS} cuts lost {missing}")
    assert missing == []


@pytest.mark.timeout(600)
def test_the_test_of_the_power_cut_sees_what_is_not_synced(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    asked = traced(folder, tmp_path / "trace", "OFF")
    assert lost(asked, folder, tmp_path, random.Random(SEED))


# -- full disk ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_api() as api:
        yield api


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    assert os.statvfs(folder).f_bavail == 0
    return path


@pytest.mark.timeout(600)
def test_a_full_disk_loses_and_doubles_nothing_and_stops_no_report(
    tmp_path: Path, api: Api
) -> None:
    with memory_disk(tmp_path / "disk", "2m") as folder, rough_line(api.url, SEED) as line:
        device = TornDevice(folder, api, line, "pi-full")
        line.cut()
        device.start(period_s=0.05)
        _wait(lambda: device.queue_exists() and device.kept().made > 50)
        filler = fill(folder)
        time.sleep(2.0)  # held in memory, nowhere to go
        line.connect()
        before = len(device.stored())
        # The backlog on disk and what is new both arrive, though the disk takes no mark of it.
        _wait(lambda: len(device.stored()) > before + 150)
        posts = sum(line.met.values())
        _wait(lambda: len(device.stored()) > before + 200)
        # Each post brings something new: the backlog is not sent over and over.
        assert sum(line.met.values()) - posts <= 60
        device.kill()
        full = device.stored()
        assert len(full) == len(set(full))

        device.start(period_s=0.05)  # on a disk that is still full
        _wait(lambda: len(device.stored()) > len(full) + 20)
        filler.unlink()
        made = device.kept().made
        _wait(lambda: device.kept().made > made + 20)
        device.kill()
        device.deliver(0.05, 60)
        kept, stored = device.kept(), device.stored()
        log = device.log.read_text()
    print(
        f"\n{len(stored)} statuses stored, {kept.made} of them by way of the disk; {dict(line.met)}"
    )
    assert len(stored) == len(set(stored))
    assert set(kept.of_state(ACKNOWLEDGED)) == set(kept.states) <= set(stored)
    assert "held in memory" in log
    assert "takes writes again" in log
    assert "Traceback" not in log


def _wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
