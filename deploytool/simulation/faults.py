"""Every fault that a rehearsal can strike a host with, named once, simulated or real."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

BEFORE, AFTER = "before", "after"
"""Parts of a request, beside the calls of the port: nothing done yet, and all of it done."""


@dataclass(frozen=True)
class CallPoint:
    """When a fault strikes: at the ``nth`` request of ``verb`` to a host, and in which part of it.

    A part is ``before``, ``after``, or a call of the agent's port that changes something; one that
    is made several times is numbered.
    """

    verb: str
    nth: int
    part: str

    def __str__(self) -> str:
        return f"{self.verb} {self.nth}, {self.part}"


class Fault(Enum):
    """What goes wrong. The value is what a report says."""

    CONNECTION_REFUSED = "the connection is refused"
    CONNECT_TIMEOUT = "the host does not answer"
    AUTH_REFUSED = "the key is not let in"
    HOST_KEY_CHANGED = "the host shows another key"
    SUDO_ASKS = "sudo asks for a password"
    CONNECTION_LOST = "the connection is lost"
    ANSWER_CUT = "the answer breaks off"
    HANGS = "the command does not end"
    LATE = "the connection is lost, and the command takes effect later"
    GONE = "the host drops off and stays away"
    SHELL_NOISE = "the shell prints noise around the answer"
    COPY_TRUNCATED = "the copy is cut short"
    COPY_ALTERED = "the copy is altered on its way"
    BYTES_CHANGED = "the newest artifact's bytes change after it was copied"
    DISK_ROTS = "the newest artifact's bytes change on the disk alone"
    DISK_FULL = "the disk is full"
    DISK_READ_ONLY = "the disk is read-only"
    CLOCK_WRONG = "the clock is wrong by an hour"
    WONT_START = "the service does not start"
    CRASHES = "the service dies"
    RESTARTED = "the service is restarted by another hand"
    OLD_SURVIVES = "the old process survives the restart"
    SECOND_COPY = "a second copy of a release is started by hand"
    PORT_KEPT = "another process keeps the port"
    DROP_IN = "a drop-in makes the unit start an old release"
    VERSION_LIES = "the artifact names a version that is not its own"
    STATUS_STALE = "the old process answers for the new one"
    SILENT = "the service runs and does not answer"
    LINK_SWITCHED = "the link is switched by another hand"
    CONFIG_CHANGED = "a configuration file is changed on one host"
    AGENT_CHANGED = "the agent is another one"
    REBOOT = "the host reboots"
    DEADMAN = "the time for a confirmation runs out"
    STOPPED = "somebody stops the host"
    OTHER_DEPLOYER = "another deployer takes the lock over"


NEVER_SENT = frozenset(
    {
        Fault.CONNECTION_REFUSED,
        Fault.CONNECT_TIMEOUT,
        Fault.AUTH_REFUSED,
        Fault.HOST_KEY_CHANGED,
        Fault.SUDO_ASKS,
        Fault.LATE,
    }
)
"""They keep a call from being carried out, and so strike before it alone."""

COPYING = frozenset({Fault.COPY_TRUNCATED, Fault.COPY_ALTERED})
"""They strike what is sent with ``stage``."""

ANSWERING = frozenset({Fault.ANSWER_CUT, Fault.SHELL_NOISE})
"""They strike the answer."""

WIRE = NEVER_SENT | COPYING | ANSWERING | {Fault.CONNECTION_LOST, Fault.HANGS, Fault.GONE}
"""They leave the host itself as it is; all others change something on it."""


def possible(fault: Fault, moment: CallPoint) -> bool:
    """Whether this fault can strike at this moment."""
    if fault in COPYING:
        return moment.part == BEFORE and moment.verb == "stage"
    if fault in NEVER_SENT:
        return moment.part == BEFORE
    if fault in ANSWERING:
        return moment.part == AFTER
    return True
