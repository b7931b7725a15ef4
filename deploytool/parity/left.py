"""What hosts say of a stop, and of a rollout that goes on, was interrupted, or is held. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from deploytool.parity.model import Evidence, Halt, Hold, Lock


def under_way(seen: Mapping[str, Evidence], now: float) -> tuple[str, ...]:
    """A line for each thing that hosts say, with the hosts that say it and for how long.

    ``now`` in seconds since the epoch. A fleet that was left MIXED is said to be so by every
    command, from any machine, until it has ended.
    """
    return _grouped(seen, now, _said)


def halts(seen: Mapping[str, Evidence], now: float) -> tuple[str, ...]:
    """The lines of ``under_way`` that tell of stops."""
    return _grouped(seen, now, _stops)


def _grouped(
    seen: Mapping[str, Evidence], now: float, said: Callable[[Evidence], Iterator[tuple[str, int]]]
) -> tuple[str, ...]:
    groups: dict[str, list[str]] = {}
    for host, item in seen.items():
        for text, since in said(item):
            groups.setdefault(f"{text}, for {_lasting(now, since)}", []).append(host)
    return tuple(f"{', '.join(hosts)}: {text}" for text, hosts in groups.items())


def _stops(evidence: Evidence) -> Iterator[tuple[str, int]]:
    if evidence.halt is not None:
        yield halted(evidence.halt), evidence.halt.since


def _said(evidence: Evidence) -> Iterator[tuple[str, int]]:
    yield from _stops(evidence)
    if evidence.hold is not None:
        yield held(evidence.hold), evidence.hold.since
    elif evidence.lock is not None:
        yield locked(evidence.lock), evidence.lock.since


def halted(halt: Halt) -> str:
    """Who stopped a host, since when, and why."""
    how = "stopped and fenced" if halt.fenced else "stopped"
    return f"{how} since {_at(halt.since)} by {halt.by}: {halt.reason}"


def held(hold: Hold) -> str:
    """Who left the fleet as what, since when, and what ends it."""
    return (
        f"{hold.verdict} since {_at(hold.since)}, left by {hold.holder} (plan {hold.plan}); "
        f"what ends it: {hold.next}"
    )


def locked(lock: Lock) -> str:
    """Who is at work on a host, or was when it died."""
    return (
        f"locked since {_at(lock.since)} by {lock.holder} "
        f"({lock.purpose}, plan {lock.plan}, token {lock.token})"
    )


def _at(since: int) -> str:
    return datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _lasting(now: float, since: int) -> str:
    seconds = max(0, int(now) - since)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
