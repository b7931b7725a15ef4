"""``deploytool watch``: rounds, renewals and stops over connections that stay open. One thread.

Theory of operation
-------------------
``cli/watching.py`` builds a ``Watch`` and calls ``run``, which returns when its time is up, the
user ends it, or (``--until-drift``) a host drifts. A ``stop`` on the same machine reaches it
through a Unix socket (``watch/server.py``), found by the inventory's path.

Each host has up to three connections, so that none waits for another's slow answer:

- ``_looks`` carries the probes of a round;
- ``_hot`` stays idle, kept alive by small requests, and is lent to a stop: that makes a stop warm;
- ``_renewers``, where the inventory has leases, carries renewals and nothing else.

One turn of the loop does, in this order:

1. ``_attend``: accept callers and read their requests to stop. This comes first, and once more
   before each renewal and after each answer, so that no renewal leaves after a stop was heard.
2. ``_due``: end a round that is late, begin the next one, renew leases that are due, repeat a stop
   to a host that could not be reached before.
3. ``_listen``: wait at most ``_TICK_S`` for any connection, take in what arrived, and let each
   escalation in progress go on.

A round asks every host once. When the last one has answered, or after ``_patience``, ``_judge``
judges all of it: a host without an answer is UNKNOWN, and its last sure picture is shown with its
age. Each ``ROUNDS_A_STATUS`` rounds the process itself is asked too; between them its last word is
carried over, as long as it is the same process.

The declared release is the one that the user pinned, or the one that the fleet was proven on. It
follows a rollout only when every host has the mark of a finished one (``declared_by``).

What may never happen
---------------------
- A lease is renewed for a host that a stop has named, here or elsewhere, unless the process itself
  reports HALTED; or for a process that no round of its own found to be as declared. Whether a host
  is renewed depends on that host alone: drift elsewhere stops no healthy host.
- A failed probe counts as "no drift".
- One host that hangs delays a round beyond ``_patience``, another host's renewal, or a stop.
- A host that a stop could not reach is forgotten: it stays in ``_unstopped`` until it was told.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from deploytool.agent.model import KnownRelease
from deploytool.agent.requests import Answer, ShowLatch
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.model import Inventory
from deploytool.parity.evidence import known_by, read_evidence
from deploytool.parity.host_notices import NoticePrinter
from deploytool.parity.judge import expect, judge, shown_manifest
from deploytool.parity.model import Evidence, Round, Verdict
from deploytool.parity.round import probe_request
from deploytool.parity.table import ProofUse, judge_host
from deploytool.release.model import KNOWN_AT_MOST, Manifest
from deploytool.stop.channel import SshChannel
from deploytool.stop.escalation import Escalation, HostEscalation
from deploytool.stop.listening import Listening
from deploytool.stop.model import End, HostOutcome, Renewal, StopRequest
from deploytool.stop.outcome import outcome_document
from deploytool.stop.record import WatchRecord
from deploytool.stop.table import stopped
from deploytool.stop.targets import StopTargets, Target
from deploytool.watch.checks import (
    RENEWALS_A_LEASE,
    ROUNDS_A_STATUS,
    Picture,
    carry_status,
    declared_by,
    drifts,
    halted,
    meant,
    own_manifest,
    passing,
    unknowns,
)
from deploytool.watch.connection import WatchConnection
from deploytool.watch.lease import Lease
from deploytool.watch.server import StopCall, StopClient, StopServer

_NOTES_SHOWN = 3
_TOLD = frozenset({"account", "members", "members-same", "members-listed"})
"""Notes of these rules are told of a host that is a MATCH: somebody has to do something."""
_TICK_S = 0.25
_AGAIN_S = 5.0
_ROUND_S = 5.0
"""So long a round waits for a host at least, however often there is one."""
_ROUNDS_COUNTED = 10_000_000
_TIMES_KEPT = 1000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Policy:
    """How a watch behaves. Times in seconds."""

    every_s: float = 5.0
    stop_on_drift: bool = False
    until_drift: bool = False
    until: float | None = None
    """``time.monotonic`` at which it ends by itself; None: never."""
    by: str = "watch"


@dataclass
class WatchSummary:
    """What came of a watch: whether it ever drifted, and what is not surely well at its end."""

    drifted: dict[str, str]
    unknown: dict[str, str]
    pictures: dict[str, Picture]
    rounds: int = 0
    took_s: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES_KEPT))
    """How long each of the last rounds took, from the question to the verdict."""


class _Stopping:
    """A stop that somebody asked this watch for."""

    def __init__(
        self,
        caller: StopClient | None,
        asked: StopCall,
        ladder: Escalation,
        climbs: list[HostEscalation],
    ) -> None:
        self.caller = caller
        self.asked = asked
        self.ladder = ladder
        self.climbs = climbs
        self.heard: dict[str, int] = {}
        """How many steps of each host, of those that began to answer, the caller knows of."""


class Watch:
    """Keeps watch over one fleet until it is told to end."""

    def __init__(
        self,
        inventory: Inventory,
        card: StopTargets,
        declared: Manifest | None,
        policy: Policy,
        door: StopServer,
        say: Say,
        ended: Callable[[], bool] = lambda: False,
        known: tuple[KnownRelease, ...] = (),
    ) -> None:
        self._known = known
        self._inventory = inventory
        self._card = card
        self._declared = declared
        self._pinned = declared is not None
        self._policy = policy
        self._door = door
        self._say = say
        self._ended = ended
        self._targets = {target.host: target for target in card.targets}
        self._looks = {host: WatchConnection(target) for host, target in self._targets.items()}
        self._hot = {host: WatchConnection(target) for host, target in self._targets.items()}
        leased = self._targets if inventory.lease_s else {}
        # Renewals have lines of their own: a look that hangs must not let a lease run out.
        self._renewers = {host: WatchConnection(target) for host, target in leased.items()}
        self._leases = {host: Lease(host) for host in leased}
        self._record = WatchRecord(str(door.path.with_suffix(".json")), inventory.fleet)
        self._listening = Listening()
        self._watched: dict[int, tuple[SshChannel, WatchConnection]] = {}
        self._callers: list[StopClient] = []
        self._stops: list[_Stopping] = []
        self._lent: set[str] = set()
        self._unstopped: dict[str, StopRequest] = {}
        self._again_at: dict[str, float] = {}
        self._round: dict[str, Evidence | HostFault] = {}
        self._asked: set[str] = set()
        self._round_began = 0.0
        self._next_round = 0.0
        self._before: dict[str, Evidence] = {}
        self._shown: dict[str, Evidence] = {}
        """The same, as it was shown, with nothing carried over or left out."""
        self._may_renew: dict[str, tuple[float, int]] = {}
        """Hosts that were what they are meant to be: since which look, and by which process."""
        self._to_ask: set[str] = set()
        """Hosts whose process has not spoken for itself yet: the next round asks it."""
        self._twice: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._left = NoticePrinter(say)
        self.seen = WatchSummary({}, {}, {})
        self._stamp = _stamp(door)

    @property
    def _threads(self) -> tuple[WatchConnection, ...]:
        return (*self._looks.values(), *self._hot.values(), *self._renewers.values())

    # --- the loop -------------------------------------------------------------------------------

    def run(self) -> WatchSummary:
        """Watches until its time is up, it is told to end, or, where it is to, it sees drift."""
        self._listening.add(self._door.socket.fileno(), self._door)
        try:
            while not self._over():
                self._attend()
                self._due()
                self._listen()
        finally:
            self._close()
        return self.seen

    def _over(self) -> bool:
        policy = self._policy
        late = policy.until is not None and time.monotonic() >= policy.until
        drift = policy.until_drift and bool(self.seen.drifted)
        return not self._stops and (self._ended() or late or drift)

    def _listen(self) -> None:
        self._follow()
        patience = min([_TICK_S, *(s.ladder.wakes - time.monotonic() for s in self._stops)])
        for owner in self._listening.wait(patience):
            if isinstance(owner, WatchConnection):
                owner.hear()
                self._attend()
            elif isinstance(owner, HostEscalation):
                self._heard(owner)
        for stop in self._stops:
            stop.ladder.settle()
            self._report(stop)
        self._finish_stops()
        for thread in self._threads:
            thread.tick()

    def _follow(self) -> None:
        """Waits on the lines that are open now; a new one may have an old one's descriptors."""
        wanted: dict[int, tuple[SshChannel, WatchConnection]] = {}
        lent = {id(self._hot[host]) for host in self._lent}
        for thread in self._threads:
            if thread.line is not None and id(thread) not in lent:
                for descriptor in (thread.line.stdout, thread.line.stderr):
                    wanted[descriptor] = (thread.line, thread)
        for descriptor, (line, _) in list(self._watched.items()):
            if descriptor not in wanted or wanted[descriptor][0] is not line:
                _, thread = self._watched.pop(descriptor)
                self._listening.drop(descriptor, thread)
        for descriptor, (line, thread) in wanted.items():
            if descriptor not in self._watched:
                self._listening.add(descriptor, thread)
                self._watched[descriptor] = line, thread

    def _due(self) -> None:
        now = time.monotonic()
        if self._asked and now >= self._round_began + self._patience():
            for host in tuple(self._asked):
                self._answered(host, HostFault(FaultKind.TIMEOUT, "no answer in this round"))
        if not self._asked and now >= self._next_round:
            self._begin_round()
        for lease in self._leases.values():
            self._renew(lease, now)
        for host, thread in self._hot.items():
            if host not in self._lent and thread.idle:
                thread.ask(ShowLatch(), lambda _answer, _asked_at: None)
        for host, order in list(self._unstopped.items()):
            # Whoever could not be told is told as soon as it answers again.
            if self._hot[host].ready and host not in self._lent and now >= self._again_at[host]:
                self._begin_stop(None, StopCall((host,), order))

    def _patience(self) -> float:
        return max(_ROUND_S, self._policy.every_s)

    # --- rounds ---------------------------------------------------------------------------------

    def _begin_round(self) -> None:
        now = time.monotonic()
        # Jittered, so that many watches don't all ask in the same instant.
        self._next_round = now + self._policy.every_s * random.uniform(0.8, 1.2)  # noqa: S311
        self._round_began, self._round = now, {}
        self._asked = set(self._looks)
        whole = self.seen.rounds % ROUNDS_A_STATUS == 0
        for host, thread in self._looks.items():
            fresh = whole or host not in self._before or host in self._to_ask
            # A host remembers what it was told to look for.
            known = self._known if fresh else ()
            request = probe_request(disk=False, status=fresh, known=known)
            if thread.free:
                thread.ask(request, partial(self._answered, host))
            else:
                self._answered(host, HostFault(FaultKind.TIMEOUT, "it does not answer"))

    def _answered(self, host: str, answer: Answer | HostFault, asked_at: float = 0.0) -> None:
        if host not in self._asked:
            return  # its round is over, and was judged without it
        self._asked.discard(host)
        try:
            self._round[host] = (
                answer
                if isinstance(answer, HostFault)
                else read_evidence(answer, asked_at, time.time())
            )
        except HostFault as fault:
            self._round[host] = fault
        if not self._asked:
            self._judge()

    def _judge(self) -> None:
        """Judges a whole round; what is not seen is unknown, and the last sure picture stays."""
        took = time.monotonic() - self._round_began
        self.seen.took_s.append(took)
        self.seen.rounds = (self.seen.rounds + 1) % _ROUNDS_COUNTED
        seen: dict[str, Evidence | HostFault] = {}
        for host, outcome in self._round.items():
            seen[host] = outcome
            if isinstance(outcome, Evidence):
                known = carry_status(outcome, self._before.get(host))
                if passing(known, self._shown.get(host)):
                    known = replace(known, status=None)
                self._shown[host] = outcome
                seen[host] = self._before[host] = known
                asks = known.status is None or known.halt is not None
                (self._to_ask.add if asks else self._to_ask.discard)(host)
        # A build of one host is looked for on the others from the next round on.
        self._known = tuple(dict.fromkeys((*self._known, *known_by(seen))))[:KNOWN_AT_MOST]
        shown = shown_manifest(seen)
        taken = judge(self._inventory, seen, self._declared or shown, ProofUse.WATCH)
        if not self._pinned:
            by_shown = judge(self._inventory, seen, shown, ProofUse.WATCH)
            if declared_by(by_shown, self._declared, shown):
                self._declared, taken = shown, by_shown
                self._say(f"declared: {taken.label}")
        # A host that was taken off the list of members is nobody's to renew.
        outcast = {v.host for v in taken.hosts if any(f.rule == "member" for f in v.findings)}
        self._may_renew = {
            host: (self._round_began, e.main_pid)
            for host, e in seen.items()
            if isinstance(e, Evidence) and host not in outcast and self._matches(host, e)
        }
        self._left.tell(seen)
        self._picture(taken, seen)

    def _matches(self, host: str, evidence: Evidence) -> bool:
        """Whether this host, by itself, is what it is meant to be: no other host has a say."""
        declared = self._declared
        named = declared.sha256 if declared is not None else None
        if evidence.halt is not None and not halted(evidence):
            return False  # a stop holds it: it is renewed only where it says so itself
        if evidence.release is None or evidence.release not in meant(evidence, named):
            return False
        manifest = declared if named == evidence.release else own_manifest(evidence)
        if manifest is None:
            return False
        rolling = evidence.rollout is not None
        expected = expect(self._inventory, host, manifest, verified=not rolling, disk=False)
        return judge_host(host, expected, evidence, ProofUse.WATCH).verdict is Verdict.MATCH

    def _picture(self, taken: Round, seen: dict[str, Evidence | HostFault]) -> None:
        now = time.time()
        faults = {host: item for host, item in seen.items() if isinstance(item, HostFault)}
        drifted, unknown = dict(drifts(taken)), dict(unknowns(taken, faults))
        for verdict in taken.hosts:
            host = verdict.host
            if host in unknown:
                text = f"UNKNOWN: {unknown[host]}; {self._last(host, now)}"
                key = "UNKNOWN"
            elif verdict.verdict is Verdict.MATCH:
                beside = [str(note) for note in verdict.notes if note.rule in _TOLD]
                text = key = "; ".join((f"MATCH on {taken.label}", *beside[:_NOTES_SHOWN]))
            else:
                key = f"{verdict.verdict.value}: {drifted.get(host, 'a rollout is under way')}"
                text = key
            if host not in unknown:
                self.seen.pictures[host] = Picture(verdict.verdict, verdict.release, text, now)
            if self._told.get(host) != key:
                self._told[host] = key
                self._say(f"{host}: {text}")
        self.seen.drifted.update(drifted)
        self.seen.unknown = unknown
        if self._policy.stop_on_drift:
            for host, text in drifted.items():
                if host in self._twice and host not in self._lent:
                    self._stop_drifted(host, text)
        self._twice = drifted
        self._write()

    def _last(self, host: str, now: float) -> str:
        picture = self.seen.pictures.get(host)
        if picture is None:
            return "it was never seen"
        return f"last surely seen {now - picture.at:.0f} s ago: {picture.text}"

    def _stop_drifted(self, host: str, text: str) -> None:
        self._say(f"{host}: stopping it: {text}")
        latch = f"{secrets.randbits(64):016x}"
        order = StopRequest(self._policy.by, f"drift: {text}", latch, time.time())
        self._begin_stop(None, StopCall((host,), order))

    # --- leases ---------------------------------------------------------------------------------

    def _renew(self, lease: Lease, now: float) -> None:
        thread = self._renewers[lease.host]
        if now < lease.next_at or not thread.free or lease.taken:
            return
        looked = self._may_renew.get(lease.host)
        if looked is None or lease.host in self._unstopped:
            return
        if lease.nonce is not None and looked[0] < lease.begun and looked[1] != lease.pid:
            return  # it may be the nonce of a process that nobody has looked at yet
        if self._attend() or lease.host in self._lent:
            return  # somebody asked for a stop in this very moment
        spacing = self._inventory.lease_s / RENEWALS_A_LEASE
        lease.next_at = now + spacing * random.uniform(0.8, 1.0)  # noqa: S311 only spread
        thread.ask(lease.request(), partial(self._renewed, lease))

    def _renewed(self, lease: Lease, answer: Answer | HostFault, _asked_at: float) -> None:
        if isinstance(answer, HostFault):
            trouble = f"not renewed: {answer}"
        else:
            first = lease.nonce is None
            trouble = lease.learn(answer, time.time())
            if first and not trouble:
                # It prolongs nothing. Whose it is, where it does not say, a look now has to show.
                lease.begun, lease.next_at = time.monotonic(), 0.0
                _, looked_at = self._may_renew.get(lease.host, (0.0, None))
                if looked_at is None or looked_at != lease.pid:
                    self._next_round = 0.0
            elif trouble and lease.nonce is None:
                self._to_ask.add(lease.host)
            if lease.taken:
                self._write()
            elif not trouble and not self._write():
                trouble = "its renewal can't be written down; a stop will assume the worst"
        key = f"lease {lease.host}"
        if trouble and self._told.get(key) != trouble:
            self._say(f"{lease.host}: lease: {trouble}")
        self._told[key] = trouble

    def _write(self) -> bool:
        pictures = {host: picture.document for host, picture in self.seen.pictures.items()}
        return self._record.write(self._renewals(), pictures)

    def _renewals(self) -> dict[str, Renewal]:
        found = {host: lease.known for host, lease in self._leases.items()}
        return {host: renewal for host, renewal in found.items() if renewal is not None}

    # --- stops ----------------------------------------------------------------------------------

    def _attend(self) -> bool:
        """Hears whoever is at the door; whether a stop was begun."""
        begun = False
        while (caller := self._door.accept()) is not None:
            self._callers.append(caller)
            # What it asks may come a moment later, and is not to wait for the next tick.
            self._listening.add(caller.connection.fileno(), caller)
        for caller in list(self._callers):
            try:
                asked = caller.read()
            except (ValueError, KeyError, TypeError, RecursionError):
                self._heard_out(caller)
                caller.close()
                continue
            if asked is not None:
                self._heard_out(caller)
                begun = self._begin_stop(caller, asked) or begun
        return begun

    def _heard_out(self, caller: StopClient) -> None:
        self._callers.remove(caller)
        self._listening.drop(caller.connection.fileno(), caller)

    def _begin_stop(self, caller: StopClient | None, asked: StopCall) -> bool:
        # Where the inventory is another one by now, the hosts that are known here are told all the
        # same: a stop is never refused for that, and whoever asks tells those that it names itself.
        hosts = [h for h in (asked.hosts or tuple(self._targets)) if h in self._targets]
        hosts = [h for h in hosts if h not in self._lent]
        if not hosts:
            if caller is not None:
                caller.tell(self._taking((), asked))
                caller.close()
            return False
        order = asked.order.to(hosts)
        climbs = [self._climb(self._targets[host], order) for host in hosts]
        self._lent |= set(hosts)
        self._follow()
        ladder = Escalation(climbs, self._listening, lambda climb: self._climbed(stop, climb))
        stop = _Stopping(caller, asked, ladder, climbs)
        self._stops.append(stop)
        for host in hosts:
            # Until it is seen to have stopped, nobody here renews it: its lease runs out instead.
            self._unstopped[host] = order
        ladder.begin()
        if caller is not None:
            caller.tell(self._taking(hosts, asked))
        return True

    def _taking(self, hosts: Sequence[str], asked: StopCall) -> dict[str, object]:
        """Whom this stop tells now, and what is known of the renewals of all that it is for."""
        renewals = {
            host: asdict(renewal)
            for host, renewal in self._renewals().items()
            if not asked.hosts or host in asked.hosts
        }
        changed = _stamp(self._door) != self._stamp
        return {"taking": list(hosts), "changed": changed, "renewals": renewals}

    def _climb(self, target: Target, order: StopRequest) -> HostEscalation:
        return HostEscalation(target, order, self._hot[target.host].take())

    def _heard(self, climb: HostEscalation) -> None:
        for stop in self._stops:
            if climb in stop.climbs:
                stop.ladder.heard(climb)
                self._report(stop)

    def _report(self, stop: _Stopping) -> None:
        for climb in stop.climbs:
            if climb.heard and len(climb.steps) != stop.heard.get(climb.host):
                stop.heard[climb.host] = len(climb.steps)
                if stop.caller is not None:
                    stop.caller.tell({"heard": climb.host})

    def _climbed(self, stop: _Stopping, climb: HostEscalation) -> None:
        done: HostOutcome = climb.climbed()
        if stop.caller is not None:
            stop.caller.tell({"climbed": outcome_document(done)})
        self._again_at[climb.host] = time.monotonic() + _AGAIN_S
        if stopped(done) or done.end is End.OTHER_RELEASE:
            self._unstopped.pop(climb.host, None)
        if stop.caller is not None or stopped(done):
            text = done.steps[-1].text if done.steps else ""
            self._say(f"{climb.host}: {done.end.value}: {text} (asked by {stop.asked.order.by})")

    def _finish_stops(self) -> None:
        for stop in [s for s in self._stops if s.ladder.over]:
            self._stops.remove(stop)
            if stop.caller is not None:
                stop.caller.tell({"over": True})
                stop.caller.close()
            for climb in stop.climbs:
                self._lent.discard(climb.host)
                thread = self._hot[climb.host]
                if thread.line is not None and thread.line.over:
                    thread.lost()

    # --- the end --------------------------------------------------------------------------------

    def _close(self) -> None:
        for thread in self._threads:
            thread.close()
        for caller in self._callers:
            caller.close()
        self._listening.close()


def _stamp(door: StopServer) -> tuple[int, int]:
    """Tells an inventory that was written to from the one that this watch has read."""
    try:
        found = Path(door.inventory).stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
