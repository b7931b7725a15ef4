"""What a stop came to, a row a host: for people, for programs, and as an exit code. Pure.

Exit 0 only where every target was shown to have stopped *and* somebody else saw the silence.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import chain
from shlex import quote
from typing import Any

from deploytool.errors import StopNotConfirmed
from deploytool.parity.words import UNSEEN, Last, Words, words
from deploytool.stop.model import (
    End,
    Event,
    Heard,
    HostOutcome,
    Listed,
    Own,
    Renewal,
    Rung,
    Step,
    StopRequest,
)
from deploytool.stop.silence import silence
from deploytool.stop.table import contradicted, last_child_s, lease_end, stopped

_NARROWEST = 24
"""So many columns a reason gets at least, however narrow the terminal is."""


@dataclass(frozen=True)
class HostRow:
    """One target. Instants in seconds since the epoch, by the operator's clock."""

    host: str
    end: End
    at_s: float
    how: str
    stopped: bool
    silent: bool
    watched_s: float
    """How long the witness saw nothing new of it, in seconds."""
    silence: str
    """What is lacking for a silence; or what one rests on that the time alone would not show."""
    last_child_s: float | None
    """From the key press to the last child order that the witness saw; negative: before it."""
    lease_end: float | None
    rests_on: str
    notes: tuple[str, ...]
    steps: tuple[Step, ...]
    said: Words = field(default_factory=lambda: words(UNSEEN))
    """What the last look at it showed."""

    @property
    def proven(self) -> bool:
        """Shown to have stopped, and seen to be silent by somebody else."""
        return self.stopped and self.silent


@dataclass(frozen=True)
class StopOutcome:
    """The whole of a stop. ``witness``: why nobody saw the silence; empty where one was asked.

    ``unknown``: what was typed as a host and is none of this inventory. ``doubt``: why there may be
    hosts of the fleet that nobody told to stop. ``strangers``: whom the witness saw sending, and
    who is no host of this fleet; ``elsewhere``: such as the inventory says belong to another one.
    """

    order: StopRequest
    rows: tuple[HostRow, ...]
    witness: str
    trouble: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    doubt: str = ""
    strangers: Mapping[str, float] = field(default_factory=dict)
    """From the key press to the last order of each, in seconds."""
    elsewhere: tuple[str, ...] = ()
    way_back: tuple[str, ...] = ()
    """How each host that was stopped is let in again, where the inventory names no signers."""

    @property
    def targets(self) -> tuple[HostRow, ...]:
        """The rows of what was to be stopped."""
        return tuple(row for row in self.rows if row.end is not End.OTHER_RELEASE)


def make_row(
    climbed: HostOutcome,
    order: StopRequest,
    heard: Heard,
    lease: tuple[float, Renewal | None, bool],
    now: float,
) -> HostRow:
    """What is known of one host. ``lease``: its length, the last renewal, whether that goes on."""
    last = heard.answers[-1] if heard.answers and not heard.trouble else None
    lease_s, renewal, renewing = lease
    ends, rests_on = (None, "")
    if climbed.end in {End.OUT_OF_REACH, End.NOT_SHOWN}:
        ends, rests_on = lease_end(now, lease_s, renewal, renewing=renewing)
        if contradicted(ends, last, climbed.host, order.pressed):
            ends = None
            rests_on = "the witness saw it send after its lease's end: another watch renews it"
    shown = silence(climbed, heard, order.pressed)
    return HostRow(
        host=climbed.host,
        end=climbed.end,
        at_s=climbed.at_s,
        how=climbed.steps[-1].text if climbed.steps else "",
        stopped=stopped(climbed),
        silent=shown.silent,
        watched_s=shown.watched_s,
        silence=shown.why,
        last_child_s=last_child_s(last, climbed.host, order.pressed) if last else None,
        lease_end=ends,
        rests_on=rests_on,
        notes=climbed.notes,
        steps=climbed.steps,
        said=words(last_seen(climbed)),
    )


def last_seen(climbed: HostOutcome) -> Last:
    """What a stop saw last of a host."""
    latched, fenced = climbed.latched, climbed.fenced
    if climbed.end is End.HALTED:
        return Last("HALTED", latched, fenced)
    if climbed.end is End.DEAD:
        return Last(None, latched, fenced, runs=None if climbed.may_send else False)
    return UNSEEN if climbed.end is End.OUT_OF_REACH else Last(runs=True)


