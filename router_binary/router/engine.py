"""The engine: parents in, children out, reports back. It has no socket and no clock.

Theory of operation
-------------------
The server's loop (``server``) owns sockets and time. It calls the engine for each message of a
client (``new_order``, ``cancel_order``, ``status_request``), hands each message of a market to the
venue that it came from (``venues``, which calls ``fills``, ``advance`` and ``reconciled``), and
calls ``turn`` at the end of each turn, before anything leaves. Operators come in by ``stop``,
``resume`` and ``renew`` (``control``).

A new parent goes through one path:

1. It is recognised (the same order again is answered, not sent), checked for form, and its flag
   word is checked against the flags that are armed now.
2. ``_handle`` finds the strategy and terms behind its bits; a plain word gets ``Slicing``.
3. The strategy plans the next slices. ``risk.clear`` checks limits, the latch, the lease and the
   venues for all of them together, and reserves what they may use.
4. ``adopt`` writes the parent down and counts it. ``gate.release`` turns the cleared plan into
   child orders in the venues' buffers. It accepts nothing that ``risk.clear`` has not cleared.
5. ``turn`` runs the circuit breakers and writes the record. Only then does the server send.

When nothing of a parent works any more, ``advance`` plans the next slices and goes through 3 and 4
again, or ``finish`` closes the parent.

A stop latches first, on disk, then takes back what is still in a buffer, then cancels what works.
A lease that has lapsed is a stop; ``look_at_lease`` is called before anything can leave.

What may never happen
---------------------
- A child leaves on a path that passes neither ``risk`` nor ``gate``.
- The children of a parent, filled and working, exceed its quantity.
- A child leaves before its parent and itself are in the record, or after HALTED was answered.
- A child's fate is guessed: one whose market session is gone stays in doubt (``lost``).
- A restart trades on: flags come up off, the latch is read, the lease has to be renewed.
"""

import re
from typing import Any, Final, NamedTuple

from router import wire
from router.books import Account, Book
from router.breakers import Breakers
from router.config import Config
from router.counters import Counters, Sent
from router.fills import Fills
from router.flags import Flags
from router.gate import Gate
from router.latch import ACTIVE, HALTED, REDUCING, Latch, ResumeRefusedError
from router.lease import Lease
from router.limits import missing
from router.orders import Child, Destination, Parent, Strategy, User
from router.record import Record
from router.reports import Reports
from router.risk import RefusedError, Risk
from router.slicing import Slicing
from router.terms import Terms, load
from router.venues import Venue

CODES: Final = wire.CODES
SIDES, MAX_QTY, MAX_PRICE = wire.SIDES, wire.MAX_QTY, wire.MAX_PRICE
TIFS: Final = (wire.DAY, wire.IMMEDIATE)
FLAG_REASONS: Final = range(CODES["UNKNOWN_FLAG"], CODES["FLAG_NOT_ARMED"] + 1)
GOOD_ID: Final = re.compile(rb"[0-9A-Za-z_-]{1,16} *\Z").match
STOPPED: Final = CODES["STOPPED"]
DECIDED: Final = (CODES["CLIENT"], STOPPED)
MAX_NUMBER: Final = 2**32 - 2


class Handling(NamedTuple):
    """What a flag word makes of a parent."""

    strategy: Strategy
    terms: Terms


