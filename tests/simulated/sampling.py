"""How many cases are played, and which: a sample from a printed seed, or all of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
ALL = 1 << 62


def count(word: str) -> int:
    """A number of cases, or ``all`` of them.

    Raises:
        ValueError: it is neither.
    """
    number = ALL if word == "all" else int(word)
    if number < 1:
        raise ValueError("at least one case has to be played")
    return number


@dataclass(frozen=True)
class Sampling:
    """What the command line says: how many of each fault, of pairs, and of crashes; the seed."""

    singles: int
    pairs: int
    crashes: int
    seed: int

    def draw(self, cases: Sequence[T], number: int, chance: random.Random) -> Sequence[T]:
        """So many of them, or all where there are no more; never none."""
        assert cases, "an empty product proves nothing"
        return cases if number >= len(cases) else chance.sample(cases, number)
