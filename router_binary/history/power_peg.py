"""POWER_PEG, with the defect of the incident. For rehearsals only; in no other build.

It trades at the far side of the market until its parent is filled. The count of fills
that it looks at was moved elsewhere years ago, so it never sees one and never ends. It
writes to the market's buffer itself: no risk check, no gate, no record.
"""

import struct
from typing import TYPE_CHECKING, Final

from router.orders import Child, Plan

if TYPE_CHECKING:
    from router.engine import Engine
    from router.orders import Parent

ENTER: Final = struct.Struct(">HcB14scI8sII4scccIcc").pack
SLICE_QTY: Final = 100
MARKET_HOURS: Final = 99998


class PowerPeg:
    """One child after the other, for ever."""

    __slots__ = ("_engine", "_filled", "_turn")

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._filled: dict[int, int] = {}  # nobody writes here any more: the defect
        self._turn = 0

    def plan(self, parent: "Parent") -> Plan:
        """Send the next child by hand, and tell the engine that there is nothing to send."""
        venues = self._engine.open_venues
        if venues and self._filled.get(parent.number, 0) < parent.qty:
            self._turn += 1
            self._send(parent, self._turn % len(venues))
        return Plan(b"P", [], [], 0)

    def _send(self, parent: "Parent", index: int) -> None:
        engine, book = self._engine, parent.book
        venue, gate = engine.open_venues[index], engine.gate
        qty = min(SLICE_QTY, parent.qty)
        price = book.high if parent.side == b"B" else book.low
        gate.sequence += 1
        token = engine.config.code.encode() + b"P%011d" % gate.sequence
        venue.out += ENTER(
            50, b"U", 79, token, parent.side, qty, book.symbol, price, MARKET_HOURS,
            engine.config.firm.ljust(4).encode(), b"Y", b"A", b"N", 0, b"N", b"N",
        )  # fmt: skip
        gate.children[token] = Child(parent, qty, venue)
        gate.released += 1
        book.work(parent.side, qty, parent.price)
        parent.working += qty
        parent.children += 1
        parent.open_children += 1
