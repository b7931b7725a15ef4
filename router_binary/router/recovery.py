"""What an earlier process wrote down, taken over by this one.

A clean stop leaves a snapshot. After a crash the records since the last snapshot are
played again, through the same code that made them; nothing is sent while that is done.
"""

import json
import os
import re
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from router import record
from router.counters import Counters
from router.orders import Child, Parent

if TYPE_CHECKING:
    from router.engine import Engine
    from router.venues import Venue

NAME: Final = re.compile(r"orders-([0-9]{8})\.rec\Z")
ROW: Final = struct.Struct(">6sIIIH37s")  # user, number, CumQty, CxlQty, Reason, NewOrderSingle
MAX_RECORD: Final = 4 * 1024**3


class RecoveryError(Exception):
    """The records can't be trusted: a person must look before anything trades."""


def _numbers(folder: Path) -> list[int]:
    names = (NAME.match(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in names if name)


def next_path(folder: Path) -> Path:
    """Name the record file of this process."""
    numbers = _numbers(folder)
    return folder / f"orders-{(numbers[-1] if numbers else 0) + 1:08d}.rec"


def recover(engine: "Engine", folder: Path, ours: Path) -> None:
    """Load the snapshot, replay what came after it."""
    engine.replaying = True
    through = _load_snapshot(engine, folder / "snapshot")
    for number in _numbers(folder):
        path = folder / f"orders-{number:08d}.rec"
        if number > through and path != ours:
            _Replay(engine, path).run()
    engine.replaying = False
    engine.record.buffer.clear()
    for parent in list(engine.parents.values()):
        if parent.unsent and not parent.open_children:
            engine.finish(parent)
    open_parents = sum(parent.leaves > 0 for parent in engine.parents.values())
    for name in Counters.__dataclass_fields__:
        setattr(engine.counters, name, 0)
    engine.counters.open_parents = open_parents
    # Far more nanoseconds pass than reports are written: this is above all earlier numbers.
    engine.reports.exec_id = max(engine.reports.exec_id, time.time_ns())


def record_paths(folder: Path) -> list[Path]:
    """Give the record files, oldest first."""
    return [folder / f"orders-{number:08d}.rec" for number in _numbers(folder)]


def chunks(path: Path) -> Iterator[bytes]:
    """Give the whole chunks of a record file. A torn last one is left out."""
    size = path.stat().st_size
    if size > MAX_RECORD:
        raise RecoveryError(f"{path} is larger than {MAX_RECORD} bytes")
    data = path.read_bytes()
    at = 0
    while at + record.CHUNK.size <= size:
        length, crc = record.CHUNK.unpack_from(data, at)
        start = at + record.CHUNK.size
        at = start + length
        if at > size:
            return  # torn by a crash: nothing of this chunk had left the process
        if zlib.crc32(data[start:at]) != crc:
            if at == size:
                return
            raise RecoveryError(f"{path} is damaged at byte {start}")
        yield data[start:at]


class _Replay:
    """Plays one file."""

    def __init__(self, engine: "Engine", path: Path) -> None:
        self._engine = engine
        self._path = path
        self._venues: list[Venue] = []
        self._names: list[str] = []

    def run(self) -> None:
        for chunk in chunks(self._path):
            self._entries(chunk)

    def _entries(self, chunk: bytes) -> None:
        players = {72: self._header, 80: self._parent, 67: self._children, 77: self._market,
                   86: self._session}  # fmt: skip
        at = 0
        try:
            while at < len(chunk):
                at = players[chunk[at]](chunk, at)
        except (KeyError, IndexError, struct.error) as error:
            raise RecoveryError(
                f"{self._path} doesn't fit this configuration or release: {error!r}"
            ) from error

    def _header(self, chunk: bytes, at: int) -> int:
        _, length = record.HEADER.unpack_from(chunk, at)
        start = at + int(record.HEADER.size)
        by_name = {venue.name: venue for venue in self._engine.venues}
        self._names = json.loads(chunk[start : start + length])["venues"]
        gone = [name for name in self._names if name not in by_name]
        if gone:
            raise RecoveryError(f"{self._path} traded on {gone}, which aren't configured now")
        self._venues = [by_name[name] for name in self._names]
        return start + int(length)

    def _parent(self, chunk: bytes, at: int) -> int:
        _, number, user, body = record.PARENT.unpack_from(chunk, at)
        self._engine.adopt(_make_parent(self._engine, user, number, body))
        return at + int(record.PARENT.size)

    def _children(self, chunk: bytes, at: int) -> int:
        engine = self._engine
        _, number, letter, first, count = record.CHILDREN.unpack_from(chunk, at)
        place = at + int(record.CHILDREN.size)
        parent = engine.parents[number]
        prefix = engine.config.code.encode() + letter
        for sequence in range(first, first + count):
            venue, qty = record.CHILD.unpack_from(chunk, place)
            place += int(record.CHILD.size)
            child = Child(parent, qty, self._venues[venue])
            engine.gate.children[prefix + b"%011d" % sequence] = child
            parent.unsent -= qty
            parent.working += qty
            parent.book.work(parent.side, qty, parent.price)
        parent.batches.append((letter, first, count))
        parent.children += count
        parent.open_children += count
        engine.gate.sequence = first + count - 1
        return place

    def _market(self, chunk: bytes, at: int) -> int:
        _, index, first, length = record.MARKET.unpack_from(chunk, at)
        start = at + int(record.MARKET.size)
        packets, handlers = chunk[start : start + length], self._engine.fills.handlers
        venue, place = self._venues[index], 0
        venue.next_sequence = first
        while place < length:
            if packets[place + 2] == 83:
                venue.next_sequence += 1
                handlers[packets[place + 3]](packets, place)
            place += 2 + int.from_bytes(packets[place : place + 2], "big")
        return start + int(length)

    def _session(self, chunk: bytes, at: int) -> int:
        _, index, session, sequence = record.SESSION.unpack_from(chunk, at)
        venue = self._venues[index]
        venue.session = session.rstrip(b"\0").decode()
        venue.next_sequence = sequence
        if not venue.session:
            self._engine.session_lost(venue)
        return at + int(record.SESSION.size)


def _make_parent(engine: "Engine", user: bytes, number: int, body: bytes) -> Parent:
    name = user.rstrip(b"\0").decode()
    book, owner = engine.books.get(body[22:30]), engine.users.get(name)
    if book is None or owner is None:
        symbol = body[22:30].decode().strip()
        raise RecoveryError(f"the record has parents of {name} in {symbol}: one isn't configured")
    parent = Parent(owner, number, body, book, engine.usual)
    owner.parents[parent.clordid] = parent
    return parent


def write_snapshot(engine: "Engine", folder: Path) -> None:
    """Write where a clean stop left everything; the records before it need not be replayed."""
    rows = b"".join(
        ROW.pack(p.user.name.encode(), p.number, p.cum, p.cxl, p.reason, p.body)
        for p in engine.parents.values()
    )
    head = {
        "schema": 1,
        "through": _numbers(folder)[-1],
        "sequence": engine.gate.sequence,
        "next_number": engine.next_number,
        "exec_id": engine.reports.exec_id,
        "venues": {venue.name: [venue.session, venue.next_sequence] for venue in engine.venues},
        "books": {book.name: [book.position, book.cost] for book in engine.books.values()},
        "crc32": zlib.crc32(rows),
    }
    draft = folder / "snapshot.new"
    with draft.open("wb") as file:
        file.write(json.dumps(head, sort_keys=True).encode() + b"\n" + rows)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / "snapshot")


def _load_snapshot(engine: "Engine", path: Path) -> int:
    if not path.exists():
        return 0
    line, _, rows = path.read_bytes().partition(b"\n")
    try:
        head: dict[str, Any] = json.loads(line)
        if zlib.crc32(rows) != head["crc32"] or len(rows) % ROW.size:
            raise RecoveryError(f"{path} is damaged")
        for user, number, cum, cxl, reason, body in ROW.iter_unpack(rows):
            parent = _make_parent(engine, user, number, body)
            parent.cum, parent.cxl, parent.reason, parent.unsent = cum, cxl, reason, 0
            engine.parents[number] = parent
        engine.gate.sequence = int(head["sequence"])
        engine.next_number = int(head["next_number"])
        engine.reports.exec_id = int(head["exec_id"])
        for venue in engine.venues:
            venue.session, venue.next_sequence = head["venues"].get(venue.name, ["", 1])
        by_name = {book.name: book for book in engine.books.values()}
        for name, (position, cost) in head["books"].items():
            if name not in by_name and (position or cost):
                raise RecoveryError(f"{path}: a position in {name}, which isn't configured")
            if name in by_name:
                by_name[name].restore(position, cost)
        return int(head["through"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecoveryError(f"{path} can't be read: {error!r}") from error
