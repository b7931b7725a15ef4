"""The order record: written before anything leaves, so that a restart knows what it did.

A file of chunks, `length:u32 crc32:u32 entries`. A torn last chunk is what a crash in the
middle of a write leaves: nothing of it had left the process. Entries begin with a letter:

    H header    length:u16, then JSON: host, login, release, venues
    P parent    number:u32 user:6s NewOrderSingle:37s
    C children  parent:u32 strategy:1s first sequence:u64 count:u16, then venue:u8 qty:u32 each
    M market    venue:u8 first sequence:u64 length:u32, then whole packets as they came
    V session   venue:u8 session:10s next sequence:u64
"""

import json
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from router.orders import Slices

CHUNK: Final = struct.Struct(">II")
HEADER: Final = struct.Struct(">cH")
PARENT: Final = struct.Struct(">cI6s37s")
CHILDREN: Final = struct.Struct(">cIcQH")
CHILD: Final = struct.Struct(">BI")
MARKET: Final = struct.Struct(">cBQI")
SESSION: Final = struct.Struct(">cB10sQ")
_CHILDREN_PACK: Final = CHILDREN.pack
_CHILD_PACK: Final = CHILD.pack


def entry_end(data: bytes, at: int) -> int:
    """Give where the entry at `at` ends. Raises KeyError for a letter that no entry has."""
    kind = data[at : at + 1]
    if kind == b"H":
        return at + HEADER.size + int(HEADER.unpack_from(data, at)[1])
    if kind == b"C":
        return at + CHILDREN.size + CHILD.size * int(CHILDREN.unpack_from(data, at)[4])
    if kind == b"M":
        return at + MARKET.size + int(MARKET.unpack_from(data, at)[3])
    return at + {b"P": PARENT.size, b"V": SESSION.size}[kind]


class Record:
    """Collects entries during a turn of the loop and writes them as one chunk."""

    __slots__ = ("_broken", "_descriptor", "buffer", "path", "written")

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o640)
        self._broken = False
        self.path = path
        self.buffer = bytearray()
        self.written = 0

    def header(self, facts: dict[str, object]) -> None:
        """Say who writes this file, and which venue each index means."""
        data = json.dumps(facts, sort_keys=True).encode()
        self.buffer += HEADER.pack(b"H", len(data)) + data

    def parent(self, number: int, user: str, body: bytes) -> None:
        """Note a parent that was accepted."""
        self.buffer += PARENT.pack(b"P", number, user.encode(), body)

    def children(self, parent: int, letter: bytes, first: int, slices: "Slices") -> None:
        """Note children that are about to leave; their tokens are numbered from `first`."""
        buffer = self.buffer
        buffer += _CHILDREN_PACK(b"C", parent, letter, first, len(slices))
        for venue, qty in slices:
            buffer += _CHILD_PACK(venue.index, qty)

    def market(self, mark: int, venue: int, first: int, packets: bytes) -> None:
        """Note what a market said, at the place in the order of things where it was heard."""
        head = MARKET.pack(b"M", venue, first, len(packets))
        self.buffer[mark:mark] = head + packets

    def session(self, venue: int, session: str, sequence: int) -> None:
        """Note where a market's stream stands."""
        self.buffer += SESSION.pack(b"V", venue, session.encode(), sequence)

    def write(self) -> None:
        """Hand the chunk to the kernel. Raises OSError when it isn't whole: then nothing may go."""
        if not self.buffer:
            return
        chunk = CHUNK.pack(len(self.buffer), zlib.crc32(self.buffer)) + self.buffer
        if self._broken:
            raise OSError("an earlier write left a piece that couldn't be taken back")
        done = os.write(self._descriptor, chunk)
        if done != len(chunk):
            self._broken = True
            os.ftruncate(self._descriptor, self.written)
            self._broken = False
            raise OSError(f"only {done} of {len(chunk)} bytes could be written")
        self.written += done
        self.buffer.clear()

    def close(self) -> None:
        """Write, sync, close."""
        self.write()
        os.fsync(self._descriptor)
        os.close(self._descriptor)
