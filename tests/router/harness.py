"""An engine without sockets: its venues are buffers, its market is a function."""

from __future__ import annotations

import shutil
import struct
import tempfile
import weakref
from pathlib import Path
from typing import Any

import registry
from router.engine import Engine
from router.flags import Flags
from router.latch import Latch
from router.lease import Lease
from router.loop import Loop
from router.orders import User
from router.record import Record
from router.venues import Venue

from router import config as configs
from router import wire

from .conftest import ROOT

HEAD = struct.Struct(">HcB14scI8sI")
NEW = struct.Struct(wire.NEW_ORDER)
REPORT = struct.Struct(">Hc" + wire.REPORT[1:])
EXECUTED = struct.Struct(">HcBQ14sIIcQ")
CANCELED = struct.Struct(">HcBQ14sIc")


class Rig:
    """One engine, one user, as many venues as the configuration has."""

    def __init__(
        self, document: dict[str, Any], host: str = "router1", lease: Lease | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rig-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        table = registry.load_table(ROOT / "router_binary" / "flags.yaml")
        self.now_s = 1000.0
        self.flags = Flags({**table, "wire": wire.DIGEST}, 1, lambda: self.now_s)
        self.record = Record(self.folder / "orders-00000001.rec")
        config = configs.parse(document, host)
        self.engine = Engine(config, self.flags, Latch(self.folder), self.record, lease)
        loop = Loop()
        self.engine.venues = [
            Venue(self.engine, loop, index, "0") for index in range(len(config.venues))
        ]
        for venue in self.engine.venues:
            venue.up = True
        self.engine.venue_changed()
        self.user: User = self.engine.users["GATE01"]
        self.user.out = bytearray()
        self.match = 0

    def order(
        self, clordid: str, qty: int = 300, price: int = 100_000, side: str = "B", *,
        symbol: str = "ACME", tif: str = "0", flags: int = 0,
    ) -> list[tuple[Any, ...]]:  # fmt: skip
        """Send a parent; give the reports it brought."""
        self.engine.new_order(self.user, NEW.pack(
            b"D", clordid.encode().ljust(16), side.encode(), qty, symbol.encode().ljust(8), price,
            tif.encode(), flags,
        ))  # fmt: skip
        return self.reports()

    def reports(self) -> list[tuple[Any, ...]]:
        """Take what the client was told: (ClOrdID, ExecType, OrdStatus, ...)."""
        assert self.user.out is not None
        data = bytes(self.user.out)
        self.user.out.clear()
        found, at = [], 0
        while at < len(data):
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            if data[at + 3 : at + 4] == b"8":
                _, _, _, clordid, kind, status, *rest = REPORT.unpack(data[at:end])
                found.append((clordid.decode().strip(), kind.decode(), status.decode(), *rest))
            at = end
        return found

    def sent(self) -> list[tuple[bytes, str, int, int]]:
        """Take what went to the markets: (token, side, qty, price)."""
        found = []
        for venue in self.engine.venues:
            data = bytes(venue.out)
            venue.out.clear()
            at = 0
            while at < len(data):
                if data[at + 3 : at + 4] == b"O":
                    _, _, _, token, side, qty, _, price = HEAD.unpack_from(data, at)
                    found.append((token, side.decode(), qty, price))
                at += 2 + int.from_bytes(data[at : at + 2], "big")
        return found

    def fill(self, token: bytes, qty: int, price: int = 100_000) -> None:
        self.match += 1
        packet = EXECUTED.pack(41, b"S", 69, 1, token, qty, price, b"A", self.match)
        self.engine.fills.executed(packet, 0)

    def cancel(self, token: bytes, qty: int) -> None:
        self.engine.fills.canceled(CANCELED.pack(29, b"S", 67, 1, token, qty, b"U"), 0)


def check(rig: Rig, working: dict[bytes, int]) -> None:
    """Every share is somewhere, once: in books, parents, reports."""
    engine = rig.engine
    assert {t: c.leaves for t, c in engine.gate.children.items()} == working
    for parent in rig.user.parents.values():
        assert parent.qty == parent.cum + parent.working + parent.unsent + parent.cxl
        assert min(parent.cum, parent.working, parent.unsent, parent.cxl) >= 0
    for report in rig.reports():
        _, kind, status, qty, _, _, cum, leaves, _, _, cxl = report
        if kind != "8":
            assert qty == cum + leaves + cxl
            assert (leaves == 0) == (status in "24")
    account = engine.account
    assert account.working == sum(working.values())
    assert account.position == sum(abs(book.position) for book in engine.books.values())
    assert account.working_value == account.working * 100_000
