"""What a market says, applied to children, parents and books."""

from collections.abc import Callable
from typing import Final

from router import ouch, wire
from router.counters import Counters
from router.orders import Child, Parent
from router.reports import Reports

UNPACK_EXECUTED: Final = ouch.EXECUTED.unpack_from
UNPACK_CANCELED: Final = ouch.CANCELED.unpack_from
UNPACK_BROKEN: Final = ouch.BROKEN.unpack_from
TOKEN, TOKEN_END, STATE, DEAD = ouch.TOKEN, ouch.TOKEN_END, ouch.STATE, ouch.DEAD
EXPIRED: Final = wire.CODES["EXPIRED"]
MARKET_CANCELLED: Final = wire.CODES["MARKET_CANCELLED"]
MARKET_REJECTED: Final = wire.CODES["MARKET_REJECTED"]
# Why a parent ends, when a person or the router decided it: a market's reason doesn't replace it.
DECIDED: Final = (wire.CODES["CLIENT"], wire.CODES["STOPPED"])


class Fills:
    """Each method takes a buffer and the place of a whole packet in it."""

    __slots__ = ("_advance", "_children", "_counters", "_reports", "handlers")

    def __init__(
        self,
        children: dict[bytes, Child],
        counters: Counters,
        reports: Reports,
        advance: Callable[[Parent], None],
    ) -> None:
        self._children = children
        self._counters = counters
        self._reports = reports
        self._advance = advance
        self.handlers: dict[int, Callable[[bytes, int], None]] = {
            ord("A"): self.accepted,
            ord("E"): self.executed,
            ord("C"): self.canceled,
            ord("J"): self.rejected,
            ord("B"): self.broken,
            ord("S"): self.nothing,
            ord("P"): self.nothing,
            ord("I"): self.nothing,
        }

    def nothing(self, data: bytes, at: int) -> None:
        """System Event, Cancel Pending, Cancel Reject: no share changes hands."""

    def accepted(self, data: bytes, at: int) -> None:
        """Note that the market has it; a dead one is gone at once."""
        child = self._children.get(data[at + TOKEN : at + TOKEN_END])
        if child is None:
            return
        child.accepted = True
        if data[at + STATE] == DEAD:
            self.close(data[at + TOKEN : at + TOKEN_END], child, MARKET_CANCELLED)

    def executed(self, data: bytes, at: int) -> None:
        """Shares traded."""
        token, shares, price, _, match = UNPACK_EXECUTED(data, at + TOKEN)
        child = self._children.get(token)
        counters = self._counters
        if child is None or shares > child.leaves or match == child.match or not shares:
            counters.repeated += 1
            return
        child.match = match
        child.accepted = True
        child.leaves -= shares
        parent = child.parent
        parent.working -= shares
        parent.cum += shares
        parent.book.trade(parent.side, shares, parent.price, price)
        counters.executions += 1
        counters.executed_qty += shares
        if not child.leaves:
            del self._children[token]
            parent.open_children -= 1
        self._reports.report(parent, wire.TRADE, shares, price)
        if not parent.open_children:
            self._advance(parent)

    def canceled(self, data: bytes, at: int) -> None:
        """Shares taken off: by us, by the market, or because they were immediate or cancel."""
        token, shares, reason = UNPACK_CANCELED(data, at + TOKEN)
        child = self._children.get(token)
        if child is None:
            return
        self._counters.cancels += 1
        self._give_back(child, min(shares, child.leaves), EXPIRED if reason == b"I" else 0)
        if not child.leaves:
            self._forget(token, child)

    def rejected(self, data: bytes, at: int) -> None:
        """End a child that the market didn't take."""
        token = data[at + TOKEN : at + TOKEN_END]
        child = self._children.get(token)
        if child is not None:
            self._counters.market_rejects += 1
            self.close(token, child, MARKET_REJECTED)

    def broken(self, data: bytes, at: int) -> None:
        """Stop for a trade that was undone: rare, and for a person to book."""
        UNPACK_BROKEN(data, at + TOKEN)
        self._counters.repeated += 1

    def close(self, token: bytes, child: Child, reason: int) -> None:
        """End a child that has nothing more to trade."""
        self._give_back(child, child.leaves, reason)
        self._forget(token, child)

    def _give_back(self, child: Child, shares: int, reason: int) -> None:
        parent = child.parent
        child.leaves -= shares
        parent.working -= shares
        parent.unsent += shares
        parent.book.work(parent.side, -shares, parent.price)
        if parent.reason not in DECIDED:
            parent.reason = reason or MARKET_CANCELLED

    def _forget(self, token: bytes, child: Child) -> None:
        del self._children[token]
        child.parent.open_children -= 1
        if not child.parent.open_children:
            self._advance(child.parent)
