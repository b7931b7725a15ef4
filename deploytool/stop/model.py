"""Rungs, events and ends of a stop, and what is known of a host on them: frozen values. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum

_HOSTS_AT_MOST = 4000
"""Characters of all names: a latch is a small file."""


class Rung(Enum):
    """What a stop does to a host next. The value is what a person reads."""

    QUIESCE = "quiesce"
    AGAIN = "quiesce again"
    FENCE = "fence"
    KILL = "kill"
    LOOK = "look"
    KILL_AGAIN = "kill again"
    LOOK_AGAIN = "look again"


class End(Enum):
    """Where a host's ladder ends."""

    HALTED = "HALTED"
    """The router itself says that it sends nothing more, and that is latched."""
    DEAD = "DEAD"
    """No process of the service or of its release root is left, and no port is open."""
    OUT_OF_REACH = "OUT OF REACH"
    """It could not be told. What stops it is its lease, or somebody else's hand."""
    NOT_SHOWN = "NOT SHOWN"
    """It was told, and is not shown to have stopped."""
    OTHER_RELEASE = "OTHER RELEASE"
    """It runs none of the releases that are to be stopped; nothing was done to it."""


class Event(Enum):
    """What came of a rung on one host."""

    CONFIRMED = "confirmed"
    NOT_CONFIRMED = "not confirmed"
    DONE = "done"
    EMPTY = "nothing is left"
    ALIVE = "something is left"
    OTHER_RELEASE = "it runs another release"
    LATE = "no answer in time"
    LOST = "the connection was lost"
    UNREACHABLE = "it can't be reached"


@dataclass(frozen=True)
class StopRequest:
    """One press of the key: who, why, when (the operator's clock, seconds since the epoch).

    ``latch`` names this stop; ``only`` begins the SHA-256 of the release that is to be stopped,
    and is empty where every release is.
    """

    by: str
    reason: str
    latch: str
    pressed: float
    only: str = ""
    hosts: str = ""
    """Names of the hosts that it is for, between blanks; empty where that can't be told."""

    def to(self, names: Iterable[str]) -> StopRequest:
        """The same, for these hosts.

        A stop of one release is for those that run it, which only they know.
        """
        # An entry that is there twice (two sides of a conflict) has a comma behind its name.
        hosts = " ".join(dict.fromkeys(name.partition(",")[0] for name in names))
        known = not self.only and len(hosts) <= _HOSTS_AT_MOST
        return replace(self, hosts=hosts if known else "")


@dataclass(frozen=True)
class Step:
    """One rung of one host: what came of it, and when, in seconds since the key was pressed."""

    rung: Rung
    event: Event
    at_s: float
    text: str = ""


@dataclass(frozen=True)
class Renewal:
    """The newest nonce that a renewer got from a host: no renewal can answer a later one.

    ``wall`` is when it arrived, by the operator's clock; the host issued it before that.
    ``taken``: another renewer has begun since, of whose nonces this one knows nothing.
    """

    wall: float
    lease_s: float
    taken: bool = False


@dataclass(frozen=True)
class Own:
    """What the router itself said, as it confirmed its halt, of the orders that it had sent.

    ``asked`` and ``answered`` by the operator's clock, in seconds since the epoch; all else in
    seconds. The count is of ``counted_s``, the life of the process. ``last_ago_s`` is None where it
    sent none, ``gap_s`` (the mean time between its latest orders) where that is not known.
    """

    asked: float
    answered: float
    children: int
    counted_s: float
    last_ago_s: float | None
    gap_s: float | None


@dataclass(frozen=True)
class Listed:
    """Whom a list of members names, and how new it is."""

    epoch: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class HostOutcome:
    """How a host's ladder ended. ``at_s`` in seconds since the key was pressed.

    ``own``: what the router said of its own orders; None where it can't be asked.
    ``may_send``: processes that the last look found, and that nothing shows to be harmless.
    ``members``: the fleet's list of its hosts, as this one keeps it; None: not shown.
    ``latched`` and ``fenced``: whether a stop's latch and fence were seen there; None: not shown.
    """

    host: str
    end: End
    at_s: float
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    own: Own | None = None
    may_send: tuple[str, ...] = ()
    latched: bool | None = None
    fenced: bool | None = None
    members: Listed | None = None


@dataclass(frozen=True)
class Witnessed:
    """What the witness of silence said. Times by its clock, in seconds since the epoch.

    ``asked`` and ``answered`` are by ours. ``last_child`` has None for a host that sent nothing.
    """

    taken: float
    asked: float
    answered: float
    last_child: dict[str, float | None] = field(default_factory=dict)

    @property
    def skew_s(self) -> float:
        """How far its clock is outside the time between question and answer, in seconds."""
        return self.taken - max(self.asked, min(self.taken, self.answered))


@dataclass(frozen=True)
class WitnessAnswers:
    """Two answers of the witness, one after the other: one alone might be an old one."""

    first: Witnessed
    then: Witnessed


@dataclass(frozen=True)
class Heard:
    """All that the witness said, in order. ``trouble``: why that shows nothing; else empty."""

    answers: tuple[Witnessed, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class SilenceVerdict:
    """Whether a host was shown to be silent.

    ``watched_s``: how long the witness saw nothing new of it, in seconds. ``why``: what is lacking;
    or, of a silence that the time alone would not show, what else it rests on.
    """

    silent: bool
    watched_s: float = 0.0
    why: str = ""
    settled: bool = True
    """Whether watching for longer can't change this."""
