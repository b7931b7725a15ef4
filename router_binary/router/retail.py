"""Retail liquidity: first offered where retail orders are wanted, then sliced like the rest."""

from typing import TYPE_CHECKING

from router import ouch
from router.orders import Plan
from router.slicing import Market, Slicing, cut

if TYPE_CHECKING:
    from router.orders import Parent


class RetailLiquidity:
    """One round over the retail venues, immediate or cancel; what is left goes the usual way."""

    __slots__ = ("_market", "_usual")
    letter = b"R"

    def __init__(self, market: Market) -> None:
        self._market = market
        self._usual = Slicing(market)

    def plan(self, parent: "Parent") -> Plan:
        """Plan the retail round, then the usual one, then nothing."""
        market = self._market
        venues = [venue for venue in market.open_venues if venue.retail]
        if parent.children == 0 and venues:
            pieces = min(len(venues), market.max_slices, parent.unsent)
            sizes = cut(parent.unsent, -(-parent.unsent // pieces), pieces)
            return Plan(self.letter, venues[: len(sizes)], sizes, ouch.IMMEDIATE, b"R")
        if any(letter == b"S" for letter, _, _ in parent.batches):
            return Plan(b"S", [], [], 0)
        return self._usual.spread(parent)
