"""``deploytool stop`` once it can't be warm alone: the cold way, the witness, the answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploytool.errors import InputError
from deploytool.parity.words import let_in_command
from deploytool.stop.escalation import Beside, escalate_all
from deploytool.stop.members import unlisted
from deploytool.stop.model import (
    End,
    Event,
    Heard,
    HostOutcome,
    Renewal,
    Rung,
    Step,
    StopRequest,
    WitnessAnswers,
    Witnessed,
)
from deploytool.stop.outcome import StopOutcome, instant, make_row, outcome_from
from deploytool.stop.record import read_record
from deploytool.stop.silence import QUIET_S, needed_s, runs, silence, strangers
from deploytool.stop.table import last_child_s, lease_end, stopped
from deploytool.stop.targets import StopTargets, read_targets
from deploytool.stop.watch_client import WatchClient
from deploytool.stop.witness import NOT_UNDERSTOOD, ask_witness

STOP_S = 60.0
"""From the key press: whoever has not come to an end by then is not shown to have stopped."""
WARM_S = 8.0
"""So long a host is left to the warm way after that was last heard to be at it."""
SILENCE_S = 3.0
"""So long beyond its window the witness is asked again, where it has not seen the silence yet."""
_PAUSE_AT_MOST_S = 1.0
_NAMES_AT_MOST = 6
_POLL_S = 0.02
_LEASE_AT_MOST_S = 3600.0
Said = Callable[[str], None]


@dataclass(frozen=True)
class Pressed:
    """What was typed. ``hosts`` empty: all of them."""

    inventory: str
    hosts: tuple[str, ...]
    order: StopRequest


@dataclass
class Course:
    """How far a stop has come, for whoever has to say so where it breaks."""

    names: tuple[str, ...] = ()
    """Whom it is for; empty where that was not known yet."""
    climbed: Mapping[str, HostOutcome] = field(default_factory=dict)

    @property
    def unended(self) -> tuple[str, ...]:
        """Who was not shown to have stopped."""
        ended = {host for host, one in self.climbed.items() if stopped(one)}
        return tuple(name for name in self.names if name not in ended)


class _Press:
    """The hosts of one stop, told by the watch, by ourselves, or by both; the first end counts."""

    def __init__(
        self,
        card: StopTargets,
        names: tuple[str, ...],
        order: StopRequest,
        warm: WatchClient | None,
    ) -> None:
        self._order = order
        self._warm = warm
        self._began = time.monotonic()
        self._ways = {t.host: t for t in card.targets if t.host in names}
        self._unfit = {host: why for host, why in card.unfit.items() if host in names}
        self._waiting = set(names)
        """Whom nobody has begun to tell the cold way."""
        self.climbed: dict[str, HostOutcome] = {}
        self._broke: Exception | None = None

    def climb(self, ends: float, said: Said, lease: Callable[[str], str]) -> None:
        """Until each host has come to an end, or time is up.

        ``lease`` names the end of an unreachable host's: whoever waits for the others, and for the
        witness, knows it by then.

        Raises:
            Exception: what could not be said of a host (a bug), after all have come to an end.
        """

        def ended(one: HostOutcome) -> None:
            before = self.climbed.get(one.host)
            if before is None or (stopped(one) and not stopped(before)):
                self.climbed[one.host] = one
                try:
                    text = one.steps[-1].text if one.steps else ""
                    more = lease(one.host) if one.end is End.OUT_OF_REACH else ""
                    said(f"{one.host}: {one.end.value} after {one.at_s:.2f} s: {text}{more}")
                except Exception as error:  # noqa: BLE001 raised below: first all others are stopped
                    self._broke = self._broke or error

        def beside() -> Beside:
            for one in self._by_warm():
                ended(one)
            # Whom the watch could not show to have stopped is told the cold way too.
            ended_by_it = {h for h, one in self.climbed.items() if one.end is not End.NOT_SHOWN}
            joining = [
                host
                for host in sorted(self._waiting - ended_by_it)
                if host in self.climbed or not self._left_to_warm(host)
            ]
            self._waiting -= {*joining, *ended_by_it}
            for host in joining:
                if host in self._unfit:
                    ended(self._untold(host))
            settled = frozenset(host for host, one in self.climbed.items() if stopped(one))
            ways = [self._ways[h] for h in joining if h in self._ways and h not in settled]
            return Beside(ways, settled, bool(self._waiting) or self._may_succeed(settled))

        escalate_all(
            (), self._order, ends=ends, done=lambda one: ended(one.climbed()), beside=beside
        )
        for host in sorted(self._waiting - set(self.climbed)):
            at_s = time.time() - self._order.pressed
            text = "the watch has not said how it ended"
            ended(
                HostOutcome(
                    host, End.NOT_SHOWN, at_s, (Step(Rung.QUIESCE, Event.LATE, at_s, text),)
                )
            )
        if self._broke is not None:
            raise self._broke

    def _by_warm(self) -> list[HostOutcome]:
        """What the watch has said since, of hosts that it knows as we do."""
        warm = self._warm
        if warm is None:
            return []
        warm.listen(0.001)
        documents, warm.climbed = warm.climbed, {}
        if warm.changed:
            return []
        try:
            return [outcome_from(document) for document in documents.values()]
        except NOT_UNDERSTOOD:
            warm.over, warm.trouble = True, "the watch of this machine is not understood"
            return []

    def _left_to_warm(self, host: str) -> bool:
        warm = self._warm
        if warm is None or warm.over or warm.changed:
            return False
        if host in self._unfit:
            return host in warm.taking  # nobody else knows the way to it
        return host in warm.heard and time.monotonic() < warm.heard[host] + WARM_S

    def _may_succeed(self, settled: frozenset[str]) -> bool:
        """Whether the watch may stop somebody yet whom we could not."""
        warm = self._warm
        if warm is None or warm.over or warm.changed:
            return False
        return time.monotonic() < self._began + WARM_S and bool(
            warm.taking & self.climbed.keys() - settled
        )

    def _untold(self, host: str) -> HostOutcome:
        text = f"it could not be told: {self._unfit[host]}"
        at_s = time.time() - self._order.pressed
        step = Step(Rung.QUIESCE, Event.UNREACHABLE, at_s, text)
        return HostOutcome(host, End.OUT_OF_REACH, at_s, (step,))


def stop(
    pressed: Pressed,
    warm: WatchClient | None,
    trouble: str,
    said: Said = lambda _line: None,
    course: Course | None = None,
) -> StopOutcome:
    """Stops what is to be stopped, and asks the witness; ``said`` gets a line as each host ends.

    ``course`` knows at every moment how far it has come.

    Raises:
        InputError: the inventory is of no use, or no host is in it; nothing was stopped.
    """
    order = pressed.order
    ends = time.monotonic() + STOP_S
    card, unread = _card(pressed, warm)
    names, unknown = _chosen(card, pressed)
    order = order.to(names)
    press = _Press(card, names, order, warm)
    if course is not None:
        course.names, course.climbed = names, press.climbed

    def lease(host: str) -> str:
        known, goes_on = _renewals(pressed.inventory, warm, trouble)
        at, _ = lease_end(time.time(), card.lease_s, known.get(host), renewing=goes_on)
        return "" if at is None else f"; its lease ends by {instant(at)} at the latest"

    press.climb(ends, said, lease)
    heard = Heard(trouble=unread) if unread else _witness(card, order, press.climbed)
    renewals, renewing = _renewals(pressed.inventory, warm, trouble)
    now = time.time()
    rows = tuple(
        make_row(
            press.climbed[host],
            order,
            heard,
            (card.lease_s, renewals.get(host), renewing),
            now,
        )
        for host in names
    )
    moving, elsewhere = strangers(heard, card.shown, card.others)
    lasts = {name: _last_s(heard.answers, name, order.pressed) for name in moving}
    changed = "the inventory has changed since the watch began: it told the hosts that it knows"
    by_warm = (warm.trouble, changed * warm.changed) if warm else ()
    troubles = tuple(text for text in (trouble, *by_warm) if text)
    doubt = "" if pressed.hosts else _doubt(card, press.climbed)
    back: tuple[str, ...] = ()
    if card.targets and not card.signers:
        stopped_ = [one.host.partition(",")[0] for one in press.climbed.values() if stopped(one)]
        told = (let_in_command(h, pressed.inventory, card.supervisor) for h in sorted(stopped_))
        back = tuple(told)
    return StopOutcome(order, rows, heard.trouble, troubles, unknown, doubt, lasts, elsewhere, back)


def _doubt(card: StopTargets, climbed: Mapping[str, HostOutcome]) -> str:
    """Why there may be hosts of the fleet that were not told."""
    untold = unlisted(climbed.values(), card.shown) if card.targets else ()
    text = f"the hosts' own list of members has {', '.join(untold)} too, and NOTHING was told there"
    return "; ".join(filter(None, (card.doubt, text if untold else "")))


def _card(pressed: Pressed, warm: WatchClient | None) -> tuple[StopTargets, str]:
    """The fleet; where the inventory can't be read, what the watch knows of it, and why.

    Raises:
        InputError: it can't be read, and no watch has taken the stop over.
    """
    try:
        return read_targets(Path(pressed.inventory)), ""
    except InputError as error:
        if warm is None or not warm.taking:
            raise
        # The watch has read it when it was well. Nobody else knows better, so it is believed.
        warm.changed = False
        unfit = dict.fromkeys(warm.taking, "only the watch knows the way to it")
        return StopTargets("", "/", (), unfit=unfit), f"no witness could be asked: {error.what}"


def _chosen(card: StopTargets, pressed: Pressed) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The declared hosts that are to be stopped, and what was typed and is none."""
    unknown = tuple(sorted(host for host in set(pressed.hosts) if host not in card.shown))
    chosen = {name for host in pressed.hosts for name in card.shown.get(host, ())}
    names = tuple(name for name in card.names if not pressed.hosts or name in chosen)
    if not names:
        raise InputError(
            f"{', '.join(unknown)}: not in the inventory.",
            "NOTHING WAS STOPPED.",
            f"The hosts of {card.fleet} are: {', '.join(card.names)}",
        )
    return names, unknown


