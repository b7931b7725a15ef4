"""Escalates a stop on many hosts at once, in one thread, and waits for none of them alone.

Theory of operation
-------------------
``stop/runner.py`` calls ``escalate_all`` (the cold way). A watch builds ``HostEscalation`` over
connections that are open already and drives an ``Escalation`` in its own loop (the warm way).

Each host climbs the rungs of ``stop/table.py`` by itself: quiesce, again, fence, kill, look, and
kill and look once more. ``HostEscalation`` is one host on its way up:

1. ``begin`` sends what the rung says. The first rung is the agent's (format 2). All others need no
   agent and no Python (format 1), so a change from one to the other opens a new connection.
2. ``listen`` takes in what arrived; ``event_of`` turns a whole answer into an event.
3. ``late`` is called when the deadline in ``wakes`` has passed: the connection is given up.
4. Each event goes to the table, which names the next rung or an end. ``climbed`` returns the
   outcome.

``Escalation`` holds all hosts of one stop: it waits on their connections with one selector, calls
``done`` as each host ends, and gives turns to hosts for which this machine has no room yet (file
descriptors, processes). ``escalate_all`` adds the deadline for all of them, and asks ``beside``
between waits which hosts join and which need not go on, because a watch has stopped them.

A connection that fails before the host said anything is tried once more, past the user's own SSH
configuration (``_go_spare``). A host whose key is not pinned, in a file that cannot be used, is
told without verification (``_go_unverified``): it is asked to stop, and no answer counts.

What may never happen
---------------------
- One host's failure, flood, hang or bug of ours keeps another host from its next rung
  (``_guarded``).
- A host is killed before a fence was tried: its supervisor would start it again.
- A rung is waited for without a deadline, or an escalation has no end: the table only goes up.
- An end says more than the last answer showed. A lost answer is not success; an empty process list
  is DEAD, and counts as stopped only where the host shows that nothing starts the service again.
- An unverified host is reported as stopped.
- A host is left out silently: whoever still climbs when time is up is named by ``give_up``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from deploytool.agent.model import Survey
from deploytool.agent.requests import (
    Answer,
    Halt,
    Halted,
    HaltRelease,
    Killed,
    KillStrays,
    LookAfterStop,
    Request,
    Surveyed,
)
from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.openssh import TURNED_AWAY
from deploytool.fleet.protocol import Call, Reply
from deploytool.stop.channel import NoRoom, SshChannel
from deploytool.stop.listening import Listening
from deploytool.stop.members import listed
from deploytool.stop.model import End, Event, HostOutcome, Listed, Own, Rung, Step, StopRequest
from deploytool.stop.table import (
    ANSWERS_S,
    CONNECT_S,
    DEADLINE_S,
    FIRST,
    ON_HOST_S,
    UNGUARDED,
    advance,
)
from deploytool.stop.targets import Target, unverified

_BESIDE_S = 0.02
_PAUSE_S = 0.2
"""Between two knocks at a door that was shut at once."""
FIRST_WORD_S = 6.0
"""Until a host that let us in must have printed a word; a line that stays silent is dead."""
_TURNED_AWAY_S = (0.2, 0.3, 0.5, 0.7, 1.0, 1.4)
"""Pauses before the next try at a machine that hung up before its greeting: many log in at once."""
_ROOM_S = 0.02
"""Between two tries to find room for the host whose turn is next."""
_NO_PIN = "host key is known for"
"""What the client says where it knows no key of a host at all, and never of one that changed."""
_LOOKS = frozenset({Rung.LOOK, Rung.LOOK_AGAIN})
_SECONDS_AT_MOST = 1e9
_REASON_AT_MOST = 200
_NOT_LATCHED = "not latched by deploytool: its state folder can't be written"
_WORDS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@._:-"


def in_words(text: str, limit: int = 200) -> str:
    """A text in the alphabet of requests: what isn't in it becomes a plus sign, once for a run."""
    kept = "".join(c if c in _WORDS else "+" for c in text[:limit])
    return "+".join(word for word in kept.split("+") if word) or "none"


