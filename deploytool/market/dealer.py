"""Deals parents round-robin over the routers, and asks again for what a broken line lost."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from deploytool.market import wire
from deploytool.market.ledger import Ledger, Parent, ParentState
from deploytool.market.link import Link, RouterAddress

_WINDOW: Final = 500
"""Answers that one router may owe, to new parents and to an audit's questions each."""
_BITS: Final = 16


@dataclass(slots=True)
class Audit:
    """The question to each router what its own record says of each parent it has."""

    queues: dict[str, deque[Parent]] = field(default_factory=dict)
    owed: dict[str, dict[str, Parent]] = field(default_factory=dict)

    def begin(self, parents: Iterator[Parent]) -> None:
        """Ask for all of these anew."""
        self.queues.clear()
        self.owed.clear()
        for parent in parents:
            parent.audit, parent.asked = None, True
            self.queues.setdefault(parent.router, deque()).append(parent)

    def ask(self, host: str) -> list[bytes]:
        """Return the questions that may go to a router now."""
        queue, owed = self.queues.get(host), self.owed.setdefault(host, {})
        questions = []
        while queue and len(owed) < _WINDOW:
            parent = queue.popleft()
            owed[parent.order.cl_ord_id] = parent
            questions.append(wire.pack_status_request(parent.order.cl_ord_id))
        return questions

    def answered(self, host: str, cl_ord_id: str) -> None:
        """Take an answer off the list."""
        self.owed.get(host, {}).pop(cl_ord_id, None)

    def line_lost(self, host: str) -> None:
        """Put back what was asked and not answered."""
        self.queues.setdefault(host, deque()).extend(self.owed.pop(host, {}).values())

    @property
    def left(self) -> int:
        """How many answers are still to come."""
        return sum(map(len, self.queues.values())) + sum(map(len, self.owed.values()))


class Dealer:
    """The gateway's lines and its ledger, and what goes out on which."""

    def __init__(self, routers: tuple[RouterAddress, ...], user: str, password: str) -> None:
        if not routers or len({r.host for r in routers}) != len(routers):
            raise ValueError("a gateway needs routers, each on another host")
        self.trusted: frozenset[str] = frozenset()
        self.uses: dict[int, str | None] = {}
        """The bits in use, each with the release that it was certified for, or for any trusted."""
        self.ledger = Ledger()
        self.audit = Audit()
        self.last_sent: dict[int, float] = {}
        self.links = {r.host: Link(r, user, password, self) for r in routers}
        self._turn = deque(self.links.values())
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to connect."""
        self._tasks = {asyncio.create_task(link.run()) for link in self.links.values()}

    async def stop(self) -> None:
        """Close all lines. The routers keep what they accepted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def trust(self, releases: frozenset[str]) -> None:
        """Trust these releases and no others, from this moment on."""
        self.trusted = releases
        for link in self.links.values():
            link.reconsider()

    @property
    def flags(self) -> int:
        """The bits that new parents carry."""
        return sum(1 << bit for bit in self.uses)

    @property
    def held_back(self) -> int:
        """How many parents wait because a bit that they must carry is not in use."""
        return sum(len(q) for wants, q in self.ledger.waiting.items() if wants & ~self.flags)

    def deal(self) -> None:
        """Send what can be sent now."""
        out: dict[Link, list[bytes]] = {}
        in_use = self.flags
        for wants, queue in self.ledger.waiting.items():
            if wants & ~in_use:
                continue
            while queue and (link := self._next(in_use)):
                parent = queue.popleft()
                self.ledger.deal(parent, link.router.host, in_use)
                out.setdefault(link, []).append(self._new(parent))
        for link, payloads in out.items():
            link.send(payloads)

    def ask_audit(self, link: Link) -> None:
        """Send the audit's next questions to one router."""
        if link.trusted and (questions := self.audit.ask(link.router.host)):
            link.send(questions)

    def cancel_open(self) -> int:
        """Ask for the cancellation of every open parent; return how many were asked for."""
        asked = 0
        for host, link in self.links.items():
            requests = [
                wire.pack_cancel_request(parent.order.cl_ord_id)
                for parent in self.ledger.parents.values()
                if parent.router == host and parent.state is ParentState.OPEN
            ]
            if link.trusted and requests:
                link.send(requests)
                asked += len(requests)
        return asked

    def line_up(self, link: Link) -> None:
        """Ask again for what was missed, on the same router and under the same ClOrdID."""
        host = link.router.host
        again = [self._again(link, parent) for parent in self.ledger.sent.get(host, {}).values()]
        again += [
            wire.pack_status_request(parent.order.cl_ord_id)
            for parent in self.ledger.parents.values()
            if parent.router == host and parent.state is ParentState.OPEN
        ]
        if again:
            link.send(again)
        self.ask_audit(link)

    def line_down(self, link: Link) -> None:
        """Remember that reports may have been missed."""
        self.ledger.line_lost(link.router.host)
        self.audit.line_lost(link.router.host)

    def report(self, link: Link, report: wire.ExecutionReport) -> None:
        """Take an execution report in."""
        self.ledger.apply(link.router.host, report)
        if report.exec_type == wire.STATUS:
            self.audit.answered(link.router.host, report.cl_ord_id)

    def heard(self, link: Link) -> None:
        """Go on: an answer may have made room for more."""
        self.deal()
        self.ask_audit(link)

    def may_carry(self, link: Link, word: int) -> bool:
        """Whether a message with these bits may go there: each is in use, and on this release.

        What was certified for one release goes only to a session whose login showed that one, and
        that says it obeys the bit: a router that was restarted does not.
        """
        info = link.info
        for bit in bits(word):
            release = self.uses.get(bit, "")
            if release is None:
                continue
            if info is None or info.release != release or not info.accepted_flags >> bit & 1:
                return False
        return True

    def _again(self, link: Link, parent: Parent) -> bytes:
        """Send it as it was; but a bit that may not go there now never goes out again."""
        if not self.may_carry(link, parent.order.flags):
            return wire.pack_status_request(parent.order.cl_ord_id)
        return self._new(parent)

    def _new(self, parent: Parent) -> bytes:
        if parent.order.flags:
            now = time.monotonic()
            self.last_sent.update(dict.fromkeys(bits(parent.order.flags), now))
        return wire.pack_new(parent.order)

    def _next(self, word: int) -> Link | None:
        """Return the next router in turn that takes such orders and isn't behind with answers."""
        for _ in range(len(self._turn)):
            link = self._turn[0]
            self._turn.rotate(-1)
            room = len(self.ledger.sent.get(link.router.host, ())) < _WINDOW
            if room and link.takes_orders and self.may_carry(link, word):
                return link
        return None


def bits(word: int) -> list[int]:
    """Return the numbers of the bits that are set."""
    return [bit for bit in range(_BITS) if word >> bit & 1]
