"""One call of the port fails, as the kernel or systemd would: the step is refused, or done anyway.

No exception leaves the agent, and once the fault is over the host can be undone and finished.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.memory.run import Run

from .crashes import files_of, finish, kept, undo, way_back
from .deploying import STEPS, Deployer, No, prepared

NEVER = (
    "now",
    "uptime",
    "age",
    "sleep",
    "account",
    "has_program",
    "exists",
    "masked",
    "listening",
)
"""Calls that have no way to fail."""
GROWS = ("create", "write", "make_", "rename")
"""Calls that a full disk fails too."""


@dataclass(frozen=True)
class Fails:
    """The call at one point of a step fails with ``code``."""

    step: str
    point: int
    code: int

    def __call__(self, deployer: Deployer) -> str:
        """Plays it; gives how the step ended."""
        left = self.point

        def hook(_run: Run, what: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(self.code, os.strerror(self.code), what)

        deployer.hook = hook
        try:
            deployer.step(self.step)
        except No as no:
            return str(no)
        finally:
            deployer.hook = None
        return "done"


def calls_of(step: str, supervisor: str) -> list[tuple[int, str]]:
    """The calls of a step that can fail, at their points."""
    found: list[str] = []
    deployer = _before(step, supervisor)
    deployer.hook = lambda _run, what: found.append(what)
    deployer.step(step)
    numbered = enumerate(found, 1)
    # A comma stands where a call is in its middle: there a fault would be another call's.
    return [(at, what) for at, what in numbered if "," not in what and not what.startswith(NEVER)]


def _before(step: str, supervisor: str) -> Deployer:
    deployer = Deployer(prepared(supervisor), "first")
    for name in STEPS[: STEPS.index(step)]:
        deployer.step(name)
    return deployer


def fault_violations(step: str, supervisor: str = "systemd") -> Iterator[str]:
    """What is wrong after any call of a step failed."""
    for point, what in calls_of(step, supervisor):
        for code in (errno.EIO, errno.ENOSPC) if what.startswith(GROWS) else (errno.EIO,):
            fails = Fails(step, point, code)
            told = f"{supervisor}, {step}, {errno.errorcode[code]} at {what!r}"
            yield from (f"{told}: {text}" for text in _after(fails, supervisor))


def _after(fails: Fails, supervisor: str) -> Iterator[str]:
    first = _before(fails.step, supervisor)
    ended = fails(first)
    yield from (f"{ended}: {text}" for text in _left(first.host, first, fails.step))
    if ended == "done":
        # What was answered is on the disk, whatever failed.
        first.host.reboot(Fate(keeps=0.0))
        yield from (
            f"done, and power lost: {text}" for text in _left(first.host, first, fails.step)
        )
    for name, ends in (("undone", undo), ("finished", finish)):
        first = _before(fails.step, supervisor)
        fails(first)
        try:
            yield from (f"{ended}, and {name}: {text}" for text in ends(first.host, first))
        except No as no:
            yield f"{ended}, and it can't be {name}: {no}"


def _left(host: MemoryHost, first: Deployer, step: str) -> Iterator[str]:
    yield from files_of(host)
    yield from way_back(host, first.plan)
    yield from kept(host, first.done, step)
