"""A parent, its children, and a client's user. Shares are never made or lost here.

Always: qty = cum + working + unsent + cxl.
"""

from typing import TYPE_CHECKING, Protocol

from router import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.books import Book


class Destination(Protocol):
    """What an order needs of the market that it goes to."""

    index: int
    name: str
    retail: bool
    up: bool
    out: bytearray

    def cancel(self, token: bytes) -> None:
        """Ask for a child back."""
        ...


Slices = list[tuple[Destination, int]]


class Plan:
    """Children that a strategy wants to send now, and what is common to them."""

    __slots__ = ("customer", "letter", "slices", "smallest", "tif", "total")

    def __init__(
        self,
        letter: bytes,
        venues: "Sequence[Destination]",
        sizes: list[int],
        tif: int,
        customer: bytes = b"N",
    ) -> None:
        self.letter = letter
        self.slices: Slices = list(zip(venues, sizes, strict=True))
        self.tif = tif
        self.customer = customer
        self.total = sum(sizes)
        self.smallest = min(sizes, default=0)


class Strategy(Protocol):
    """Says what to send next, when nothing of the parent works; no slices means: no more."""

    def plan(self, parent: "Parent") -> Plan:
        """Plan the next children."""
        ...


class User:
    """One client login: its parents, and its session while there is one."""

    __slots__ = ("name", "out", "parents")

    def __init__(self, name: str) -> None:
        self.name = name
        self.parents: dict[bytes, Parent] = {}
        self.out: bytearray | None = None


class Parent:
    """What a client asked for."""

    __slots__ = (
        "batches", "body", "book", "children", "clordid", "cum", "cxl", "display", "flags",
        "immediate", "number", "open_children", "price", "qty", "reason", "side", "strategy",
        "sweep", "unsent", "user", "working",
    )  # fmt: skip

    def __init__(
        self, user: User, number: int, body: bytes, book: "Book", strategy: Strategy
    ) -> None:
        self.side: bytes
        self.qty: int
        self.price: int
        _, self.clordid, self.side, self.qty, _, self.price, tif, self.flags = (
            wire.UNPACK_NEW_ORDER(body)
        )
        self.immediate = tif == wire.IMMEDIATE
        self.user = user
        self.number = number
        self.body = body
        self.book = book
        self.strategy = strategy
        self.display = b"Y"
        self.sweep = b"N"
        self.cum = self.cxl = self.working = 0
        self.unsent = self.qty
        self.children = self.open_children = 0
        self.reason = 0
        self.batches: list[tuple[bytes, int, int]] = []  # strategy letter, first sequence, count

    @property
    def leaves(self) -> int:
        """Shares that may still trade."""
        return self.working + self.unsent

    def status(self) -> bytes:
        """Give FIX's OrdStatus."""
        if self.leaves:
            return wire.PARTLY if self.cum else wire.NEW
        return wire.CANCELED if self.cxl else wire.FILLED


class Child:
    """What a market was asked for."""

    __slots__ = ("accepted", "leaves", "match", "parent", "venue")

    def __init__(self, parent: Parent, leaves: int, venue: Destination) -> None:
        self.parent = parent
        self.leaves = leaves
        self.venue = venue
        self.accepted = False
        self.match = -1  # match number of its last execution
