"""What hosts say of a stop, and of a rollout that goes on, was interrupted, or is held. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from deploytool.agent.model import Hold, Lock
from deploytool.errors import HostFault
from deploytool.parity.model import Evidence, RoundAnswers, StandingHalt
from deploytool.parity.words import UNSEEN, Last, words


def notices(seen: RoundAnswers, now: float | None) -> tuple[str, ...]:
    """A line for each thing that hosts say, with the hosts that say it and for how long.

    ``now`` in seconds since the epoch; with None, for how long is not said. A
    fleet that was left MIXED is said to be so by every command, from any machine, until it has
    ended.
    """
    return _grouped(seen, now, _said)


def halt_notices(seen: RoundAnswers, now: float) -> tuple[str, ...]:
    """The lines of ``notices`` that tell of stops."""
    return _grouped(seen, now, _stops)


def hold_notices(seen: RoundAnswers, now: float) -> tuple[str, ...]:
    """The lines of ``notices`` that tell of a fleet that was left MIXED or UNKNOWN."""
    return _grouped(seen, now, _holds)


class NoticePrinter:
    """Tells whoever looks again and again what ``notices`` says, each time that it changes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told: tuple[str, ...] = ()

    def tell(self, seen: RoundAnswers) -> None:
        """Says what is new since the last time, and when all of it is over."""
        lines = notices(seen, None)
        for line in lines:
            if line not in self._told:
                self._say(line)
        answered = all(isinstance(item, Evidence) for item in seen.values())
        if self._told and not lines and answered:
            self._say("no host is stopped, locked or held any more")
        if lines or answered:
            self._told = lines


def _grouped(
    seen: RoundAnswers, now: float | None, said: Callable[[Evidence], Iterator[tuple[str, int]]]
) -> tuple[str, ...]:
    groups: dict[str, list[str]] = {}
    for host, item in seen.items():
        for text, since in said(item) if isinstance(item, Evidence) else ():
            lasting = "" if now is None else f", for {_lasting(now, since)}"
            groups.setdefault(f"{text}{lasting}", []).append(host)
    return tuple(f"{', '.join(hosts)}: {text}" for text, hosts in groups.items())


def _stops(evidence: Evidence) -> Iterator[tuple[str, int]]:
    if evidence.halt is not None:
        yield f"{halt_notice(evidence.halt)}; {words(last_of(evidence)).text}", evidence.halt.since


def last_of(outcome: Evidence | HostFault) -> Last:
    """What a look at a host showed, as words are made from it."""
    if not isinstance(outcome, Evidence):
        return UNSEEN
    state = (outcome.status or {}).get("trading_state")
    halt = outcome.halt
    return Last(
        state=state if isinstance(state, str) else None,
        latched=halt is not None and bool(halt.latch),
        fenced=halt is not None and halt.fenced,
        runs=bool(outcome.processes),
    )


def down(evidence: Evidence) -> bool:
    """Whether a host that was stopped has nothing that runs, fenced or not.

    A start that was interrupted after it took the fence away leaves that.
    """
    return evidence.halt is not None and not evidence.processes and evidence.status is None


def trades(evidence: Evidence) -> bool:
    """Whether its process says that orders can leave."""
    return (evidence.status or {}).get("trading_state") in {"ACTIVE", "REDUCING"}


def _holds(evidence: Evidence) -> Iterator[tuple[str, int]]:
    if evidence.hold is not None:
        yield hold_notice(evidence.hold), evidence.hold.since


def _said(evidence: Evidence) -> Iterator[tuple[str, int]]:
    yield from _stops(evidence)
    yield from _holds(evidence)
    if evidence.hold is None and evidence.lock is not None:
        yield lock_notice(evidence.lock), evidence.lock.since


def halt_notice(halt: StandingHalt) -> str:
    """Who stopped a host, since when, and why."""
    how = "stopped and fenced" if halt.fenced else "stopped"
    return f"{how} since {_at(halt.since)} by {halt.by}: {halt.reason}"


def hold_notice(hold: Hold) -> str:
    """Who left the fleet as what, since when, and what ends it."""
    return (
        f"{hold.verdict} since {_at(hold.since)}, left by {hold.holder} (plan {hold.plan}); "
        f"what ends it: {hold.next}"
    )


def lock_notice(lock: Lock) -> str:
    """Who is at work on a host, or was when it died."""
    said = (
        f"locked since {_at(lock.since)} by {lock.holder} "
        f"({lock.purpose}, plan {lock.plan}, token {lock.token})"
    )
    if lock.purpose != "start":
        return said
    return f"{said}; a start that was interrupted leaves that: 'deploytool rollback' takes it away"


def _at(since: int) -> str:
    return datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _lasting(now: float, since: int) -> str:
    seconds = max(0, int(now) - since)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
