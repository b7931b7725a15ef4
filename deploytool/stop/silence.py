"""What shows that a host is silent, and whom a witness heard besides. Pure.

The word of a host alone shows nothing, and neither does the witness's alone: it may have looked too
briefly for the rate at which the host sent, or lag behind, or hear another sender's orders.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deploytool.stop.model import (
    End,
    Heard,
    HostOutcome,
    Own,
    SilenceVerdict,
    WitnessAnswers,
    Witnessed,
)
from deploytool.stop.table import CLOCK_S, stopped

QUIET_S = 0.5
"""So long at least the witness must have seen nothing of a host before that is silence."""
WATCH_AT_MOST_S = 5.0
"""No stop waits longer for a silence. Where a host's rate asks for more, the answer says so."""
GAPS = 14
"""So many mean gaps of a host's orders: at random, one pause in a million is as long."""
MOVED_S = 60.0
"""A stranger whose last order the witness saw within so many seconds may send the next one."""
SAME_S = 0.01
"""Two instants that differ by less are of one order: a witness may reckon them anew each time."""
UNASKED = "its router does not say when its own last order left (docs/contract.md, section 7)"


def runs(heard: WitnessAnswers) -> bool:
    """Whether a witness's clock runs as ours does between two answers: else they are old ones."""
    first, then = heard.first, heard.then
    advanced = then.taken - first.taken
    least, most = then.asked - first.answered, then.answered - first.asked
    return advanced > 0 and least - CLOCK_S <= advanced <= most + CLOCK_S


def quiet(heard: WitnessAnswers, host: str, since: float) -> bool:
    """Whether the witness shows a host's silence since ``since`` (our clock).

    It must have been asked after that, twice, and have seen nothing of the host in between. What it
    saw must be of after that too: one that repeats an old answer, or lags behind, can't be told
    from one whose clock is behind, and none has shown silence. A host that it doesn't know is not
    silent.
    """
    first, then = heard.first, heard.then
    if host not in first.last_child or host not in then.last_child:
        return False
    if min(first.asked, first.taken) < since:
        return False
    if then.asked - first.answered < QUIET_S or not runs(heard):
        return False
    before, last = first.last_child[host], then.last_child[host]
    if before is None or last is None:
        return before is None and last is None
    return abs(last - before) <= SAME_S and then.taken - last >= QUIET_S


def watched_s(answers: Sequence[Witnessed], host: str, since: float) -> float:
    """How long the witness saw nothing new of a host, up to its last answer; 0 for no silence.

    In seconds by our clock; ``since``: when the host had stopped, by that clock too.
    """
    for first in answers[:-1]:
        if quiet(WitnessAnswers(first, answers[-1]), host, since):
            return answers[-1].asked - first.answered
    return 0.0


def window(own: Own | None) -> tuple[float, bool]:
    """How long a host's silence is to be watched, in seconds; whether that alone shows it.

    Fourteen mean gaps of the rate at which the router says it sent before. A rate that is not
    known asks for the longest time; a router that says it sent nothing has none to be watched for.
    """
    if own is not None and own.children == 0:
        return QUIET_S, False
    if own is None or own.gap_s is None:
        return WATCH_AT_MOST_S, False
    needed = GAPS * own.gap_s
    return min(max(QUIET_S, needed), WATCH_AT_MOST_S), needed <= WATCH_AT_MOST_S


def needed_s(climbed: HostOutcome) -> float:
    """For how many seconds the silence of a host that stopped is to be watched."""
    return window(climbed.own if climbed.end is End.HALTED else None)[0]


def agrees(own: Own, witnessed: Witnessed, host: str) -> bool:
    """Whether the witness's last order of a host is the one that the router itself sent last.

    A router that sent none since it started agrees with a witness that saw none since.
    """
    last = witnessed.last_child.get(host)
    at = None if last is None else last - witnessed.skew_s
    if own.last_ago_s is None:
        return own.children == 0 and (at is None or at <= own.answered - own.counted_s + CLOCK_S)
    if at is None:
        return False
    earliest, latest = own.asked - own.last_ago_s, own.answered - own.last_ago_s
    return earliest - CLOCK_S <= at <= latest + CLOCK_S


