"""The time of a simulation: it passes only where something waits, or is told to."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True, slots=True)
class Alarm:
    """Something that happens at one moment, unless it is taken back."""

    at: float
    number: int
    ring: Callable[[], object] = field(compare=False)
    cleared: bool = field(default=False, compare=False)


class Time:
    """Seconds since the simulation began, and what is still to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._alarms: list[Alarm] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, ring: Callable[[], object]) -> Alarm:
        """Has something happen in so many seconds."""
        alarm = Alarm(self.now + seconds, next(self._numbers), ring)
        heapq.heappush(self._alarms, alarm)
        return alarm

    def next(self) -> float | None:
        """When the next alarm rings; None where none will."""
        while self._alarms and self._alarms[0].cleared:
            heapq.heappop(self._alarms)
        return self._alarms[0].at if self._alarms else None

    def tick(self, seconds: float) -> None:
        """Lets a little time pass; for each step of a program."""
        if self._alarms and self._alarms[0].at <= self.now + seconds:
            self.pass_to(self.now + seconds)
        else:
            self.now += seconds

    def pass_to(self, moment: float) -> None:
        """Lets time pass, and everything happen that is due by then."""
        while (due := self.next()) is not None and due <= moment:
            alarm = heapq.heappop(self._alarms)
            self.now = max(self.now, alarm.at)
            alarm.ring()
        self.now = max(self.now, moment)
