"""The gate: the one function that puts an order on a wire."""

import struct
from typing import Final

from router.orders import Child
from router.record import Record
from router.risk import Cleared, Risk

# Enter Order of OUCH 4.2 in its SoupBinTCP packet: the part of each child, the part of all.
ENTER: Final = struct.Struct(">HcB14scI29s").pack
TAIL: Final = struct.Struct(">8sII4scccIcc").pack
MAX_SEQUENCE: Final = 99_999_999_999


class NotClearedError(Exception):
    """Something came to the gate without the risk check's token."""


class Gate:
    """Takes a token that only the risk check gives, and takes each token once."""

    __slots__ = ("_code", "_firm", "_record", "_risk", "children", "released", "sequence")

    def __init__(self, risk: Risk, record: Record, code: str, firm: str) -> None:
        self._risk = risk
        self._record = record
        self._code = code.encode()
        self._firm = firm.ljust(4).encode()
        self.children: dict[bytes, Child] = {}
        self.sequence = 0
        self.released = 0

    def release(self, cleared: Cleared) -> None:
        """Write the children down, then put them on their way."""
        if cleared is not self._risk.issued:
            raise NotClearedError("no order leaves without a fresh token of the risk check")
        self._risk.issued = None
        parent, plan = cleared.parent, cleared.plan
        slices, letter, side = plan.slices, plan.letter, parent.side
        sequence = self.sequence
        if sequence + len(slices) > MAX_SEQUENCE:
            raise NotClearedError("the order tokens of this host are used up")
        self._record.children(parent.number, letter, sequence + 1, slices)
        tail = TAIL(
            parent.book.symbol, parent.price, plan.tif, self._firm,
            parent.display, b"A", parent.sweep, 0, b"N", plan.customer,
        )  # fmt: skip
        children, prefix = self.children, self._code + letter + b"%011d"
        for venue, qty in slices:
            sequence += 1
            token = prefix % sequence
            children[token] = Child(parent, qty, venue)
            venue.out += ENTER(50, b"U", 79, token, side, qty, tail)
        parent.batches.append((letter, self.sequence + 1, len(slices)))
        parent.children += len(slices)
        parent.open_children += len(slices)
        self.sequence = sequence
        self.released += len(slices)
