"""Finds and ends the processes of a throwaway fleet, and none but those.

A process is known by its number *and* its start time; both are checked on a handle that the
kernel binds to that one process, so that a number that was given out again is never hit.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem

_POLL_S = 0.05

MARK = "DEPLOYTOOL_FLEET"
"""The environment variable that names the fleet that a process works for."""


@dataclass(frozen=True)
class LocalProcess:
    """A process as ``/proc`` shows it. ``argv`` may have been rewritten by itself."""

    pid: int
    start_ticks: int
    parent: int
    name: str
    argv: tuple[str, ...]


Selector = Callable[[LocalProcess], bool]


def look(pid: int) -> LocalProcess | None:
    """The process of that number; nothing when there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    # The name stands in brackets and may itself hold blanks and brackets.
    name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
    if rest[0] in {"Z", "X"}:
        return None
    argv = tuple(part.decode(errors="replace") for part in line.rstrip(b"\0").split(b"\0"))
    return LocalProcess(pid, int(rest[19]), int(rest[1]), name, argv)


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether this very process is still there."""
    process = look(pid)
    return process is not None and process.start_ticks == start_ticks


def everyone() -> dict[int, LocalProcess]:
    """All processes that can be seen, by number."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid: process for pid in numbers if (process := look(pid))}


def _paths(pid: int) -> Iterator[str]:
    """Executable, working folder and open files, as far as they may be seen."""
    here = Path(f"/proc/{pid}")
    for link in (here / "exe", here / "cwd"):
        with suppress(OSError):
            yield str(link.readlink())
    with suppress(OSError):
        for link in (here / "fd").iterdir():
            with suppress(OSError):
                yield str(link.readlink())


def touching(folder: Path) -> Selector:
    """Selects what runs from, sits in, holds open or was called with something in ``folder``."""
    inside = f"{folder}/"

    def selects(process: LocalProcess) -> bool:
        return any(inside in part for part in process.argv) or any(
            path == str(folder) or path.startswith(inside) for path in _paths(process.pid)
        )

    return selects


def has_environment(process: LocalProcess, entry: str) -> bool:
    """Whether the process was started with this ``NAME=value`` in its environment."""
    try:
        return entry.encode() in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _ourselves(processes: dict[int, LocalProcess]) -> set[int]:
    """This process and those that it descends from: the shell that was told to do this."""
    ours, pid = set[int](), os.getpid()
    while pid in processes and pid not in ours:
        ours.add(pid)
        pid = processes[pid].parent
    return ours


def _selected(select: Selector) -> list[LocalProcess]:
    """What ``select`` names, and everything that descends from it, but never ourselves."""
    processes = everyone()
    chosen = {pid for pid, process in processes.items() if select(process)}
    chosen -= _ourselves(processes)
    grown = True
    while grown:
        children = {pid for pid, p in processes.items() if p.parent in chosen} - chosen
        grown = bool(children)
        chosen |= children
    return [processes[pid] for pid in sorted(chosen)]


def send(process: LocalProcess, number: signal.Signals) -> None:
    """Sends a signal to this very process, if it is still there."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if is_alive(process.pid, process.start_ticks):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def end_all(select: Selector, grace_s: float, deadline_s: float, patience_s: float = 0.0) -> int:
    """Ends all that ``select`` names, newcomers too, and gives how many there were.

    They are left to end by themselves for ``patience_s``, then asked (SIGTERM), and ``grace_s``
    after that made to (SIGKILL).

    Raises:
        EnvironmentProblem: some are still there after ``deadline_s``.
    """
    began = time.monotonic()
    seen: set[tuple[int, int]] = set()
    asked: set[tuple[int, int]] = set()
    while left := _selected(select):
        waited = time.monotonic() - began
        if waited > deadline_s:
            raise EnvironmentProblem(
                f"{len(left)} processes of the fleet did not end within {deadline_s:g} s.",
                "What is left of the fleet is still running.",
                f"Look at them: ps -fp {','.join(str(process.pid) for process in left)}",
            )
        seen |= {(process.pid, process.start_ticks) for process in left}
        for process in left:
            known = (process.pid, process.start_ticks) in asked
            if waited < patience_s:
                continue
            if waited >= patience_s + grace_s:
                send(process, signal.SIGKILL)
            elif not known:
                asked.add((process.pid, process.start_ticks))
                send(process, signal.SIGTERM)
                send(process, signal.SIGCONT)  # a stopped process does not hear anything else
        time.sleep(_POLL_S)
    return len(seen)
