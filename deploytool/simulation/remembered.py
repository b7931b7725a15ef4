"""Simulated hosts that are not asked twice what hosts with the same past have answered.

A matrix plays the same beginning again and again, on hosts that nothing has struck yet. What a
simulated host does hangs on nothing but what it was made from, what it was asked, what befell it,
and the clock. So each distinct past is carried out once, by the real verbs; another host with that
past gives what came of it, and is itself brought up to date when someone looks for something new,
or may change it: from then on it is on its own. What comes of a past a second time is compared.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Self

from deploytool.agent.requests import Answer, Request
from deploytool.errors import HostFault
from deploytool.fleet.host import Payload
from deploytool.release.model import Manifest
from deploytool.simulation.faults import CallPoint, Fault
from deploytool.simulation.fleet import Rendered, running
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.machine import P, T
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.oracle import SimulatedTruth

PASTS_AT_MOST = 50_000
"""So many pasts are remembered: of a matrix that takes hours, its beginning."""


@dataclass(eq=False, slots=True)
class Past:
    """All that happened to a host so far. Hosts with the same one are alike."""

    then: dict[Hashable, Came] = field(default_factory=dict)
    """What came of what happened next."""
    views: dict[Hashable, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Came:
    """What came of one request, or of something else that happened."""

    answer: Answer | None
    fault: HostFault | None
    moments: tuple[CallPoint, ...]
    struck: tuple[CallPoint, ...]
    seen: tuple[SimulatedTruth, ...]
    past: Past


@dataclass(frozen=True, slots=True)
class _Owed:
    """What this host itself has not been through yet."""

    act: Callable[[], object]
    strikes: Mapping[CallPoint, Fault]
    now: float


class RememberedFleets:
    """Fleets that all begin on one release, and remember for each other."""

    def __init__(self, rendered: Rendered, before: tuple[Manifest, bytes]) -> None:
        self.rendered, self._before = rendered, before
        self._first = {name: Past() for name in rendered.inventory.names}
        self._count = 0

    def fleet(self) -> dict[str, SimulatedHost]:
        """Another fleet."""
        return {name: RememberedHost(name, self) for name in self._first}

    def first(self, name: str) -> Past:
        """Where every host of this name begins."""
        return self._first[name]

    def make(self, name: str) -> MemoryHost:
        """A host of this name at its beginning."""
        return running(name, self.rendered, *self._before).prepared

    def has_room(self) -> bool:
        """Whether one more past can be remembered; counts it."""
        self._count += 1
        return self._count <= PASTS_AT_MOST


class RememberedHost(SimulatedHost):
    """One of them. It is made, and goes through what it owes, when that is needed."""

    def __init__(self, name: str, fleets: RememberedFleets) -> None:
        super().__init__(name)
        self._fleets = fleets
        self._past: Past | None = fleets.first(name)
        """None: it is on its own."""
        self._owes: list[_Owed] = []
        self._at = (0, 0, 0)
        """How long its lists were before the first of these."""
        self._inside = False
        """Whether what goes on now is a part of what happens to it, or of a look."""

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        """See ``SimulatedHost``."""
        del insist
        if self.tampered:
            self._touched()
        sent = b"".join(payload.open()) if payload else b""
        answer = self._happens(
            (request, sent, deadline_s), lambda: self._call(request, sent, deadline_s)
        )
        assert isinstance(answer, Answer)  # noqa: S101 it is what _call gives
        return answer

    def look(self, view: Callable[Concatenate[Self, P], T], *args: P.args, **named: P.kwargs) -> T:
        """See ``SimulatedMachine``."""
        past = self._past
        if past is None or self._inside:
            return view(self, *args, **named)
        what = (view, args, tuple(named.items()))
        if what not in past.views:
            self._catch_up()
            with self._busy():
                past.views[what] = view(self, *args, **named)
        found: T = past.views[what]
        return found

    def befall(
        self, event: Callable[Concatenate[Self, P], None], *args: P.args, **named: P.kwargs
    ) -> None:
        """See ``SimulatedMachine``."""
        self._happens((event, args, tuple(named.items())), lambda: event(self, *args, **named))

    # --------------------------------------------------------------------------------------------

    def _happens(self, what: Hashable, act: Callable[[], Answer | None]) -> Answer | None:
        past, now = self._past, time.time()
        if past is None or self._inside:
            return act()
        struck = (what, now, frozenset(self.strikes.items()))
        came = past.then.get((what, now))
        if came is None or not self.strikes.keys().isdisjoint(came.moments):
            came = past.then.get(struck)
        if came is not None:
            if not self._owes:
                self._at = len(self.moments), len(self.struck), len(self.seen)
            self._owes.append(_Owed(act, self.strikes, now))
            self.moments += came.moments
            self.struck += came.struck
            self.seen += came.seen
        else:
            self._catch_up()
            if not self._fleets.has_room():
                self._past = None
                return act()
            came = self._live(act)
            past.then[struck if came.struck else (what, now)] = came
        self._past = came.past
        if came.fault is not None:
            raise came.fault.with_traceback(None)
        return came.answer

    def _live(self, act: Callable[[], Answer | None]) -> Came:
        at = len(self.moments), len(self.struck), len(self.seen)
        answer, fault, strikes = None, None, self.strikes
        with self._busy():
            try:
                answer = act()
            except HostFault as error:
                fault = error
        if self.strikes != strikes:
            raise RuntimeError("what strikes it was changed by what happened to it")
        return Came(
            answer,
            fault,
            tuple(self.moments[at[0] :]),
            tuple(self.struck[at[1] :]),
            tuple(self.seen[at[2] :]),
            Past(),
        )

    def _touched(self) -> MemoryHost:
        """It, for someone who may change it: from now on it is on its own."""
        if not self._inside:
            self._catch_up()
            self._past = None
        return self._prepared

    def _catch_up(self) -> None:
        """Makes it what its past says, and compares what it goes through with what was remembered.

        Raises:
            RuntimeError: it went otherwise (a bug: what it does hangs on something else too).
        """
        if not hasattr(self, "_prepared"):
            self._adopt(self._fleets.make(self.name))
        owes, self._owes = self._owes, []
        if not owes:
            return
        meant, strikes = (self.moments, self.struck, self.seen), self.strikes
        moments, struck, seen = self._at
        self.moments, self.struck = self.moments[:moments], self.struck[:struck]
        self.seen = self.seen[:seen]
        with self._busy():
            for owed in owes:
                if time.time() != owed.now:
                    raise RuntimeError("the clock has moved")
                self.strikes = owed.strikes
                with contextlib.suppress(HostFault):
                    owed.act()
        if (self.moments, self.struck, self.seen) != meant:
            raise RuntimeError(f"{self.name} went through something else than was remembered")
        self.strikes = strikes

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
