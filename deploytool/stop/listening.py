"""Waits on descriptors that others may close, and open again, while they are watched.

A line to a host ends by itself, and its number is the next one's. A selector that still has the
number refuses the new one (selectors(3), ``register``); here the new one takes its place, and
letting go of the old one afterwards lets go of nothing.
"""

from __future__ import annotations

import selectors
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Listening:
    """Descriptors to be read from, each with its owner."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, descriptor: int, owner: object) -> None:
        """Waits on a descriptor from now on, for this owner and for no earlier one.

        Raises:
            OSError, ValueError: it is closed.
        """
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)
        self._selector.register(descriptor, selectors.EVENT_READ, owner)

    def drop(self, descriptor: int, owner: object) -> None:
        """Waits on it no longer, unless it has become another's."""
        key = self._selector.get_map().get(descriptor)
        if key is not None and key.data is owner:
            with suppress(KeyError, ValueError, OSError):
                self._selector.unregister(descriptor)

    def wait(self, patience_s: float) -> Iterator[object]:
        """Whose descriptors can be read from, after at most so many seconds."""
        for key, _ in self._selector.select(max(0.0, patience_s)):
            yield key.data

    def close(self) -> None:
        """Waits on nothing any more."""
        self._selector.close()
