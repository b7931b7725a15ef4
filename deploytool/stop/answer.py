"""What a stop came to, a row a host: for people, for programs, and as an exit code. Pure.

Exit 0 only where every target was shown to have stopped *and* somebody else saw the silence.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain
from shlex import quote
from typing import Any

from deploytool.errors import StopNotConfirmed
from deploytool.stop.model import Climbed, End, Event, Order, Renewal, Rung, Silence, Step
from deploytool.stop.rules import contradicted, last_child_s, lease_end, quiet, stopped

_NOT_SILENT = (
    "the witness saw a child order too late, does not know this host, or its answer was of before "
    "the stop (an old one, or a clock that is behind)"
)
_NARROWEST = 24
"""So many columns a reason gets at least, however narrow the terminal is."""


@dataclass(frozen=True)
class Row:
    """One target. Instants in seconds since the epoch, by the operator's clock."""

    host: str
    end: End
    at_s: float
    how: str
    stopped: bool
    silent: bool
    last_child_s: float | None
    """From the key press to the last child order that the witness saw; negative: before it."""
    lease_end: float | None
    rests_on: str
    notes: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def proven(self) -> bool:
        """Shown to have stopped, and seen to be silent by somebody else."""
        return self.stopped and self.silent


@dataclass(frozen=True)
class Answer:
    """The whole of a stop. ``witness``: why nobody saw the silence; empty where one was asked.

    ``unknown``: what was typed as a host and is none of this inventory. ``doubt``: why there may be
    hosts of the fleet that nobody told to stop.
    """

    order: Order
    rows: tuple[Row, ...]
    witness: str
    trouble: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    doubt: str = ""

    @property
    def targets(self) -> tuple[Row, ...]:
        """The rows of what was to be stopped."""
        return tuple(row for row in self.rows if row.end is not End.OTHER_RELEASE)


def make_row(
    climbed: Climbed,
    order: Order,
    heard: Silence | str,
    lease: tuple[float, Renewal | None, bool],
    now: float,
) -> Row:
    """What is known of one host. ``lease``: its length, the last renewal, whether that goes on."""
    seen = heard if isinstance(heard, Silence) else None
    lease_s, renewal, renewing = lease
    ends, rests_on = (None, "")
    if climbed.end in {End.OUT_OF_REACH, End.NOT_SHOWN}:
        ends, rests_on = lease_end(now, lease_s, renewal, renewing=renewing)
        if contradicted(ends, seen, climbed.host, order.pressed):
            ends = None
            rests_on = "the witness saw it send after its lease's end: another watch renews it"
    since = order.pressed + climbed.at_s
    return Row(
        host=climbed.host,
        end=climbed.end,
        at_s=climbed.at_s,
        how=climbed.steps[-1].text if climbed.steps else "",
        stopped=stopped(climbed),
        silent=seen is not None and quiet(seen, climbed.host, since),
        last_child_s=last_child_s(seen.then, climbed.host, order.pressed) if seen else None,
        lease_end=ends,
        rests_on=rests_on,
        notes=climbed.notes,
        steps=climbed.steps,
    )


def lines(answer: Answer, columns: int) -> tuple[str, ...]:
    """The table for people: rung reached, confirmed how, and the last child order.

    What does not fit into ``columns`` goes on below, under its own heading.
    """
    width = max([4, *(len(row.host) for row in answer.rows)])
    head = f"{'host':<{width}}  {'end':<13}  {'after':>7}  {'last child order':<19}  how"
    return tuple(chain([head], *(_lines(row, width, columns) for row in answer.rows)))


def _lines(row: Row, width: int, columns: int) -> list[str]:
    how = "; ".join((row.how, *row.notes)).strip("; ")
    before = f"{row.host:<{width}}  {row.end.value:<13}  {row.at_s:6.2f}s  {_last(row):<19}  "
    room = max(_NARROWEST, columns - len(before))
    return textwrap.wrap(
        how, room + len(before), initial_indent=before, subsequent_indent=" " * len(before)
    ) or [before.rstrip()]


def _last(row: Row) -> str:
    if row.last_child_s is None:
        return "none" if row.silent else "not seen by anybody"
    seconds = abs(row.last_child_s)
    when = "after" if row.last_child_s >= 0 else "before"
    text = f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"
    return f"{text} {when} the key" + ("" if row.silent else " !")