_OF_AGENT = frozenset({Rung.QUIESCE, Rung.AGAIN})
"""Rungs that are the agent's; all others are told in the format that needs no agent."""


def call_of(rung: Rung, order: StopRequest) -> Call | Request:
    """What a host is told on a rung."""
    if rung in _OF_AGENT:
        words: dict[str, Any] = {
            "latch": order.latch,
            "by": in_words(order.by, 60),
            "reason": order.reason[:_REASON_AT_MOST],
            "since": int(order.pressed),
            "seconds": ON_HOST_S[rung],
            "hosts": order.hosts or None,
        }
        return HaltRelease(only=order.only, **words) if order.only else Halt(**words)
    why = (("by", in_words(order.by, 60)), ("reason", in_words(order.reason)))
    mark = (("latch", order.latch), ("since", str(int(order.pressed))))
    if rung is Rung.FENCE:
        return Call("fence", (*why, *mark))
    if rung in {Rung.KILL, Rung.KILL_AGAIN}:
        return Call("kill", (*why, *mark, ("seconds", str(ON_HOST_S[rung]))))
    return Call("look", changes=False)


def event_of(rung: Rung, reply: Reply | Answer) -> tuple[Event, str]:
    """What an answer comes to, and in a few words why."""
    if isinstance(reply, Answer) and rung in _OF_AGENT:
        return _quiesced(reply)
    if isinstance(reply, Answer):
        return _by_agent(reply)
    if rung is Rung.FENCE:
        masked = reply.one("masked")
        text = f"fenced {reply.one('fenced') or 'no'}" + (f", masked {masked}" if masked else "")
        return (Event.DONE if _fenced(reply) else Event.NOT_CONFIRMED), text
    if rung in {Rung.KILL, Rung.KILL_AGAIN}:
        return Event.DONE, f"{reply.one('killed') or '0'} processes killed"
    alive, ports = reply.all("alive"), reply.all("open")
    if not alive and not ports:
        return Event.EMPTY, "no process, and no port open"
    left = [f"process {pid}" for pid in alive] + [f"port {port} open" for port in ports]
    return Event.ALIVE, ", ".join(left[:6])


def _fenced(reply: Reply) -> bool:
    """Whether a fence, by its own answer, keeps the host from being started again.

    A mask alone does not: a deployment and ``host prepare`` lift it.
    """
    return (reply.one("fenced") or "no") != "no"


def _by_agent(answer: Answer) -> tuple[Event, str]:
    """What the agent's own look comes to, or its end of strays."""
    if isinstance(answer, Killed):
        return Event.DONE, f"{answer.killed} processes killed"
    if not isinstance(answer, Surveyed):
        return Event.LOST, "it does not say what it sees"
    seen = answer.survey
    if not seen.alive and not seen.open_ports:
        return Event.EMPTY, "no process, and no port open"
    left = [f"process {process.pid}" for process in seen.alive]
    left += [f"port {port} open" for port in seen.open_ports]
    return Event.ALIVE, ", ".join(left[:6])


def _quiesced(said: Answer) -> tuple[Event, str]:
    if not isinstance(said, Halted):
        return Event.NOT_CONFIRMED, "it does not say what came of it"
    if said.skipped:
        return Event.OTHER_RELEASE, "it runs another release"
    if said.said is None:
        return Event.NOT_CONFIRMED, "the inventory names no halt command"
    plain, answer = _halt_answer(said)
    if answer.get("trading_state") != "HALTED":
        return Event.NOT_CONFIRMED, excerpt(plain)
    if answer.get("on_disk") is False:
        return Event.NOT_CONFIRMED, "it says HALTED, but not on disk: a restart would trade"
    named = isinstance(answer.get("latch"), str) and bool(answer["latch"])
    if not (said.latched and said.synced) and not (named and answer.get("on_disk") is True):
        # What a loss of power takes away is no latch.
        text = "it says HALTED, but neither it nor the host shows a latch on disk"
        return Event.NOT_CONFIRMED, text
    if answer.get("running") is False:
        return Event.NOT_CONFIRMED, "nothing serves; the next process to start is latched"
    if said.strays:
        first = said.strays[0]
        text = f"not the service's, and not halted: process {first.pid} ({first.detail[:100]})"
        return Event.NOT_CONFIRMED, excerpt(text)
    return Event.CONFIRMED, f"the router says HALTED, latch {excerpt(str(answer.get('latch')))}"


