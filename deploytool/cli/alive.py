"""A sign of life: a line every few seconds in which a command would print nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deploytool.cli.output import put

EVERY_S = 5.0


@contextmanager
def alive(doing: Callable[[], str], every_s: float = EVERY_S) -> Iterator[Callable[[], None]]:
    """Prints what is being done to stderr, each time that ``every_s`` seconds were silent.

    Yields what is to be called when something else was printed: the silence begins again. ``doing``
    is called in another thread; where it has nothing to say, nothing is printed.
    """
    began = time.monotonic()
    over, heard = threading.Event(), threading.Event()

    def tell() -> None:
        while not over.is_set():
            if heard.wait(every_s):
                heard.clear()
            elif not over.is_set() and (text := doing()):
                put(f"{text}, {time.monotonic() - began:.0f} s", sys.stderr)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield heard.set
    finally:
        over.set()
        heard.set()
        teller.join()
