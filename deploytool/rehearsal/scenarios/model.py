"""A scenario, and what it showed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from deploytool.rehearsal.fleets.model import Kind
from deploytool.rehearsal.stage import Stage


@dataclass
class Showing:
    """What a scenario showed, point by point; ``told`` hears of each as it shows."""

    told: Callable[[bool, str], None] = lambda _held, _text: None
    points: list[tuple[bool, str]] = field(default_factory=list)

    def point(self, held: bool, text: str) -> None:  # noqa: FBT001 reads as: the point held
        """Writes down one point, and whether it held."""
        self.points.append((held, text))
        self.told(held, text)

    @property
    def passed(self) -> bool:
        """Whether there was something to show, and all of it held."""
        return bool(self.points) and all(held for held, _ in self.points)


@dataclass(frozen=True)
class Scenario:
    """A name, a sentence, what happens, and the kinds of fleet that it can happen on.

    ``factor_at_most``: how many times slower than usual hosts may be for it, where deadlines are
    part of what it shows and nothing stretches them.
    """

    name: str
    sentence: str
    play: Callable[[Stage, Showing], None]
    kinds: tuple[Kind, ...] = ("local", "container", "vagrant")
    factor_at_most: float = inf
