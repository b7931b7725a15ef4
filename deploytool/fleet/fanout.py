"""Work on many hosts at once: the one place that owns threads, deadlines and bounds.

A ``ThreadPoolExecutor`` waits at exit for a thread that hangs; these threads are daemons, and a
host that doesn't finish by the deadline is reported and left behind.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from deploytool.errors import FaultKind, HostFault

T = TypeVar("T")
WIDTH = 64
"""Hosts that are worked on at the same time."""


def fanout(
    jobs: Mapping[str, Callable[[], T]],
    *,
    deadline_s: float,
    done: Callable[[str, T | HostFault], None] = lambda _name, _outcome: None,
) -> dict[str, T | HostFault]:
    """Runs every job; each name gets its result or its fault, and none is left out.

    ``done`` is called in this thread as each host finishes. A host that isn't finished after
    ``deadline_s`` seconds (of its own time, once it was begun) gets a fault that is in doubt.

    Raises:
        Exception: what a job raised that is not a HostFault (a bug), after all have finished.
    """
    outcomes: dict[str, T | HostFault] = {}
    bugs: list[BaseException] = []
    waiting = list(jobs)
    running: dict[str, float] = {}
    answers: queue.Queue[tuple[str, T | HostFault | BaseException]] = queue.Queue()

    def work(name: str) -> None:
        try:
            answers.put((name, jobs[name]()))
        except BaseException as error:  # noqa: BLE001 it is carried to the caller's thread, whole
            answers.put((name, error))

    while len(outcomes) < len(jobs):
        while waiting and len(running) < WIDTH:
            name = waiting.pop(0)
            running[name] = time.monotonic() + deadline_s
            threading.Thread(target=work, args=(name,), name=f"host-{name}", daemon=True).start()
        try:
            patience = max(0.0, min(running.values()) - time.monotonic())
            name, outcome = answers.get(timeout=patience)
        except queue.Empty:
            name = min(running, key=lambda host: running[host])
            outcome = HostFault(
                FaultKind.TIMEOUT, f"not finished after {deadline_s:g} s", in_doubt=True
            )
        if running.pop(name, None) is None:
            continue  # it was given up before, and its fault stands
        if isinstance(outcome, BaseException) and not isinstance(outcome, HostFault):
            bugs.append(outcome)
            outcome = HostFault(
                FaultKind.PROTOCOL, f"a bug of deploytool: {outcome!r}", in_doubt=True
            )
        outcomes[name] = outcome
        done(name, outcome)
    if bugs:
        raise bugs[0]
    return {name: outcomes[name] for name in jobs}
