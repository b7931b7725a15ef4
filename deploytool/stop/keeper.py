"""What a watch holds of one host: two lines, the last evidence, and the lease's next nonce.

One line carries rounds and renewals; the other is idle, so that a stop never waits for a look that
hangs. Both are asked and heard without waiting.
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.protocol import Call, Reply, excerpt
from deploytool.stop.card import Target
from deploytool.stop.line import Line, NoRoom
from deploytool.stop.model import Renewal

CALL_S = 8.0
"""So long a look or a renewal may take; then its line is given up."""
_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0)
_IDLE_S = 20.0
"""A line that carried nothing for so long is asked something, so that a dead one is found out."""
NO_NONCE = "none"
"""Asks for the first nonce; it prolongs nothing, and voids the nonce of whoever renewed before."""
Answered = Callable[[Reply | HostFault], None]


class Thread:
    """One line that is kept up, and one question at a time over it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.line: Line | None = None
        self._answered: Answered | None = None
        self._deadline = 0.0
        self._not_before = 0.0
        self._failures = 0
        self.since = 0.0

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

    def ask(self, call: Call, answered: Answered, patience_s: float = CALL_S) -> None:
        """Puts a question; ``answered`` gets the answer or the fault, in its time."""
        self._answered = answered
        self._deadline = self.since = time.monotonic()
        self._deadline += patience_s
        try:
            if self.line is None:
                self.line = Line(self._target.argv)
            self.line.ask(call)
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
            reply = self.line.hear()
        except HostFault as fault:
            self._end(fault)
            return
        if reply is not None:
            self._failures = 0
            self._tell(reply)

    def tick(self) -> None:
        """Gives up what is late."""
        if self._answered is not None and time.monotonic() >= self._deadline:
            self._end(HostFault(FaultKind.TIMEOUT, "no answer in time"))

    def take(self) -> Line | None:
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

    def _tell(self, outcome: Reply | HostFault) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(outcome)

    def close(self) -> None:
        """Ends the line for good."""
        if self.line is not None:
            self.line.close()
            self.line = None


def _length(value: object) -> float:
    """So long a lease may be, in seconds: what the inventory allows, too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
        raise ValueError(f"{value!r:.20} is no length of a lease")
    return float(value)


class Lease:
    """One host's lease as its renewer knows it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.nonce = NO_NONCE
        self.renewal: Renewal | None = None
        self.begun = 0.0
        """When this row of nonces began (``time.monotonic``): it is that of one process."""
        self.pid: int | None = None
        """That process, where the artifact says which."""
        self.taken = ""
        """Who else renews it, in words; then we don't."""
        self.next_at = 0.0
        self.left_s: float | None = None

    @property
    def known(self) -> Renewal | None:
        """The last renewal that could be answered, and whether somebody else goes on with them."""
        if self.taken:
            return replace(self.renewal or Renewal(0.0, 0.0), taken=True)
        return self.renewal

    def call(self) -> Call:
        """The next renewal. It answers the newest nonce, whose arrival was written down."""
        return Call("lease", (("lease", self.nonce),))

    def learn(self, reply: Reply, now: float) -> str:
        """Takes in the answer to a renewal; in words what is wrong with it, or nothing."""
        try:
            plain = base64.b64decode(reply.one("lease") or "").decode("utf-8", "replace")
        except (ValueError, HostFault):
            return "the answer to a renewal is not understood"
        try:
            said = json.loads(plain)
            nonce, lease_s = str(said["nonce"]), _length(said["lease_s"])
            self.left_s = _length(said["left_s"])
            self.pid = said["pid"] if type(said.get("pid")) is int else None
        except (ValueError, KeyError, TypeError, RecursionError):
            if "LEASE_TAKEN" in plain:
                self.taken = excerpt(plain)
            elif "LEASE_NONCE" in plain:
                # An answer was lost, or the process is another one: begun anew, at once.
                self.nonce, self.next_at = NO_NONCE, 0.0
            return excerpt(plain)
        self.nonce, self.renewal = nonce, Renewal(now, lease_s)
        return ""