def _halt_answer(halted: Halted) -> tuple[str, dict[str, Any]]:
    """What the router's ``halt`` printed, and the object in it; an empty one where none is."""
    if halted.said is None:
        return "", {}
    plain = halted.said.answer.strip() or halted.said.errors
    if halted.said.code != 0:
        return plain or f"it ended with {halted.said.code}", {}
    try:
        answer = json.loads(plain)
    except (ValueError, RecursionError):
        return plain, {}
    return plain, answer if isinstance(answer, dict) else {}


def own_of(halted: Halted, asked: float, answered: float) -> Own | None:
    """What the router said of its own orders (docs/contract.md, section 7); None where nothing.

    ``asked``, ``answered``: in seconds since the epoch. What can't be is nothing.
    """
    sent = _halt_answer(halted)[1].get("sent")
    if not isinstance(sent, dict) or type(sent.get("children")) is not int:
        return None
    spans = (_span(sent.get(key)) for key in ("counted_s", "last_ago_s", "gap_s"))
    counted_s, last_ago_s, gap_s = spans
    children = sent["children"]
    if children < 0 or counted_s is None or (children == 0) != (last_ago_s is None):
        return None
    return Own(asked, answered, children, counted_s, last_ago_s, gap_s)


def _span(value: object) -> float | None:
    """So many seconds; None for what is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _SECONDS_AT_MOST else None


class HostEscalation:
    """One host on its way up. ``line`` may be open already; whoever gave it keeps it."""

    def __init__(self, target: Target, order: StopRequest, line: SshChannel | None = None) -> None:
        self.target = target
        self._argv = target.argv
        self._order = order
        self._tells = order
        """The same, or what of it is said to a host whose key could not be verified."""
        self._unverified = False
        self.waits = False
        """Whether it waits for its turn: this machine has no room for its line."""
        self._scarce = ""
        """What there was none of, in the last try."""
        self.line = line
        self._given = line
        self.rung: Rung | End = FIRST
        self.steps: list[Step] = []
        self._notes: list[str] = []
        self._guarded = False
        """Whether it was shown that nothing starts it again."""
        self._masked = False
        self._latched: bool | None = None
        self._fenced: bool | None = None
        """Whether a latch of a stop, and its fence, were seen there last."""
        self._members: Listed | None = None
        self._own: Own | None = None
        self._may_send: tuple[str, ...] = ()
        self._speaks = False
        """Whether its agent has answered, and not failed since."""
        self._only_strays = False
        """Whether what was seen alive is none of the service's."""
        self._asked_what_runs = False
        """Whether it has answered to the rung that asks which release it runs."""
        self.wakes = 0.0
        """When something is due here though nothing was heard (``time.monotonic``)."""
        self._began = 0.0
        """When the host was told what its rung says (``time.monotonic``)."""
        self._pausing = False
        self._turned_away = 0
        """How often it was, or its jump host."""
        self.heard = False
        """Whether the host has begun to answer, on whichever rung."""
        self.let = False
        """Whether it was let go before its end."""

    @property
    def host(self) -> str:
        """The host's name."""
        return self.target.host

    @property
    def over(self) -> bool:
        """Whether the ladder has ended here."""
        return isinstance(self.rung, End)

    def begin(self) -> None:
        """Tells the host what its rung says, over the line that is open or over a new one."""
        rung = self.rung
        assert isinstance(rung, Rung)  # noqa: S101 nothing begins at an end
        self._pausing, self.waits, self._scarce = False, False, ""
        patience = ANSWERS_S if self.line is self._given else FIRST_WORD_S
        try:
            asks = self._asks(rung)
            if self.line is not None and self.line.of_agent and isinstance(asks, Call):
                # What has become the agent has no shell any more, and may be what hangs.
                self._let_line_go()
            if self.line is None or self.line.over:
                self.line = SshChannel(self._argv, self.target.host)
                patience = FIRST_WORD_S + CONNECT_S
            self.line.ask(asks)
        except NoRoom as why:
            self.waits, self._scarce, self.wakes = True, str(why), float("inf")
            return
        except HostFault as fault:
            self._happened(Event.UNREACHABLE, fault.text)
            return
        self._began = time.monotonic()
        self.wakes = self._began + patience

    def _asks(self, rung: Rung) -> Call | Request:
        """What it is told: an agent that has answered looks at the whole host."""
        if self._speaks and rung in _LOOKS:
            return LookAfterStop()
        if self._speaks and rung is Rung.KILL_AGAIN and self._only_strays:
            return KillStrays(seconds=ON_HOST_S[rung])
        return call_of(rung, self._tells)

    def listen(self) -> None:
        """Takes in what was heard."""
        line, rung = self.line, self.rung
        if line is None or not isinstance(rung, Rung):
            return
        reached, begun = line.reached, line.begun
        try:
            reply = line.hear()
        except HostFault as fault:
            self._ended(line, rung, fault)
            return
        now = time.monotonic()
        if line.reached and not reached:
            self.heard = True
            self.wakes = now + max(ANSWERS_S, now - self._began)
        if line.begun and not begun:
            self.heard = True
            self.wakes = now + DEADLINE_S[rung]
        if reply is not None:
            try:
                self._note(rung, reply)
                happened = event_of(rung, reply)
            except HostFault as fault:  # it says one thing twice: that is no answer
                odd = Event.LOST if rung in _LOOKS else Event.NOT_CONFIRMED
                happened = odd, fault.text
            self._happened(*happened)

    def _ended(self, line: SshChannel, rung: Rung, fault: HostFault) -> None:
        """A line has ended without an answer, or with a refusal."""
        event = self._came_of(rung, fault)
        if not line.reached and "config" in fault.text.lower():
            self._go_spare()
        self._drop()
        if line.no_room:
            self._pause(fault.text)
        elif line.turned_away and self._turned_away < len(_TURNED_AWAY_S):
            self._pause(pause_s=_TURNED_AWAY_S[self._turned_away])
            self._turned_away += 1
        elif not line.reached and self.target.unpinned and _NO_PIN in line.said:
            self._go_unverified(rung)
        else:
            self._happened(event, TURNED_AWAY if line.turned_away else fault.text)

    def _came_of(self, rung: Rung, fault: HostFault) -> Event:
        self._speaks = fault.kind is FaultKind.REFUSED and rung in _OF_AGENT
        event = self._without_answer(Event.LOST)
        if fault.kind is FaultKind.REFUSED and event is Event.LOST and rung not in _LOOKS:
            return Event.NOT_CONFIRMED
        if fault.kind is FaultKind.AGENT and rung in _OF_AGENT:
            return Event.NOT_CONFIRMED  # there is no agent, or an older one: it is fenced next
        return event

    def late(self) -> None:
        """Its time is up: the line is given up, and the next rung has a new one.

        What has arrived meanwhile counts: it may be this machine that was slow.
        """
        if self._pausing:
            self.begin()
            return
        self.listen()
        if self.wakes > time.monotonic() or self.over:
            return
        event, self._speaks = self._without_answer(Event.LATE), False
        text = "no answer in time"
        if self.line is not None and not self.line.reached:
            self._go_spare()
        elif event is Event.LATE and self.line is not None and not self.line.begun:
            waited_s = time.monotonic() - self._began
            text = f"the host was reached, and its agent did not answer within {waited_s:.1f} s"
        self._drop()
        self._happened(event, text)

    def _go_spare(self) -> None:
        """What broke, or never answered, may be the person's own configuration or agent."""
        self._argv = self.target.spare or self._argv

    def _go_unverified(self, rung: Rung) -> None:
        """The pinned keys are of no use: the host is told all the same, and never believed.

        Whatever answers learns who may log in and that a stop was pressed, and nothing more.
        """
        text = "no key is pinned for it; it is told without, and not believed"
        self._add(rung, Event.UNREACHABLE, text)
        self._argv, self._unverified = unverified(self.target, self._argv), True
        self._tells = replace(
            self._order, by="unverified", reason="the host key is not verified", hosts=""
        )
        self.begin()

    def _pause(self, scarce: str = "", pause_s: float = _PAUSE_S) -> None:
        self._pausing, self._scarce = True, scarce
        self.wakes = time.monotonic() + pause_s

    def _add(self, rung: Rung, event: Event, text: str) -> None:
        text = f"unverified: {text}" if self._unverified else text
        self.steps.append(Step(rung, event, time.time() - self._order.pressed, text))

    def _without_answer(self, event: Event) -> Event:
        """A line that led nowhere tells nothing of the host; one that has carried a word does.

        A line that was open beforehand and is dead now has to be tried anew first.
        """
        line = self.line
        if line is None or not line.reached:
            return Event.UNREACHABLE
        stale = line is self._given and self.rung is FIRST and not line.begun
        return Event.UNREACHABLE if stale else event

    def _happened(self, event: Event, text: str) -> None:
        """Climbs on."""
        rung = self.rung
        assert isinstance(rung, Rung)  # noqa: S101 nothing happens after an end
        self._add(rung, event, text)
        self.rung = advance(rung, event)
        if isinstance(self.rung, End):
            if self.line is not self._given:
                self._drop()
        elif self.rung is Rung.AGAIN:
            self._pause()
        else:
            self.begin()

    def _note(self, rung: Rung, reply: Reply | Answer) -> None:
        if isinstance(reply, Answer):
            self._speaks = True
            if isinstance(reply, Halted):
                self._note_halted(reply)
            elif isinstance(reply, Surveyed):
                self._note_survey(reply.survey)
            if isinstance(reply, Halted | Surveyed):
                self._members = listed(reply.members) or self._members
            return
        if reply.one("latched") == "no":
            self._notes.append(_NOT_LATCHED)
        if rung is Rung.FENCE:
            self._guarded = self._fenced = _fenced(reply)
            self._masked = reply.one("masked") == "yes"
        elif rung in _LOOKS:
            # The answer to the fence may have been lost; what it did is there to be seen. Behind a
            # mask this stop's latch does: whoever would lift the mask to start it is refused by it.
            mine = f"latch {self._order.latch} "
            held = any(f"{text} ".startswith(mine) for text in reply.all("halted"))
            self._latched, self._fenced = bool(reply.all("halted")), bool(reply.all("fenced"))
            shown = bool(reply.all("fenced")) or (self._masked and held)
            self._guarded = self._guarded or shown
            self._may_send = tuple(f"process {excerpt(one)}" for one in reply.all("may"))

    def _note_halted(self, halted: Halted) -> None:
        if not halted.skipped:
            self._latched = halted.latched
        if not halted.latched and not halted.skipped:
            self._notes.append(_NOT_LATCHED)
        self._asked_what_runs = True
        asked = self.line.asked_at if self.line is not None else 0.0
        self._own = own_of(halted, asked, time.time())

    def _note_survey(self, seen: Survey) -> None:
        self._latched, self._fenced = seen.latched, seen.fenced
        mine = seen.latch is not None and seen.latch.latch == self._order.latch
        self._guarded = self._guarded or seen.fenced or (self._masked and mine)
        strays = {other.pid for other in seen.others if other.role == "acts"}
        self._only_strays = {process.pid for process in seen.alive} <= strays
        self._may_send = tuple(
            excerpt(f"process {other.pid} {other.detail}".strip())
            for other in seen.others
            if other.role in {"account", "unseen"}
        )

    def _let_line_go(self) -> None:
        """Goes on over a line of its own; one that was lent stays with whoever lent it."""
        if self.line is not self._given:
            self._drop()
        self.line = None

    def _drop(self) -> None:
        if self.line is not None:
            self.line.close()
            self.line = None

    def let_go(self) -> None:
        """It need not climb on: it was seen to have stopped by another way."""
        if not self.over:
            self._drop()
            self.rung, self.let = End.NOT_SHOWN, True

    def broke(self, error: Exception) -> None:
        """A bug of ours met this host: it is not shown to have stopped, and all others go on."""
        if isinstance(self.rung, Rung):
            self._add(self.rung, Event.LOST, f"a bug of deploytool: {error!r}")
        self.rung = End.NOT_SHOWN
        self._drop()

    def give_up(self) -> None:
        """Nobody waits any longer."""
        if not isinstance(self.rung, Rung):
            return
        self._drop()
        if self._scarce:
            text = f"not told: this machine has no room for one more connection ({self._scarce})"
            self._add(self.rung, Event.UNREACHABLE, text)
        else:
            self._add(self.rung, Event.LATE, "no answer when the time for all was over")
        self.rung = End.NOT_SHOWN if self.heard else End.OUT_OF_REACH

    def climbed(self) -> HostOutcome:
        """How it ended."""
        end = self.rung if isinstance(self.rung, End) else End.NOT_SHOWN
        at_s = self.steps[-1].at_s if self.steps else 0.0
        notes = tuple(self._notes)
        if end is End.DEAD and not self._guarded:
            notes += (f"{UNGUARDED}: a supervisor or a reboot may start it again",)
        fenced = any(step.rung is Rung.FENCE for step in self.steps)
        if self._order.only and fenced and not self._asked_what_runs:
            notes += ("its release was not known",)
        if self._unverified:
            # It may be anything that answers there: a halt of it is no halt of the host.
            end = End.OUT_OF_REACH if end is End.OUT_OF_REACH else End.NOT_SHOWN
            why = f"its host key was not verified ({self.target.unpinned})"
            notes = (f"{why}: it was told, and nothing that it answered counts",)
            return HostOutcome(self.host, end, at_s, tuple(self.steps), notes)
        return HostOutcome(
            self.host,
            end,
            at_s,
            tuple(self.steps),
            notes,
            self._own,
            self._may_send[:6],
            self._latched,
            self._fenced,
            self._members,
        )