def lines(answer: StopOutcome, columns: int) -> tuple[str, ...]:
    """The table for people: rung reached, confirmed how, and the last child order.

    What does not fit into ``columns`` goes on below, under its own heading.
    """
    width = max([4, *(len(row.host) for row in answer.rows)])
    head = f"{'host':<{width}}  {'end':<13}  {'after':>7}  {'last child order':<19}  how"
    return tuple(chain([head], *(_lines(row, width, columns) for row in answer.rows)))


def _lines(row: HostRow, width: int, columns: int) -> list[str]:
    rests_on = row.silence if row.silent else ""
    how = "; ".join(filter(None, (row.how, *row.notes, rests_on)))
    before = f"{row.host:<{width}}  {row.end.value:<13}  {row.at_s:6.2f}s  {_last(row):<19}  "
    room = max(_NARROWEST, columns - len(before))
    return textwrap.wrap(
        how, room + len(before), initial_indent=before, subsequent_indent=" " * len(before)
    ) or [before.rstrip()]


def _last(row: HostRow) -> str:
    if row.last_child_s is None:
        return "none" if row.silent else "not seen"
    return _when(row.last_child_s) + ("" if row.silent else " !")


def _when(since_key_s: float) -> str:
    seconds = abs(since_key_s)
    text = f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"
    return f"{text} {'after' if since_key_s >= 0 else 'before'} the key"


def instant(seconds: float) -> str:
    """A time of day that a person can compare with a clock on the wall, with its zone."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="milliseconds")


def conclude(answer: StopOutcome, inventory: str) -> StopNotConfirmed | None:
    """None where every target is proven to be silent; else who isn't, and what will stop them."""
    bad = [row for row in answer.targets if not row.proven]
    if not bad and answer.targets and not answer.unknown and not answer.strangers:
        return _doubted(answer, inventory) if answer.doubt else None
    what, means, now = (
        " ".join(filter(None, said)) for said in zip(*_said(answer, inventory), strict=True)
    )
    return StopNotConfirmed(what, means, now, _details(answer, bad))


def _details(answer: StopOutcome, bad: Sequence[HostRow]) -> tuple[str, ...]:
    unknown = (f"{name}: not in the inventory: NOTHING was told to it" for name in answer.unknown)
    doubt = (answer.doubt,) if answer.doubt else ()
    heard = (
        f"{name}: not in this fleet; the witness saw its last order {_when(at_s)}"
        for name, at_s in answer.strangers.items()
    )
    return (*heard, *_reasons(bad, answer.witness), *doubt, *unknown, *answer.trouble)


def _said(answer: StopOutcome, inventory: str) -> Iterator[tuple[str, str, str]]:
    """What happened, what it means and what to do now, of each kind of thing that is wrong."""
    bad = [row for row in answer.targets if not row.proven]
    unstopped = [row for row in bad if not row.stopped]
    if answer.strangers:
        yield _of_strangers(answer)
    if not answer.targets:
        yield (
            "No host was found that runs what was to be stopped.",
            "Nothing was stopped.",
            f"See what runs where: deploytool status -i {quote(inventory)}",
        )
    elif unstopped:
        yield _of_unstopped(answer, unstopped, inventory)
    elif bad:
        yield _of_unseen(answer, bad)
    elif answer.unknown:
        yield (
            f"{', '.join(answer.unknown)}: not in the inventory.",
            f"The other {len(answer.targets)} stopped; those that you meant may still send orders.",
            f"Press again with its right name, or all: deploytool stop -i {quote(inventory)} --all",
        )


def _of_strangers(answer: StopOutcome) -> tuple[str, str, str]:
    names = ", ".join(answer.strangers)
    verb = "are" if len(answer.strangers) > 1 else "is"
    return (
        f"The market heard {names}, which {verb} not in this fleet.",
        f"{names} was not told to stop, and may go on sending orders.",
        (
            f"Cut {names} off at the market, or end it where it runs; where it belongs to another "
            "fleet, list it in the inventory (silence.others, docs/stop.md)."
        ),
    )


def _of_unstopped(
    answer: StopOutcome, unstopped: Sequence[HostRow], inventory: str
) -> tuple[str, str, str]:
    ends = [row.lease_end for row in unstopped]
    means = "They may go on sending orders."
    if all(end is not None for end in ends):
        last = max(end for end in ends if end is not None)
        means = f"Their leases end by {instant(last)}; until then they may send orders."
    typed = dict.fromkeys(row.host.partition(",")[0] for row in unstopped)
    hosts = " ".join(f"--host {name}" for name in typed)
    return (
        f"{len(unstopped)} of {len(answer.targets)} hosts are NOT shown to have stopped.",
        means,
        (
            "Cut them off at the market or switch them off; and again: "
            f"deploytool stop -i {quote(inventory)} {hosts}"
        ),
    )