def _witness(card: StopTargets, order: StopRequest, climbed: Mapping[str, HostOutcome]) -> Heard:
    """Asks until every host that stopped is known to be silent, or not to be, or time is up."""
    told = [one for one in climbed.values() if stopped(one)]
    longest = max((needed_s(one) for one in told), default=QUIET_S)
    ends = time.monotonic() + longest + SILENCE_S
    answers: list[Witnessed] = []
    trouble = ""
    while True:
        try:
            heard = ask_witness(card)
            if isinstance(heard, str):
                trouble = heard
                if not card.silence:
                    break
            else:
                trouble = ""
                answers.append(heard)
            left, begun = _left(answers, order, told)
            # Where the machine or the witness is slow, what has begun is watched to its end.
            begun = begun and not trouble
            if not left or (time.monotonic() >= ends and not begun):
                break
            time.sleep(left + _POLL_S)
        except KeyboardInterrupt:
            trouble = "the witness was not waited for: you interrupted it"
            break
    if len(answers) < 2:
        return Heard(tuple(answers), trouble)
    return Heard(tuple(answers), _of_no_use(card, answers))


def _last_s(answers: tuple[Witnessed, ...], name: str, pressed: float) -> float:
    """From the key press to the last order of someone of whom the witness saw one, in seconds."""
    seen = (last_child_s(answer, name, pressed) for answer in answers)
    return max(last for last in seen if last is not None)


