"""What a load of parent orders is made of. Pure, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from deploytool.market.wire import NewOrderSingle

MAX_PARENTS: Final = 500_000
MAX_DURATION_S: Final = 3600.0
_TIMES_IN_FORCE: Final = {"day": b"0", "ioc": b"3"}


@dataclass(frozen=True, slots=True)
class Load:
    """So many parents, all at once or at a rate.

    ``limits`` has for each symbol the highest price to buy at and the lowest to sell at. ``flags``
    are the bits that each parent must carry: it waits until they are all in use.
    """

    parents: int
    limits: dict[str, tuple[int, int]]
    rate: float | None = None
    qty: tuple[int, int] = (1, 300)
    sides: str = "BS"
    time_in_force: str = "day"
    seed: int = 0
    flags: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.parents <= MAX_PARENTS:
            raise ValueError(f"{self.parents} parents; 1 to {MAX_PARENTS} are possible")
        if self.rate is not None and not self.parents / MAX_DURATION_S <= self.rate:
            raise ValueError(f"a rate of {self.rate}/s takes longer than {MAX_DURATION_S:.0f} s")
        if not self.limits:
            raise ValueError("a load needs symbols with their limits")
        if not 1 <= self.qty[0] <= self.qty[1] <= 999_999:
            raise ValueError(f"quantities {self.qty}; from 1 up to 999999 are possible")
        if not 0 <= self.flags < 1 << 16:
            raise ValueError(f"flags {self.flags}; a word of 16 bits is possible")
        if not self.sides or set(self.sides) - set("BSTE"):
            raise ValueError(f"sides {self.sides!r}; B, S, T and E are possible")
        if self.time_in_force not in _TIMES_IN_FORCE:
            raise ValueError(f"time in force {self.time_in_force!r}; day and ioc are possible")

    def orders(self, prefix: str, first: int) -> Iterator[NewOrderSingle]:
        """Yield the parents, with ClOrdIDs made of the prefix and a number."""
        chance = Random(self.seed)  # noqa: S311 - variety, not secrets; a seed repeats a rehearsal
        symbols = sorted(self.limits)
        for number in range(first, first + self.parents):
            symbol, side = chance.choice(symbols), chance.choice(self.sides)
            yield NewOrderSingle(
                f"{prefix}{number:07d}",
                side.encode(),
                chance.randint(*self.qty),
                symbol,
                self.limits[symbol][0 if side == "B" else 1],
                _TIMES_IN_FORCE[self.time_in_force],
                self.flags,
            )