class Escalation:
    """All hosts of one stop. ``done`` is called as each one ends, in this thread."""

    def __init__(
        self,
        climbs: Iterable[HostEscalation],
        listening: Listening,
        done: Callable[[HostEscalation], None] = lambda _climb: None,
    ) -> None:
        self._climbs = list(climbs)
        self._listening = listening
        self._done = done
        self._told: set[HostEscalation] = set()
        self._watched: dict[HostEscalation, SshChannel] = {}
        self._queue: dict[HostEscalation, None] = {}
        """Who waits for room on this machine, in turn."""
        self._room_at = 0.0
        self._had_turns: set[HostEscalation] = set()
        self.turned = 0.0
        """When the last of those got its first turn (``time.monotonic``)."""

    @property
    def over(self) -> bool:
        """Whether every host's ladder has ended."""
        return len(self._told) == len(self._climbs)

    def join(self, climbs: Iterable[HostEscalation]) -> None:
        """Some more hosts begin to climb."""
        joining = list(climbs)
        self._climbs += joining
        for one in joining:
            self._guarded(one, one.begin)

    def begin(self) -> None:
        """Tells every host; none is waited for."""
        for one in self._climbs:
            self._guarded(one, one.begin)
        self.settle()

    @property
    def wakes(self) -> float:
        """When something is due though nothing was heard (``time.monotonic``)."""
        due = min((one.wakes for one in self._climbs if not one.over), default=float("inf"))
        return min(due, self._room_at) if self._queue else due

    def heard(self, climb_: HostEscalation) -> None:
        """One of its lines has something to say, or takes more."""
        if climb_.line is not None and not climb_.over:
            if climb_.line.unsent:
                climb_.line.flush()
            self._guarded(climb_, climb_.listen)
        self.settle()

    def settle(self) -> None:
        """Does what is due, and watches the lines that are open now."""
        now = time.monotonic()
        for one in self._climbs:
            if not one.over and one.wakes <= now:
                self._guarded(one, one.late)
            if one.waits and not one.over:
                self._queue.setdefault(one)
        self._give_turns(now)
        self._watch()
        for one in self._climbs:
            if one.over and one not in self._told:
                self._told.add(one)
                if not one.let:
                    self._done(one)

    def _give_turns(self, now: float) -> None:
        """Begins with those that wait for room, for as long as there is some."""
        while self._queue and now >= self._room_at:
            one = next(iter(self._queue))
            if not one.over:
                self._guarded(one, one.begin)
            if one.waits and not one.over:
                self._room_at = now + _ROOM_S
                return
            del self._queue[one]
            if one not in self._had_turns:
                self._had_turns.add(one)
                self.turned = now

    @staticmethod
    def _guarded(one: HostEscalation, act: Callable[[], None]) -> None:
        """Does something with one host; whatever comes of it keeps no other on its ladder."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 it stands in that host's row
            one.broke(error)

    def _watch(self) -> None:
        """Waits on the lines that are open now, and on no other.

        Those that are gone are let go first, all of them: a new line may have their descriptors.
        """
        changed = [one for one in self._climbs if self._watched.get(one) is not _open(one)]
        for one in changed:
            before = self._watched.pop(one, None)
            for descriptor in (before.stdout, before.stderr) if before else ():
                self._listening.drop(descriptor, one)
        for one in changed:
            self._guarded(one, partial(self._follow, one))

    def _follow(self, one: HostEscalation) -> None:
        line = _open(one)
        for descriptor in (line.stdout, line.stderr) if line else ():
            self._listening.add(descriptor, one)
        if line is not None:
            self._watched[one] = line


def _open(one: HostEscalation) -> SshChannel | None:
    """The line that a host is still to be heard over."""
    return None if one.over or one.line is None or one.line.over else one.line


@dataclass(frozen=True)
class Beside:
    """What goes on beside a climb: who joins it now, who need not climb on, and whether to wait."""

    joining: Sequence[Target] = ()
    settled: frozenset[str] = frozenset()
    waiting: bool = False
    """Whether somebody may join yet."""


def escalate_all(
    targets: Iterable[Target],
    order: StopRequest,
    *,
    ends: float,
    done: Callable[[HostEscalation], None] = lambda _climb: None,
    beside: Callable[[], Beside] = Beside,
) -> list[HostOutcome]:
    """The cold way: every host over a line of its own, all at once, until ``time.monotonic`` ends.

    ``beside`` is asked between waits. Whoever is settled is let go, and not reported. Where this
    machine has no room for all lines at once, hosts take turns, and the last turn has as long.
    """
    lasting = ends - time.monotonic()
    climbs = [HostEscalation(target, order) for target in targets]
    with closing(Listening()) as listening:
        ladder = Escalation(climbs, listening, done)
        ladder.begin()
        while time.monotonic() < (ends := max(ends, ladder.turned + lasting)):
            also = beside()
            joining = [HostEscalation(target, order) for target in also.joining]
            climbs += joining
            ladder.join(joining)
            for one in climbs:
                if one.host in also.settled:
                    one.let_go()
            ladder.settle()
            if ladder.over and not also.waiting:
                break
            patience = max(0.0, min(ladder.wakes, ends) - time.monotonic())
            for owner in listening.wait(min(patience, _BESIDE_S if also.waiting else 0.5)):
                if isinstance(owner, HostEscalation):
                    ladder.heard(owner)
            ladder.settle()
        for one in climbs:
            one.give_up()
        ladder.settle()
    return [one.climbed() for one in climbs if not one.let]
