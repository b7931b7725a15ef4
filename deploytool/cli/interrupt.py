"""How a command that changes hosts ends on Ctrl-C: in order, or at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deploytool.cli.output import say


@contextmanager
def interruptible(
    then: str = "finishing what is under way, then bringing back",
) -> Iterator[Callable[[], bool]]:
    """Makes Ctrl-C and SIGTERM a question that is asked between two effects.

    The first asks to end in good order, and ``then`` says how that is done; the second ends it at
    once.
    """
    asked = 0

    def note(_number: int, _frame: object) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise KeyboardInterrupt
        say(f"Interrupted: {then}. Again: stop at once.")

    told = 0

    def pending() -> bool:
        nonlocal told
        if asked > told:
            told = asked
            return True
        return False

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield pending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