def _left(
    answers: list[Witnessed], order: StopRequest, told: list[HostOutcome]
) -> tuple[float, bool]:
    """How long to wait before the witness is asked again, in seconds; 0 where all is known.

    And whether a silence has begun that was not watched for long enough yet.
    """
    if len(answers) < 2:
        return QUIET_S, bool(answers)
    heard = Heard(tuple(answers))
    shown = [(one, silence(one, heard, order.pressed)) for one in told]
    waits = [(needed_s(one), so_far.watched_s) for one, so_far in shown if not so_far.settled]
    if not waits:
        return 0.0, False
    left = max(needed - watched for needed, watched in waits)
    begun = any(0 < watched < needed for needed, watched in waits)
    return min(max(QUIET_S / 2, left), _PAUSE_AT_MOST_S), begun


def _of_no_use(card: StopTargets, answers: list[Witnessed]) -> str:
    """Why a witness's answers show nothing of any host; empty where they may."""
    if not runs(WitnessAnswers(answers[-2], answers[-1])):
        return "the witness's clock does not run as ours does: what it says may be old"
    names = answers[-1].last_child
    if names.keys() & card.shown.keys():
        return ""
    named = ", ".join(sorted(names)[:_NAMES_AT_MOST]) or "none at all"
    return f"the witness names none of this fleet's hosts (it names {named}), so it shows nothing"


def _renewals(
    inventory: str, warm: WatchClient | None, trouble: str
) -> tuple[dict[str, Renewal], bool]:
    """What is known of the last renewals, and whether they may go on all the same."""
    told = warm is not None and warm.answered
    said: Mapping[str, Any] = warm.renewals if warm and told else read_record(inventory)
    # One that hangs reads what it was asked before it renews again; one that hung up may not.
    renewing = bool(trouble) if warm is None else bool(warm.trouble) or (warm.over and not told)
    found = {}
    for host, one in said.items():
        try:
            renewal = Renewal(float(one["wall"]), float(one["lease_s"]), bool(one["taken"]))
        except NOT_UNDERSTOOD:
            continue  # what can't be read is the worst case, below
        # An old one counts, and the witness may contradict it. One from the future can't be: a
        # clock was set since, or the record is damaged.
        wall = math.isfinite(renewal.wall) and 0 < renewal.wall <= time.time() + renewal.lease_s
        sound = wall and 0 < renewal.lease_s <= _LEASE_AT_MOST_S
        if sound or renewal.taken:
            found[str(host)] = renewal
    return found, renewing