class Engine:
    """One router's state, and every way in which it changes."""

    def __init__(
        self,
        config: Config,
        flags: Flags,
        latch: Latch,
        record: Record,
        lease: Lease | None = None,
    ) -> None:
        self.config = config
        self.flags = flags
        self.latch = latch
        self.lease = lease or Lease()
        self.record = record
        self.slice_qty, self.max_slices = config.slice_qty, config.max_slices
        self.counters = Counters()
        self.reports = Reports(self.counters)
        self.account = Account()
        books = [Book(symbol, self.account) for symbol in config.symbols]
        self.books = {book.symbol: book for book in books}
        self.users = {name: User(name) for name in config.clients}
        self.risk = Risk(config.limits, flags, latch, self.account)
        self.missing_limits = missing(config.limits, config.thresholds)
        self.risk.blocked = bool(self.missing_limits)
        self.risk.leased = self.lease.holds()
        self.gate = Gate(self.risk, record, config.code, config.firm)
        self.sent = Sent(0)  # recovery knows from which number on this process counts
        self.breakers = Breakers(config.thresholds)
        self.fills = Fills(self.gate.children, self.counters, self.reports, self.advance)
        self.venues: list[Venue] = []
        self.open_venues: list[Destination] = []
        self.lost: dict[bytes, Child] = {}  # children of market sessions that are gone for good
        self.parents: dict[int, Parent] = {}
        self.next_number = 1
        self.most_children = 0
        self._max_parents = min(config.limits.parents or 0, MAX_NUMBER)
        self.replaying = False
        self.usual = Slicing(self)
        self._handlers = {mask: load(name) for mask, name in sorted(flags.handlers.items())}
        self._handling: dict[int, Handling] = {}

    # -- parents -----------------------------------------------------------------------------

    def new_order(self, user: User, body: bytes) -> None:
        """Take a parent: reject it visibly, recognise it, or send its children."""
        _, clordid, side, qty, symbol, price, tif, word = wire.UNPACK_NEW_ORDER(body)
        known = user.parents.get(clordid)
        if known is not None:
            self._again(user, known, body)
            return
        book = self.books.get(symbol)
        code = self._malformed(clordid, side, qty, price, tif) or self.flags.why_not(word)
        if code or book is None:
            self.reject(user, clordid, qty, code or CODES["UNKNOWN_SYMBOL"])
            return
        if self.next_number > self._max_parents:
            name = "MISSING_LIMIT" if self.config.limits.parents is None else "TOO_MANY_PARENTS"
            self.reject(user, clordid, qty, CODES[name])
            return
        handling = self._handling.get(word) or self._handle(word)
        parent = Parent(user, self.next_number, body, book, handling.strategy)
        parent.display, parent.sweep = handling.terms
        user.parents[clordid] = parent
        try:
            self._start(parent)
        except RefusedError as refused:
            del user.parents[clordid]
            self.reject(user, clordid, qty, refused.code)

    def _start(self, parent: Parent) -> None:
        """Send the first children; write the parent down before them."""
        plan = parent.strategy.plan(parent)
        if not plan.slices and not self.open_venues:
            raise RefusedError(CODES["NO_VENUE"])
        cleared = self.risk.clear(parent, plan) if plan.slices else None
        self.adopt(parent)
        self.counters.parents += 1
        self.reports.report(parent, wire.NEW)
        if cleared is not None:
            self.gate.release(cleared)
            if parent.children > self.most_children:
                self.most_children = parent.children

    def adopt(self, parent: Parent) -> None:
        """Count a parent as ours from now on."""
        self.record.parent(parent.number, parent.user.name, parent.body)
        self.parents[parent.number] = parent
        self.next_number = parent.number + 1
        self.counters.open_parents += 1

    @staticmethod
    def _malformed(clordid: bytes, side: bytes, qty: int, price: int, tif: bytes) -> int:
        if not GOOD_ID(clordid):
            return CODES["BAD_CLORDID"]
        if side not in SIDES:
            return CODES["BAD_SIDE"]
        if not 0 < qty <= MAX_QTY:
            return CODES["BAD_QTY"]
        if not 0 < price <= MAX_PRICE:
            return CODES["BAD_PRICE"]
        return 0 if tif in TIFS else CODES["BAD_TIF"]

    def _handle(self, word: int) -> Handling:
        """Find the code behind each bit of a word; remembered, at most one entry a word."""
        strategy: Strategy = self.usual
        terms = Terms()
        for mask, handler in self._handlers.items():
            if word & mask:
                if isinstance(handler, type):
                    strategy = handler(self)
                else:
                    terms = handler(terms)
        found = self._handling[word] = Handling(strategy, terms)
        return found

    def _again(self, user: User, known: Parent, body: bytes) -> None:
        """Answer a parent that we have; refuse another one under its name."""
        self.counters.duplicates += 1
        if known.body == body:
            self.reports.status(known, in_doubt=self.in_doubt(known))
        else:
            qty = wire.UNPACK_NEW_ORDER(body)[3]
            self.reject(user, known.clordid, qty, CODES["DUPLICATE"])

    def reject(self, user: User, clordid: bytes, qty: int, code: int) -> None:
        """Refuse, visibly and counted."""
        self.counters.rejects += 1
        self.counters.flag_rejects += code in FLAG_REASONS
        self.reports.reject(user, clordid, qty, code, wire.REJECTED)

    def cancel_order(self, user: User, clordid: bytes) -> None:
        """Cancel what works of a parent, as its client asks."""
        parent = user.parents.get(clordid)
        if parent is None or not parent.leaves:
            code = "UNKNOWN_ORDER" if parent is None else "ALREADY_DONE"
            self.reports.cancel_reject(user, clordid, CODES[code])
            return
        parent.reason = CODES["CLIENT"]
        for token, child in self.children_of(parent):
            child.venue.cancel(token)

    def status_request(self, user: User, clordid: bytes) -> None:
        """Tell how a parent stands."""
        parent = user.parents.get(clordid)
        if parent is None:
            self.reports.reject(user, clordid, 0, CODES["UNKNOWN_ORDER"], wire.STATUS)
        else:
            self.reports.status(parent, in_doubt=self.in_doubt(parent))

    def children_of(self, parent: Parent) -> list[tuple[bytes, Child]]:
        """Give the open children of a parent, those in doubt included."""
        code, found = self.config.code.encode(), []
        for letter, first, count in parent.batches:
            for sequence in range(first, first + count):
                token = code + letter + b"%011d" % sequence
                child = self.gate.children.get(token) or self.lost.get(token)
                if child is not None:
                    found.append((token, child))
        return found

    def in_doubt(self, parent: Parent) -> bool:
        """Whether a child's fate is not known now."""
        return any(t in self.lost or not c.venue.up for t, c in self.children_of(parent))

    # -- what follows a market's message ------------------------------------------------------

    def advance(self, parent: Parent) -> None:
        """Nothing of the parent works any more: send what comes next, or end it."""
        if self.replaying:
            return
        if parent.unsent and parent.reason not in DECIDED:
            plan = parent.strategy.plan(parent)
            if plan.slices:
                try:
                    self.gate.release(self.risk.clear(parent, plan))
                except RefusedError as refused:
                    parent.reason = refused.code
                    self.counters.flag_rejects += refused.code in FLAG_REASONS
                else:
                    self.most_children = max(self.most_children, parent.children)
                    return
        if not parent.open_children:
            self.finish(parent)

    def finish(self, parent: Parent) -> None:
        """Cancel what was never sent and close the parent."""
        self.counters.open_parents -= 1
        if parent.unsent:
            parent.cxl += parent.unsent
            parent.unsent = 0
            self.reports.report(parent, wire.CANCELED, reason=parent.reason)

    # -- venues ------------------------------------------------------------------------------

    def venue_changed(self) -> None:
        """Deal to the venues that are up."""
        self.open_venues = [venue for venue in self.venues if venue.up]
        self.flags.on_change()

    def reconciled(self, venue: Venue) -> None:
        """All that was missed has come: what the market never mentioned never reached it."""
        for token, child in list(self.gate.children.items()):
            if child.venue is not venue:
                continue
            if not child.accepted:
                self.fills.close(token, child, CODES["MARKET_CANCELLED"])
            elif self.latch.state != ACTIVE or child.parent.reason in DECIDED:
                venue.cancel(token)  # it still works, against what was decided meanwhile

    def session_lost(self, venue: Venue) -> None:
        """Leave open children in doubt: the market has no memory of our session."""
        for token, child in list(self.gate.children.items()):
            if child.venue is venue:
                self.lost[token] = self.gate.children.pop(token)

    # -- stopping ------------------------------------------------------------------------------

    def stop(self, state: str, reason: str, by: str) -> str:
        """Latch, take back what has not left yet, cancel all that works."""
        latch_id = self.latch.close(state, reason, by)
        self.cancel_all()
        self.flags.on_change()
        return latch_id

    def cancel_all(self) -> None:
        """Cancel every child, by whatever way it can be."""
        for parent in self.parents.values():
            if parent.leaves:
                parent.reason = STOPPED
        for venue in self.venues:
            self._take_back(venue)
        for token, child in self.gate.children.items():
            child.venue.cancel(token)

    def _take_back(self, venue: Venue) -> None:
        tokens = venue.take_back()
        self.sent.take_back(tokens)
        for token in tokens:
            child = self.gate.children.get(token)
            if child is not None:
                self.fills.close(token, child, STOPPED)

    def resume(self, latch_id: str, now_s: float) -> None:
        """Trade again; only for who has read what was latched. Raises ResumeRefusedError."""
        self.check_cause(now_s)
        self.latch.open(latch_id)
        self.breakers.reset(self)
        self.flags.on_change()

    def check_cause(self, now_s: float) -> None:
        """Refuse to resume what would be stopped again at once. Raises ResumeRefusedError."""
        self.look_at_lease()
        if not self.lease.holds():
            raise ResumeRefusedError("LEASE", "no lease holds now: have it renewed first")
        cause = self.cause(now_s)
        if cause:
            raise ResumeRefusedError("CAUSE", f"the breaker's cause still holds: {cause}")

    def cause(self, now_s: float) -> str:
        """Say what would trip a breaker at once if this went on now, or nothing."""
        return "" if self.risk.blocked else self.breakers.holding(self, now_s)

    # -- the lease -----------------------------------------------------------------------------

    def look_at_lease(self) -> None:
        """Halt where it has lapsed, and let nothing leave later that was on its way."""
        if not self.lease.lapsed():
            return
        self.risk.leased = False
        why = f"lease: nobody renewed it within {self.lease.lease_s:g} s"
        self.stop(HALTED, why, "router")
        for venue in self.venues:
            venue.reset_if_stuck(why)

    def unleased(self, venue: Venue) -> None:
        """Let no order leave, whoever put it into the buffer: no lease holds at this moment."""
        self.look_at_lease()
        self._take_back(venue)

    def renew(self, nonce: str) -> dict[str, Any]:
        """Prolong the lease. One that lapsed is a halt all the same. Raises LeaseRefusedError."""
        self.look_at_lease()
        answer = self.lease.renew(nonce)
        if self.risk.leased != self.lease.holds():
            self.risk.leased = self.lease.holds()
            self.flags.on_change()
        return answer

    def turn(self, now_s: float) -> None:
        """After each turn of the loop: breakers, then the record. Both before anything leaves."""
        self.risk.clock(now_s)
        self.sent.note(self.gate.sequence, now_s)
        tripped = self.breakers.tripped(self, now_s)
        if tripped and self.latch.state != HALTED and not self.risk.blocked:
            self.stop(HALTED, f"circuit breaker: {tripped}", "router")
        try:
            self.record.write()
        except OSError as error:
            self.record.buffer.clear()
            self.stop(HALTED, f"the order record can't be written: {error}", "router")

    def trading_letter(self) -> bytes:
        """Say for SessionInfo whether new parents are welcome."""
        if self.latch.state == HALTED or self.risk.blocked or not self.risk.leased:
            return b"H"
        if self.risk.draining:
            return b"D"
        if self.latch.state == REDUCING:
            return b"R"
        return b"A" if self.open_venues and self.latch.state == ACTIVE else b"P"