def silence(climbed: HostOutcome, heard: Heard, pressed: float) -> SilenceVerdict:
    """Whether a host that was told to stop is silent: stopped, and heard of by nobody since.

    A HALTED router must say itself when its last order left, and the witness's last order must be
    that one; a DEAD host must have no process that may send. Either must have been watched for
    its window. Anything less is no silence.
    """
    host, answers = climbed.host, heard.answers
    if not stopped(climbed):
        return SilenceVerdict(silent=False)
    if heard.trouble or not answers:
        return SilenceVerdict(silent=False, why=heard.trouble, settled=False)
    if host not in answers[-1].last_child:
        return SilenceVerdict(silent=False, why="the witness does not name it")
    watched, needed = watched_s(answers, host, pressed + climbed.at_s), needed_s(climbed)
    if watched < needed:
        why = _too_short(watched, needed)
        return SilenceVerdict(silent=False, watched_s=watched, why=why, settled=False)
    if climbed.end is End.DEAD:
        return _of_dead(climbed, watched)
    return _of_halted(climbed, heard, watched)


def _of_dead(climbed: HostOutcome, watched: float) -> SilenceVerdict:
    """Of a host that was watched for its window, and on which nothing is left."""
    if climbed.may_send:
        left = ", ".join(climbed.may_send)
        why = f"{left} runs there and may send; {_for(watched)}"
        return SilenceVerdict(silent=False, watched_s=watched, why=why)
    why = f"{_for(watched)}, and no process that may send was found"
    return SilenceVerdict(silent=True, watched_s=watched, why=why)


def _of_halted(climbed: HostOutcome, heard: Heard, watched: float) -> SilenceVerdict:
    """Of a host that was watched for its window, and whose router says that it sends no more."""
    own, last = climbed.own, heard.answers[-1]
    if own is None:
        return SilenceVerdict(
            silent=False, watched_s=watched, why=f"{_for(watched)}, and {UNASKED}"
        )
    if not agrees(own, last, climbed.host):
        why, lags = _disagrees(own, last, climbed.host)
        return SilenceVerdict(silent=False, watched_s=watched, why=why, settled=not lags)
    if window(own)[1]:
        return SilenceVerdict(silent=True, watched_s=watched)
    rate = "it sent none before"
    if own.children:
        every = own.gap_s
        rate = "its rate is not known" if every is None else f"one every {every:.1f} s before"
    why = f"{_for(watched)} ({rate}), and that agrees with its router's own count"
    return SilenceVerdict(silent=True, watched_s=watched, why=why)


def _for(watched: float) -> str:
    return f"the witness saw no order of it for {watched:.1f} s"


def _too_short(watched: float, needed: float) -> str:
    if not watched:
        return (
            "the witness saw an order too late, or its answer was of before the stop (an old one, "
            "or a clock that is behind)"
        )
    return f"{_for(watched)} only; {needed:.1f} s are needed"


def _disagrees(own: Own, witnessed: Witnessed, host: str) -> tuple[str, bool]:
    """In what a witness and a router differ, and whether the witness may only be late."""
    last = witnessed.last_child.get(host)
    if own.last_ago_s is None:
        return "its router sent none since it started, and the witness saw one since then", False
    left = f"the router's own last order left {own.last_ago_s:.1f} s before it said HALTED"
    if last is None:
        return f"{left}, and the witness saw none", True
    later = last - witnessed.skew_s - (own.answered - own.last_ago_s)
    side = "after" if later > 0 else "before"
    return f"{left}; the witness's last came {abs(later):.1f} s {side} that one", later < 0


def strangers(
    heard: Heard, declared: Collection[str], others: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who sends, by the witness, and is none of the declared hosts; ``others`` of them apart.

    Whoever sent within the last minute may send the next moment: nothing has stopped it.
    """
    names = {name for answer in heard.answers for name in answer.last_child}
    moving = sorted(name for name in names - {*declared} if _moves(heard.answers, name))
    return (
        tuple(name for name in moving if name not in others),
        tuple(name for name in moving if name in others),
    )


def _moves(answers: Sequence[Witnessed], name: str) -> bool:
    lasts = [(a.taken, a.last_child[name]) for a in answers if name in a.last_child]
    seen = [last for _, last in lasts if last is not None]
    if len(seen) < len(lasts):
        return bool(seen)  # its first order came while we looked
    recent = any(last is not None and last > taken - MOVED_S for taken, last in lasts)
    return recent or max(seen) - min(seen) > SAME_S