def _of_unseen(answer: StopOutcome, bad: Sequence[HostRow]) -> tuple[str, str, str]:
    names = ", ".join(row.host for row in bad)
    count = f"{len(answer.targets)} of {len(answer.targets)}"
    now = "Ask the market, or anyone who has a drop copy, whether these hosts are silent."
    if not answer.witness.startswith("the witness") and answer.witness:
        now += " Name that witness in the inventory (silence:, docs/stop.md) for the next time."
    return (
        f"{count} say that they stopped; their silence is NOT confirmed: {names}.",
        "This rests on the hosts' own reports only.",
        now,
    )


def _reasons(bad: Sequence[HostRow], witness: str) -> tuple[str, ...]:
    """A line for each reason, with the hosts that it holds for."""
    groups: dict[str, list[str]] = {}
    for row in bad:
        groups.setdefault(_why(row, witness), []).append(row.host)
    return tuple(f"{', '.join(hosts)}: {why}" for why, hosts in groups.items())


def _doubted(answer: StopOutcome, inventory: str) -> StopNotConfirmed:
    return StopNotConfirmed(
        f"All {len(answer.targets)} hosts that were read stopped, but {answer.doubt}.",
        "A host that is not listed, or is listed twice, may go on sending.",
        f"See what is wrong: deploytool status -i {quote(inventory)}; fix it, and stop again",
        answer.trouble,
    )


def _why(row: HostRow, witness: str) -> str:
    if row.stopped:
        return f"{row.end.value}, but {row.silence or witness}"
    if row.lease_end is not None:
        ends = f"its lease ends by {instant(row.lease_end)} at the latest; that rests on"
    else:
        ends = "no instant can be named:"
    notes = "".join(f"; {note}" for note in row.notes)
    return f"{row.end.value}: {row.how}{notes}; {row.said.text}; {ends} {row.rests_on}".rstrip()


def document(answer: StopOutcome) -> dict[str, Any]:
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
        "strangers": {name: round(at_s, 4) for name, at_s in answer.strangers.items()},
        "elsewhere": list(answer.elsewhere),
        "way_back": list(answer.way_back),
    }


def row_document(row: HostRow) -> dict[str, Any]:
    """One row for programs."""
    return {
        "host": row.host,
        "end": row.end.value,
        "at_s": round(row.at_s, 4),
        "how": row.how,
        "said": row.said.text,
        "stopped": row.stopped,
        "silent": row.silent,
        "watched_s": round(row.watched_s, 4),
        "silence": row.silence or None,
        "last_child_s": None if row.last_child_s is None else round(row.last_child_s, 4),
        "lease_end": row.lease_end,
        "rests_on": row.rests_on or None,
        "notes": list(row.notes),
        "steps": steps_document(row.steps),
    }


def steps_document(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Rungs in order, as JSON."""
    return [{**asdict(s), "rung": s.rung.value, "event": s.event.value} for s in steps]


def outcome_document(climbed: HostOutcome) -> dict[str, Any]:
    """How a ladder ended, to be handed over a socket."""
    return {
        "host": climbed.host,
        "end": climbed.end.value,
        "at_s": climbed.at_s,
        "steps": steps_document(climbed.steps),
        "notes": list(climbed.notes),
        "own": None if climbed.own is None else asdict(climbed.own),
        "may_send": list(climbed.may_send),
        "latched": climbed.latched,
        "fenced": climbed.fenced,
        "members": None if climbed.members is None else asdict(climbed.members),
    }


def outcome_from(said: Mapping[str, Any]) -> HostOutcome:
    """What ``outcome_document`` made.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    steps = tuple(
        Step(Rung(s["rung"]), Event(s["event"]), float(s["at_s"]), str(s["text"]))
        for s in said["steps"]
    )
    notes = tuple(str(note) for note in said["notes"])
    # A watch that began before an update of this tool says nothing of it: that is not known.
    own = Own(**said["own"]) if said.get("own") is not None else None
    may_send = tuple(str(one) for one in said.get("may_send", ()))
    host, end, at_s = str(said["host"]), End(said["end"]), float(said["at_s"])
    latched, fenced = (_yes_no(said.get(key)) for key in ("latched", "fenced"))
    kept = said.get("members")
    members = Listed(int(kept["epoch"]), tuple(map(str, kept["names"]))) if kept else None
    return HostOutcome(host, end, at_s, steps, notes, own, may_send, latched, fenced, members)


def _yes_no(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
