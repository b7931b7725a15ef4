"""A simulated host as somebody finds it who stands before it: what it is made of, and its marks."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Self, TypeVar

from deploytool.agent.requests import Answer, Request
from deploytool.simulation.memory.computer import EPOCH, Computer
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.memory.service import MemoryService

P = ParamSpec("P")
T = TypeVar("T")


class SimulatedMachine:
    """A prepared host in memory, whose clock is the operator's but for ``skew_s``."""

    def __init__(self, name: str, prepared: MemoryHost | None = None) -> None:
        self._name = name
        self._reboots = 0
        self._skew_s = 0.0
        self.deferred: list[Callable[[], object]] = []
        """What has to wait until the change under way has ended."""
        if prepared is not None:
            self._adopt(prepared)

    def _adopt(self, prepared: MemoryHost) -> None:
        self._prepared = prepared
        computer = prepared.computer
        # Two changes are never in the same nanosecond.
        computer.disk.clock = lambda: int((EPOCH + computer.time.now) * 1e9)
        self.set_clock()

    @property
    def name(self) -> str:
        """Its name in the inventory."""
        return self._name

    @property
    def prepared(self) -> MemoryHost:
        """All of it."""
        return self._touched()

    @property
    def computer(self) -> Computer:
        """What it is made of."""
        return self._touched().computer

    @property
    def service(self) -> MemoryService:
        """Its service."""
        return self._touched().service

    @property
    def skew_s(self) -> float:
        """How far its clock is ahead of the operator's."""
        return self._skew_s

    @skew_s.setter
    def skew_s(self, skew_s: float) -> None:
        self._touched()
        self._skew_s = skew_s

    def look(self, view: Callable[Concatenate[Self, P], T], *args: P.args, **named: P.kwargs) -> T:
        """What a view of it shows, which changes nothing."""
        return view(self, *args, **named)

    def befall(
        self, event: Callable[Concatenate[Self, P], None], *args: P.args, **named: P.kwargs
    ) -> None:
        """Something happens to it, which hangs on nothing but these arguments and what it is."""
        event(self, *args, **named)

    def _touched(self) -> MemoryHost:
        """It, for a caller that may change it."""
        return self._prepared

    @property
    def root(self) -> str:
        """The release root."""
        return self.service.root

    def pass_time(self, seconds: float) -> None:
        """Lets time pass on it; what was due by then is done."""
        self._touched().pass_time(seconds)
        self.set_clock()

    # --- its marks, as somebody with hands finds and writes them ---------------------------------

    def mark(self, name: str) -> str | None:
        """A file in STATE, as text."""
        return self.look(_mark, name)

    def pairs(self, name: str) -> dict[str, str]:
        """A mark's lines; none without it."""
        lines = (self.mark(name) or "").splitlines()
        return {key: value for key, _, value in (line.partition(" ") for line in lines)}

    def put_mark(self, name: str, text: str) -> None:
        """Writes one, synced."""
        node = self.computer.put(f"{self.root}/state/{name}", text.encode())
        self.computer.disk.sync(node)
        self.computer.disk.sync(self.computer.make_folders(f"{self.root}/state"))

    def remove_mark(self, *names: str) -> None:
        """Takes some away, where they are there; synced."""
        for name in names:
            self.computer.remove(f"{self.root}/state/{name}")
        self.computer.disk.sync(self.computer.make_folders(f"{self.root}/state"))

    def halts_itself(self) -> None:
        """Its artifact halts, as of its own accord; what is started there comes up halted."""
        self.service.halt(self.service.speaker())

    def trades_again(self) -> None:
        """Its artifact lets its own latch go, as where somebody signed for it."""
        self.remove_mark("service/halted")
        if (mind := self.service.speaker()) is not None:
            mind.halted = False

    def ask(self, request: Request, payload: bytes = b"") -> Answer:
        """What its agent answers to somebody else; nothing strikes it, and nobody counts it."""
        prepared = self._touched()
        self.set_clock()
        return prepared.ask(request, payload, hook=lambda _run, _what: self.set_clock())

    def reboot(self) -> None:
        """Power is lost and comes back."""
        prepared = self._touched()
        self._reboots += 1
        prepared.reboot(Fate(zlib.crc32(f"{self._name} {self._reboots}".encode())))
        self.set_clock()

    def set_clock(self) -> None:
        """Its clock shows what the operator's does, but for ``skew_s``."""
        computer = self._prepared.computer
        computer.skew_s = self._skew_s + time.time() - EPOCH - computer.time.now


def _mark(host: SimulatedMachine, name: str) -> str | None:
    return host._prepared.mark(name)
