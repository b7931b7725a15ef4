"""What has been counted since the process started."""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

TURNS: Final = 64


@dataclass(slots=True)
class Counters:
    """Shown by `status` and `metrics`."""

    parents: int = 0
    open_parents: int = 0
    executions: int = 0
    executed_qty: int = 0
    rejects: int = 0
    flag_rejects: int = 0
    duplicates: int = 0
    market_rejects: int = 0
    cancels: int = 0
    repeated: int = 0
    bad_input: int = 0
    dropped_reports: int = 0


class Sent:
    """When children left for the market, so that a market can be compared with it.

    Turns of the loop are noted, not children: what leaves together is one arrival. A child that a
    stop took back before it left is not counted.
    """

    __slots__ = ("_back", "_first", "_last", "_turns")

    def __init__(self, sequence: int) -> None:
        self._first = self._last = sequence  # number of the last child before this process
        self._turns: deque[tuple[int, int, float]] = deque(maxlen=TURNS)
        self._back: set[int] = set()

    def note(self, sequence: int, now_s: float) -> None:
        """Note that the children up to this number leave now (``time.monotonic``)."""
        if sequence != self._last:
            self._turns.append((self._last, sequence, now_s))
            self._last = sequence

    def take_back(self, tokens: list[bytes]) -> None:
        """Count these no more: they never left."""
        self._back.update(int(token[-11:]) for token in tokens)

    def shown(self, now_s: float, started_s: float) -> dict[str, Any] | None:
        """Give the count and the ages in seconds; None where the last that left is not known."""
        children = self._last - self._first - len(self._back)
        left = [
            at for first, last, at in self._turns
            if any(number not in self._back for number in range(last, first, -1))
        ]  # fmt: skip
        if children and not left:
            return None
        return {
            "children": children,
            "counted_s": round(now_s - started_s, 6),
            "last_ago_s": round(now_s - left[-1], 6) if left else None,
            "gap_s": round((left[-1] - left[0]) / (len(left) - 1), 6) if len(left) > 1 else None,
        }