def instant(seconds: float) -> str:
    """A time of day that a person can hold against a clock on the wall, with its zone."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="milliseconds")


def conclude(answer: Answer, inventory: str) -> StopNotConfirmed | None:
    """None where every target is proven to be silent; else who isn't, and what will stop them."""
    bad = [row for row in answer.targets if not row.proven]
    if not bad and answer.targets and not answer.unknown:
        return _doubted(answer, inventory) if answer.doubt else None
    if not answer.targets:
        return StopNotConfirmed(
            "No host was found that runs what was to be stopped.",
            "Nothing was stopped.",
            f"See what runs where: deploytool status -i {quote(inventory)}",
            answer.trouble,
        )
    unstopped = [row for row in bad if not row.stopped]
    strangers = tuple(
        f"{name}: not in the inventory: NOTHING was told to it" for name in answer.unknown
    )
    if not bad:
        return StopNotConfirmed(
            f"{', '.join(answer.unknown)}: not in the inventory.",
            f"The other {len(answer.targets)} stopped; whoever you meant may go on sending orders.",
            f"Press again with its right name, or all: deploytool stop -i {quote(inventory)} --all",
            (*strangers, *answer.trouble),
        )
    names = ", ".join(row.host for row in bad)
    details = _reasons(bad, answer.witness)
    details += (answer.doubt,) if answer.doubt else ()
    if unstopped:
        what = f"{len(unstopped)} of {len(answer.targets)} hosts are NOT shown to have stopped."
        ends = [row.lease_end for row in unstopped]
        if all(end is not None for end in ends):
            last = max(end for end in ends if end is not None)
            means = f"Their leases end by {instant(last)}; until then they may send orders."
        else:
            means = "They may go on sending orders."
        typed = dict.fromkeys(row.host.partition(",")[0] for row in unstopped)
        hosts = " ".join(f"--host {name}" for name in typed)
        now = (
            "Cut them off at the market or switch them off; and again: "
            f"deploytool stop -i {quote(inventory)} {hosts}"
        )
    else:
        stopped_too = f"{len(answer.targets)} of {len(answer.targets)} say that they stopped"
        what = f"{stopped_too}; nobody else was seen to confirm their silence: {names}."
        means = "Nobody but the hosts themselves has said so."
        now = "Ask the market, or whoever has a drop copy, whether these hosts are silent." + (
            ""
            if answer.witness.startswith("the witness")
            else " Name that witness in the inventory (silence:, docs/stop.md) for the next time."
        )
    return StopNotConfirmed(what, means, now, (*details, *strangers, *answer.trouble))


def _reasons(bad: Sequence[Row], witness: str) -> tuple[str, ...]:
    """A line for each reason, with the hosts that it holds for."""
    groups: dict[str, list[str]] = {}
    for row in bad:
        groups.setdefault(_why(row, witness), []).append(row.host)
    return tuple(f"{', '.join(hosts)}: {why}" for why, hosts in groups.items())


def _doubted(answer: Answer, inventory: str) -> StopNotConfirmed:
    return StopNotConfirmed(
        f"All {len(answer.targets)} hosts that were read stopped, but {answer.doubt}.",
        "A host that is not listed, or under a name that stands there twice, may go on sending.",
        f"See what is wrong: deploytool status -i {quote(inventory)}; mend it, and stop again",
        answer.trouble,
    )


def _why(row: Row, witness: str) -> str:
    if row.stopped:
        said = witness or _NOT_SILENT
        return f"{row.end.value}, but {said}"
    if row.lease_end is not None:
        ends = f"its lease ends by {instant(row.lease_end)} at the latest; that rests on"
    else:
        ends = "no instant can be named:"
    notes = "".join(f"; {note}" for note in row.notes)
    return f"{row.end.value}: {row.how}{notes}; {ends} {row.rests_on}".rstrip()


def document(answer: Answer) -> dict[str, Any]:
    """The same for programs."""
    return {
        "latch": answer.order.latch,
        "by": answer.order.by,
        "reason": answer.order.reason,
        "pressed": answer.order.pressed,
        "witness": answer.witness or None,
        "hosts": [row_document(row) for row in answer.rows],
        "trouble": [*answer.trouble, *([answer.doubt] if answer.doubt else [])],
        "unknown": list(answer.unknown),
    }


def row_document(row: Row) -> dict[str, Any]:
    """One row for programs."""
    return {
        "host": row.host,
        "end": row.end.value,
        "at_s": round(row.at_s, 4),
        "how": row.how,
        "stopped": row.stopped,
        "silent": row.silent,
        "last_child_s": None if row.last_child_s is None else round(row.last_child_s, 4),
        "lease_end": row.lease_end,
        "rests_on": row.rests_on or None,
        "notes": list(row.notes),
        "steps": steps_document(row.steps),
    }


def steps_document(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Rungs in order, as JSON."""
    return [{**asdict(s), "rung": s.rung.value, "event": s.event.value} for s in steps]


def climbed_document(climbed: Climbed) -> dict[str, Any]:
    """How a ladder ended, to be handed over a socket."""
    return {
        "host": climbed.host,
        "end": climbed.end.value,
        "at_s": climbed.at_s,
        "steps": steps_document(climbed.steps),
        "notes": list(climbed.notes),
    }


def climbed_from(said: Mapping[str, Any]) -> Climbed:
    """What ``climbed_document`` made.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    steps = tuple(
        Step(Rung(s["rung"]), Event(s["event"]), float(s["at_s"]), str(s["text"]))
        for s in said["steps"]
    )
    notes = tuple(str(note) for note in said["notes"])
    return Climbed(str(said["host"]), End(said["end"]), float(said["at_s"]), steps, notes)
