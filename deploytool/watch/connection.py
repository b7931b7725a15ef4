"""A connection that a watch keeps up to one host, and one question at a time over it.

There are two to a host. One carries rounds and renewals; the other is idle, so that a stop never
waits for a look that hangs. Both are asked and heard without waiting.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from deploytool.agent.requests import Answer, Request
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.openssh import KEEPALIVE_S
from deploytool.stop.channel import NoRoom, SshChannel
from deploytool.stop.targets import Target

CALL_S = 8.0
"""So long a look or a renewal may take; then its line is given up."""
_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0)
_IDLE_S = 20.0
"""A line that carried nothing for so long is asked something, so that a dead one is found out."""
Answered = Callable[[Answer | HostFault, float], None]
"""Gets the answer, and when it was asked for (seconds since the epoch)."""


class WatchConnection:
    """One line that is kept up, and one question at a time over it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.line: SshChannel | None = None
        self._answered: Answered | None = None
        self._deadline = 0.0
        self._not_before = 0.0
        self._failures = 0
        self.since = 0.0
        self._kept = 0.0
        """When it carried something last (``time.monotonic``)."""

    @property
    def ready(self) -> bool:
        """Whether it has carried an answer, and could be asked something now."""
        return self.line is not None and self.line.reached and self._answered is None

    @property
    def free(self) -> bool:
        """Whether a question can be put, over the line that is open or over a new one."""
        return self._answered is None and time.monotonic() >= self._not_before

    @property
    def idle(self) -> bool:
        """Whether it is free and has carried nothing for a while, or is not up."""
        stale = time.monotonic() - self.since > _IDLE_S
        return self.free and (self.line is None or stale)

    def ask(self, request: Request, answered: Answered, patience_s: float = CALL_S) -> None:
        """Puts a question; ``answered`` gets the answer or the fault, in its time."""
        self._answered = answered
        self._deadline = self.since = time.monotonic()
        self._deadline += patience_s
        try:
            if self.line is None:
                self.line = SshChannel(self._target.argv, self._target.host)
            self.line.ask(request)
        except NoRoom as why:
            text = f"this machine has no room for one more connection ({why})"
            self._end(HostFault(FaultKind.UNREACHABLE, text))
        except HostFault as fault:
            self._end(fault)

    def hear(self) -> None:
        """Takes in what was heard."""
        if self.line is None:
            return
        try:
            if self.line.unsent:
                self.line.flush()
            answer = self.line.hear()
        except HostFault as fault:
            self._end(fault)
            return
        if isinstance(answer, Answer):
            self._failures = 0
            self._tell(answer)

    def tick(self) -> None:
        """Gives up what is late, and keeps an idle line from being cut."""
        now = time.monotonic()
        if self._answered is not None and now >= self._deadline:
            self._end(HostFault(FaultKind.TIMEOUT, "no answer in time"))
        elif self.ready and self.line is not None and now - self._kept >= KEEPALIVE_S:
            self._kept = now
            self.line.keep_alive()

    def take(self) -> SshChannel | None:
        """Lends the line to a stop, where it is ready."""
        return self.line if self.ready else None

    def lost(self) -> None:
        """The line that was lent came back dead."""
        self._end(HostFault(FaultKind.LOST, "given up"))

    def _end(self, fault: HostFault) -> None:
        if self.line is not None:
            self.line.close()
            self.line = None
        pause = _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S) - 1)]
        self._failures += 1
        self._not_before = time.monotonic() + pause * random.uniform(0.8, 1.2)  # noqa: S311 only spread
        self._tell(fault)

    def _tell(self, outcome: Answer | HostFault) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(outcome, self.line.asked_at if self.line is not None else 0.0)

    def close(self) -> None:
        """Ends the line for good."""
        if self.line is not None:
            self.line.close()
            self.line = None
