"""How a parent is cut: by size, the open venues taking turns."""

from typing import TYPE_CHECKING, Protocol

from router import ouch
from router.orders import Plan

if TYPE_CHECKING:
    from router.orders import Destination, Parent


class Market(Protocol):
    """What a strategy may know of the engine."""

    slice_qty: int
    max_slices: int
    open_venues: "list[Destination]"


def cut(qty: int, slice_qty: int, max_slices: int) -> list[int]:
    """Cut into at most `max_slices` nearly equal pieces of at most `slice_qty` where that fits."""
    count = min(-(-qty // slice_qty), max_slices)
    size, rest = divmod(qty, count)
    return [size + 1] * rest + [size] * (count - rest)


class Slicing:
    """The ordinary way."""

    __slots__ = ("_market", "_turn")

    def __init__(self, market: Market) -> None:
        self._market = market
        self._turn = 0

    def plan(self, parent: "Parent") -> Plan:
        """Send all of it once; what the market gives back is not sent again."""
        return self.spread(parent) if parent.children == 0 else Plan(b"S", [], [], 0)

    def spread(self, parent: "Parent") -> Plan:
        """Cut what is unsent over the venues, going on where the last parent stopped."""
        market = self._market
        venues = market.open_venues
        if not venues:
            return Plan(b"S", [], [], 0)
        many = len(venues)
        turn = self._turn % many  # a venue may have gone since
        sizes = cut(parent.unsent, market.slice_qty, market.max_slices)
        count = len(sizes)
        ring = (venues * (count // many + 2))[turn : turn + count]
        self._turn = (turn + count) % many
        tif = ouch.IMMEDIATE if parent.immediate else ouch.MARKET_HOURS
        return Plan(b"S", ring, sizes, tif)
