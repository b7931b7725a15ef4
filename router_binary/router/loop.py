"""One thread, one epoll: the data sockets, and first of all the control sockets.

Several routers can share a loop: a whole fleet in one process is how it is measured.
"""

import select
import time
from collections.abc import Callable

Handler = Callable[[int], None]
READ = select.EPOLLIN
WRITE = select.EPOLLOUT
# A handful of ready sockets a turn, so that a halt never waits behind a flood.
BATCH = 8
TICK_S = 0.25


class Loop:
    """Calls handlers of ready descriptors, then every `after`, and every `tick` in time."""

    def __init__(self) -> None:
        self._data = select.epoll()
        self._urgent = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._data.register(self._urgent.fileno(), READ)
        self._handlers[self._urgent.fileno()] = lambda _events: None  # served first anyway
        self._urgent_fds: set[int] = set()
        self.after: list[Callable[[], None]] = []
        self.ticks: list[Callable[[float], None]] = []
        self.stopping = False

    def add(self, fd: int, handler: Handler, events: int = READ, *, urgent: bool = False) -> None:
        """Watch a descriptor."""
        (self._urgent if urgent else self._data).register(fd, events)
        self._handlers[fd] = handler
        if urgent:
            self._urgent_fds.add(fd)

    def change(self, fd: int, events: int) -> None:
        """Watch for something else."""
        (self._urgent if fd in self._urgent_fds else self._data).modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget a descriptor, before it is closed."""
        (self._urgent if fd in self._urgent_fds else self._data).unregister(fd)
        self._urgent_fds.discard(fd)
        del self._handlers[fd]

    def run(self) -> None:
        """Until `stopping`."""
        next_tick_s = 0.0
        while not self.stopping:
            next_tick_s = self.turn(next_tick_s)
        self._data.close()
        self._urgent.close()

    def turn(self, next_tick_s: float) -> float:
        """Serve what is ready now; give the time of the next tick."""
        handlers = self._handlers
        ready = self._data.poll(TICK_S, BATCH)
        for fd, events in self._urgent.poll(0, BATCH):
            handlers[fd](events)
        for fd, events in ready:
            # A handler earlier in this turn may have closed this one.
            if fd in handlers:
                handlers[fd](events)
        now_s = time.monotonic()
        if now_s >= next_tick_s:
            next_tick_s = now_s + TICK_S / 2
            for tick in self.ticks:
                tick(now_s)
        for after in self.after:
            after()
        return next_tick_s
