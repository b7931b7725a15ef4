"""Several runs at once, one step at a time, in an order that a seed or a test decides.

Each has a thread of its own, of which one alone goes on at any time: it hands over at a point. So
the same choices give the same interleaving, and nothing depends on how fast a machine is.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deploytool.simulation.memory.run import Hook, Run, RunEnded, Wait
from deploytool.simulation.memory.time import Time

HANGS_S = 60.0
"""Real seconds after which a simulation counts as hanging: a bug of the simulation."""

Job = Callable[[Hook, Wait], object]
Choose = Callable[[Sequence[str], str], str]
"""Gives who goes on, of those that can, and who did last."""


class Deadlock(Exception):
    """Everyone waits, and nothing is still to happen."""


def at_random(seed: int, switches: float = 0.3) -> Choose:
    """Switches to another with this probability at each point."""
    drawn = random.Random(seed)  # noqa: S311 it draws interleavings

    def choose(ready: Sequence[str], last: str) -> str:
        if last in ready and drawn.random() >= switches:
            return last
        return drawn.choice(ready)

    return choose


def preempted(first: str, after: int) -> Choose:
    """``first`` goes on for so many points; then the others to their ends, where they can."""
    left = after + 1  # the first choice lets it begin, and leads to no point yet

    def choose(ready: Sequence[str], last: str) -> str:  # noqa: ARG001 it decides by the count
        nonlocal left
        others = [name for name in ready if name != first]
        if first in ready and (left > 0 or not others):
            left -= 1
            return first
        return others[0]

    return choose


@dataclass(eq=False)
class _Party:
    name: str
    job: Job
    baton: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    run: Run | None = None
    holds: Callable[[], bool] | None = None
    until: float = 0.0
    over: bool = False
    outcome: object = None

    def can_go_on(self, now: float) -> bool:
        if self.holds is None or now >= self.until or (self.run is not None and self.run.ended):
            return True
        return self.holds()


class Schedule:
    """Runs jobs over computers that share one time. ``hook`` is told of each point first."""

    def __init__(self, time: Time, choose: Choose, hook: Hook | None = None) -> None:
        self._time, self._choose, self._hook = time, choose, hook
        self._parties: list[_Party] = []
        self._last = ""
        self._over = threading.Semaphore(0)
        self._bug: BaseException | None = None
        self.trace: list[tuple[str, str]] = []
        """Who came to which point, in the order in which they went on."""

    def run(self, jobs: dict[str, Job]) -> dict[str, object]:
        """What each job gave; an ``Ended`` where it was cut short.

        Raises:
            Deadlock: all wait for each other.
            Exception: what a job raised.
        """
        self._parties = [_Party(name, job) for name, job in jobs.items()]
        threads = [
            threading.Thread(target=self._live, args=(party,), daemon=True)
            for party in self._parties
        ]
        for thread in threads:
            thread.start()
        self._hand_over()
        if not self._over.acquire(timeout=HANGS_S):
            raise TimeoutError("the simulation hangs")
        if self._bug is not None:
            raise self._bug
        return {party.name: party.outcome for party in self._parties}

    def _live(self, party: _Party) -> None:
        party.baton.acquire()
        try:
            party.outcome = party.job(self._hook_of(party), self._wait_of(party))
        except RunEnded as end:
            party.outcome = end
        except BaseException as error:  # noqa: BLE001 it is raised where the schedule was begun
            self._bug = self._bug or error
        party.over = True
        self._hand_over()

    def _hook_of(self, party: _Party) -> Hook:
        def hook(run: Run, what: str) -> None:
            party.run = run
            self._switch(party)
            self.trace.append((party.name, what))
            if self._hook is not None and not run.ended:
                self._hook(run, what)

        return hook

    def _wait_of(self, party: _Party) -> Wait:
        def wait(run: Run, holds: Callable[[], bool], seconds: float) -> bool:
            party.run, party.holds, party.until = run, holds, self._time.now + seconds
            self._switch(party)
            party.holds = None
            return holds()

        return wait

    def _switch(self, party: _Party) -> None:
        if self._bug is None and self._next() is not party:
            self._hand_over_to(self._chosen)
            party.baton.acquire()

    def _hand_over(self) -> None:
        if self._bug is None and not all(party.over for party in self._parties):
            try:
                self._hand_over_to(self._next())
            except Deadlock as error:
                self._bug = error
            else:
                return
        self._over.release()

    def _hand_over_to(self, party: _Party) -> None:
        party.baton.release()

    def _next(self) -> _Party:
        """Who goes on now; where all wait, time passes until one can."""
        living = [party for party in self._parties if not party.over]
        while not (ready := [p for p in living if p.can_go_on(self._time.now)]):
            moment = min(party.until for party in living)
            if (due := self._time.next()) is not None:
                moment = min(moment, due)
            if math.isinf(moment):
                raise Deadlock(", ".join(party.name for party in living))
            self._time.pass_to(moment)
        names = [party.name for party in ready]
        self._last = names[0] if len(names) == 1 else self._choose(names, self._last)
        self._chosen = next(party for party in ready if party.name == self._last)
        return self._chosen
