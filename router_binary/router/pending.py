"""An answer that isn't known yet, because something beside the loop has to end first."""

from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]


class Pending:
    """Who works on it calls `finish` once; who waits for it says what to do then, or gives up.

    What is to be done at the end is done only while somebody waits: an order whose sender is gone
    has no effect that nobody would hear of.
    """

    __slots__ = ("_given_up", "_then")

    def __init__(self) -> None:
        self._then: Callable[[Callable[[], Made]], None] | None = None
        self._given_up = False

    def when_made(self, then: Callable[[Callable[[], "Made"]], None]) -> None:
        """Say who takes the end; before anything could have ended."""
        self._then = then

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._given_up = True

    def finish(self, make: Callable[[], "Made"]) -> None:
        """Have the answer made: `make` gives it, or another one that isn't known yet, or raises."""
        if self._then is not None and not self._given_up:
            self._then(make)


Made = Answer | Pending
