"""What each effect of the table does, and the event that it comes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from deploytool.errors import HostFault, IllegalEvent
from deploytool.flags.compatibility import Senders
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.look import expect, judge, probe_call, shown_manifest
from deploytool.parity.model import Evidence, Halt, HostVerdict, Parity, Verdict
from deploytool.parity.rules import first_trouble, judge_host, strays
from deploytool.release.model import Manifest, Release
from deploytool.rollout.baseline import Baseline, find, fresh, left, marks
from deploytool.rollout.fence import Fence
from deploytool.rollout.hands import Hands
from deploytool.rollout.model import Effect, Event, Plan, Purpose
from deploytool.rollout.planning import Obstacle, make_plan, moved
from deploytool.rollout.report import Observer, Report
from deploytool.rollout.survey import consider

_SOAK_POLL_S = 0.1


class Effects:
    """The effects of one rollout, and what it knows of its hosts."""

    def __init__(
        self,
        inventory: Inventory,
        release: Release,
        hosts: Mapping[str, Host],
        holder: str,
        observer: Observer,
        report: Report,
        plan_id: str,
        bound: Plan | None,
        senders: Senders | None,
        interrupted: Callable[[], bool],
        *,
        forward: bool,
    ) -> None:
        self._inventory = inventory
        self._release = release
        self._manifest = release.manifest
        self._observer = observer
        self._report = report
        self._id = plan_id
        self._bound = bound
        self._interrupted = interrupted
        self._forward = forward
        self._hands = Hands(inventory, hosts, holder, plan_id, report.purpose, self._done)
        self._fence = Fence(senders, lambda names: self._hands.look(names, probe_call(disk=False)))
        self._found: dict[str, Evidence] = {}
        self._base: dict[str, Baseline] = {}
        self._old: dict[str, Manifest | None] = {}
        self._touched: list[str] = []
        self._wave = 0
        self._switched_at: float | None = None
        self._perform: Mapping[Effect, Callable[[], Event]] = {
            Effect.CHECK: self._check,
            Effect.FIND: self._find,
            Effect.TAKE_OVER: self._take_over,
            Effect.LOCK: self._lock,
            Effect.STAGE: self._stage,
            Effect.SWITCH_WAVE: self._switch_wave,
            Effect.PROVE: self._prove,
            Effect.CHECK_OLD: self._check_old,
            Effect.REVERT: self._revert,
            Effect.PROVE_OLD: self._prove_old,
            Effect.UNLOCK: self._unlock,
            Effect.HOLD: self._hold,
        }

    def concerned(self, effect: Effect) -> tuple[str, ...]:
        """The hosts that an effect is about to change or to look at."""
        if effect is Effect.STAGE:
            return self._plan.to_stage
        if effect is Effect.SWITCH_WAVE:
            return self._plan.waves[self._wave] if self._wave < len(self._plan.waves) else ()
        if effect in {Effect.CHECK_OLD, Effect.REVERT}:
            return tuple(self._touched)
        return self._inventory.names

    def perform(self, effect: Effect) -> Event:
        """Does one effect."""
        self._observer.state(self._report.state, self.concerned(effect))
        return self._perform[effect]()

    @property
    def _plan(self) -> Plan:
        if self._report.plan is None:
            raise IllegalEvent("there is no plan yet")
        return self._report.plan

    # --- before anything is changed -------------------------------------------------------------

    def _look_at_all(self) -> dict[str, Evidence | HostFault]:
        held = (self._manifest.sha256, self._manifest.digest())
        return self._hands.look(
            self._inventory.names, probe_call(held, self._manifest.requires, only_target=True)
        )

    def _remember(self, evidence: Mapping[str, Evidence], base: dict[str, Baseline]) -> None:
        self._found, self._base = dict(evidence), base
        self._hands.latches = {h: e.halt.latch for h, e in evidence.items() if e.halt is not None}
        self._report.before = {host: item.release for host, item in base.items()}

    def _check(self) -> Event:
        found = consider(self._inventory, self._manifest, self._look_at_all(), self._id)
        self._report.plan, self._report.obstacles = found.plan, found.obstacles
        if found.plan is None or found.round is None:
            return Event.REFUSED
        self._remember(found.evidence, {h: fresh(e) for h, e in found.evidence.items()})
        if self._bound is not None and (differences := moved(self._bound, found.plan)):
            self._report.obstacles = differences
            return Event.REFUSED
        if obstacles := self._flags_in_the_way(self._found):
            self._report.obstacles = obstacles
            return Event.REFUSED
        if found.round.parity is Parity.PARITY:
            self._report.round, self._report.already = found.round, True
            return Event.ALREADY
        return Event.CHECKED

    def _find(self) -> Event:
        """What an interrupted rollout left, by what the hosts show."""
        seen = self._look_at_all()
        purpose = self._report.purpose
        self._report.obstacles = find(seen, self._manifest.sha256, purpose, forward=self._forward)
        if self._report.obstacles:
            return Event.REFUSED
        evidence = {name: item for name, item in seen.items() if isinstance(item, Evidence)}
        plans = frozenset(mark.plan for mark in marks(seen).values())
        base = {host: left(item, plans) for host, item in evidence.items()}
        self._remember(evidence, base)
        self._touched = [host for host, item in base.items() if item.as_found is None]
        if purpose is Purpose.RESUME:
            taken = judge(self._inventory, seen, self._manifest)
            verdicts = {verdict.host: verdict for verdict in taken.hosts}
            self._report.plan = make_plan(
                self._id, self._inventory, self._manifest, evidence, verdicts
            )
            if not self._release.artifact and (lacking := self._plan.to_stage):
                text = f"lacks {self._release.label}, and so does this machine's store"
                self._report.obstacles = tuple(
                    Obstacle(host, "RESUME_RELEASE", text) for host in lacking
                )
                return Event.REFUSED
        self._report.obstacles = self._flags_in_the_way(self._found)
        return Event.REFUSED if self._report.obstacles else Event.FOUND

    def _flags_in_the_way(self, found: Mapping[str, Evidence]) -> tuple[Obstacle, ...]:
        """P3, and P5 for what is to run; for what is gone back to, its manifest isn't known yet."""
        going = {} if self._report.purpose is Purpose.ROLLBACK else dict.fromkeys(self._switched)
        to = dict.fromkeys(going, self._manifest)
        return (*self._fence.armed(found), *self._fence.readings(found, to))

    @property
    def _switched(self) -> tuple[str, ...]:
        """The hosts that the plan switches or restarts."""
        return tuple(host for wave in self._plan.waves for host in wave)

    def _lock(self) -> Event:
        return self._locked(self._hands.lock(self._found, self._release.digest))

    def _take_over(self) -> Event:
        return self._locked(self._hands.take_over(self._found, self._base, self._release.digest))

    def _locked(self, outcome: tuple[list[Obstacle], dict[str, str]]) -> Event:
        refused, in_doubt = outcome
        self._report.trouble |= in_doubt
        # Nobody can arm anything on a host that is locked, so what holds now goes on holding.
        self._report.obstacles = tuple(refused) or (() if in_doubt else self._flags_under_lock())
        if in_doubt:
            return Event.UNKNOWN
        return Event.REFUSED if self._report.obstacles else Event.LOCKED

    def _flags_under_lock(self) -> tuple[Obstacle, ...]:
        """The same again, of processes that may have been told something since they were seen."""
        return self._flags_in_the_way({h: replace(e, status=None) for h, e in self._found.items()})

    # --- forward ----------------------------------------------------------------------------------

    def _stage(self) -> Event:
        return self._faults(self._hands.stage(self._plan.to_stage, self._release), Event.STAGED)

    def _switch_wave(self) -> Event:
        wave = self.concerned(Effect.SWITCH_WAVE)
        if (event := self._stopped_meanwhile()) is not None:
            return event
        why = self._fence.readings(self._found, dict.fromkeys(wave, self._manifest))
        if why:
            self._report.trouble |= {obstacle.host: obstacle.text for obstacle in why}
            return Event.FAILED
        if wave:
            self._touched += [host for host in wave if host not in self._touched]
            event = self._switch(wave, dict.fromkeys(wave, self._manifest))
            if event is not None:
                return event
        self._wave += 1
        return Event.WAVE_PROVEN if self._wave < len(self._plan.waves) else Event.LAST_WAVE_PROVEN

    def _switch(self, hosts: Iterable[str], to: Mapping[str, Manifest | None]) -> Event | None:
        """Switches hosts, has each verified by its running process, and writes that down there."""
        seen = self._hands.activate(hosts, {h: m.sha256 if m else None for h, m in to.items()})
        self._switched_at = time.monotonic()
        if self._stopped(seen):
            return Event.STOPPED
        verdicts = {
            name: self._verdict(name, outcome, to[name], verified=False, disk=False)
            for name, outcome in seen.items()
        }
        if (event := self._troubles(verdicts)) is not None:
            return event
        running = {
            name: item
            for name, item in seen.items()
            if isinstance(item, Evidence) and to[name] is not None
        }
        event = self._faults(self._hands.confirm(running), Event.STAGED)
        return None if event is Event.STAGED else event

    def _soak(self, interrupted: Callable[[], bool]) -> bool:
        """Gives what was switched the time to die young; False where the user broke it off."""
        while self._switched_at is not None:
            left_s = self._inventory.service.soak_s - (time.monotonic() - self._switched_at)
            if left_s <= 0:
                break
            if interrupted():
                return False
            time.sleep(min(left_s, _SOAK_POLL_S))
        return True

    def _prove(self) -> Event:
        if not self._soak(self._interrupted):
            return Event.INTERRUPTED
        seen = self._hands.look(self._inventory.names, probe_call())
        self._report.round = judge(self._inventory, seen, self._manifest)
        if self._stopped(seen):
            return Event.STOPPED
        if self._report.round.parity is Parity.PARITY:
            return Event.PARITY
        return self._troubles({v.host: v for v in self._report.round.hosts}) or Event.UNKNOWN

    # --- back -------------------------------------------------------------------------------------

    def _check_old(self) -> Event:
        """Before one goes back: every touched host that answers must hold its old release."""
        answering: dict[str, Evidence] = {}
        # Waits for whatever is still under way there, and refuses what would come later.
        if self._hands.renew(self._touched):
            return Event.FAILED
        looked = self._hands.look_for_old(self._touched, self._base)
        if self._stopped(looked):
            return Event.STOPPED
        for name, outcome in looked.items():
            if isinstance(outcome, HostFault):
                self._report.trouble.setdefault(name, str(outcome))
                continue
            answering[name] = outcome
            old = self._base[name].release
            if self._base[name].still(outcome):
                self._touched.remove(name)
                continue
            self._old[name] = _labelled(outcome) if old is not None else None
            label = self._old[name]
            known = label is not None and label.sha256 == old
            if old is not None and (outcome.holds != "intact" or not known):
                self._report.trouble[name] = f"the old release {old[:12]} is {outcome.holds} there"
                return Event.FAILED
        if self._touched and not answering:
            return Event.UNKNOWN
        return Event.OLD_INTACT if self._may_go_back(answering) else Event.FAILED

    def _may_go_back(self, evidence: Mapping[str, Evidence]) -> bool:
        """P5: no sender uses a bit that the old build reads differently, or all is halted."""
        going = {host: evidence[host] for host in self._touched if host in evidence}
        why = self._fence.readings(going, {host: self._old.get(host) for host in going})
        for obstacle in why:
            self._report.trouble[obstacle.host] = f"may not go back: {obstacle.text}"
        return not why

    def _revert(self) -> Event:
        hosts = [host for host in self._touched if host in self._old]
        if hosts:
            event = self._switch(hosts, {host: self._old[host] for host in hosts})
            if event is not None:
                return event
        return Event.REVERTED if len(hosts) == len(self._touched) else Event.UNKNOWN

    def _prove_old(self) -> Event:
        """Touched hosts are proven on what they had; the others to be as they were found."""
        self._soak(lambda: False)
        seen = self._hands.look(self._inventory.names, probe_call())
        stopped = self._stopped(seen)
        bad: dict[str, HostVerdict] = {}
        for name, outcome in seen.items():
            if isinstance(outcome, Evidence) and self._untouched(name, outcome):
                continue
            verdict = self._verdict(name, outcome, self._old.get(name))
            if name not in self._old or verdict.verdict is not Verdict.MATCH:
                bad[name] = verdict
                self._report.trouble.setdefault(name, "is not as it was before")
        self._report.round = judge(self._inventory, seen, shown_manifest(seen))
        if stopped:
            return Event.STOPPED
        return (self._troubles(bad) or Event.FAILED) if bad else Event.PARITY

    def _untouched(self, name: str, now: Evidence) -> bool:
        """Whether a host is what it was when it was found, and nothing was put beside it since."""
        base, then = self._base.get(name), self._found.get(name)
        if base is None or then is None or not base.still(now):
            return False
        if base.release is None and self._verdict(name, now, None).verdict is not Verdict.MATCH:
            return False
        return {*strays(now)} <= {*strays(then)}

    # --- the end ----------------------------------------------------------------------------------

    def _unlock(self) -> Event:
        faults = self._hands.unlock()
        for name, fault in faults.items():
            self._report.trouble[name] = f"its lock was not given back: {fault}"
        return Event.UNKNOWN if faults else Event.UNLOCKED

    def _hold(self) -> Event:
        """Says on every host that answers that the fleet is held, since when, and what ends it."""
        parity = self._report.round.parity if self._report.round else Parity.UNKNOWN
        named = Parity.UNKNOWN if parity is Parity.PARITY else parity
        return Event.UNKNOWN if self._hands.hold(named.value) else Event.NOTED

    # --- somebody stopped a host ------------------------------------------------------------------

    def _stopped(self, seen: Mapping[str, Evidence | HostFault]) -> bool:
        """Whether a host shows a stop that it did not show when this rollout began."""
        found = {
            name: item if isinstance(item, HostFault) else item.halt for name, item in seen.items()
        }
        return self._note_stops(found)

    def _stopped_meanwhile(self) -> Event | None:
        """Asked before each wave, of all hosts: a stop anywhere is the end of switching."""
        found = self._hands.halts(self._inventory.names)
        if self._note_stops(found):
            return Event.STOPPED
        faults = {name: item for name, item in found.items() if isinstance(item, HostFault)}
        event = self._faults(faults, Event.STAGED)
        return None if event is Event.STAGED else event

    def _note_stops(self, found: Mapping[str, Halt | HostFault | None]) -> bool:
        for name, item in found.items():
            if isinstance(item, HostFault):
                if item.code == "halted":
                    self._report.stopped = True
            elif item is not None and item.latch != self._hands.latches.get(name):
                text = f"was stopped by {item.by}: {item.reason} (latch {item.latch})"
                self._report.trouble[name] = text
                self._report.stopped = True
        return self._report.stopped

    # --- small things that several of them need ---------------------------------------------------

    def _verdict(
        self,
        name: str,
        outcome: Evidence | HostFault,
        manifest: Manifest | None,
        *,
        verified: bool = True,
        disk: bool = True,
    ) -> HostVerdict:
        if isinstance(outcome, HostFault):
            return HostVerdict(name, (), None, None)
        expected = expect(self._inventory, name, manifest, verified=verified, disk=disk)
        return judge_host(name, expected, outcome)

    def _troubles(self, verdicts: Mapping[str, HostVerdict]) -> Event | None:
        """Writes down every host that isn't a MATCH; None when there is none."""
        bad = {n: v for n, v in verdicts.items() if v.verdict is not Verdict.MATCH}
        for name, verdict in bad.items():
            text = first_trouble(verdict)
            if verdict.evidence is not None or name not in self._report.trouble:
                self._report.trouble[name] = text
            self._observer.host(name, text, good=False)
        if not bad:
            return None
        seen_bad = any(verdict.verdict is Verdict.MISMATCH for verdict in bad.values())
        return Event.FAILED if seen_bad else Event.UNKNOWN

    def _faults(self, faults: Mapping[str, HostFault], fine: Event) -> Event:
        for name, fault in faults.items():
            self._report.trouble[name] = str(fault)
        if not faults:
            return fine
        if self._note_stops(faults):
            return Event.STOPPED
        return Event.UNKNOWN if any(f.in_doubt for f in faults.values()) else Event.FAILED

    def _done(self, host: str, text: str, fault: HostFault | None) -> None:
        if fault is not None:
            self._report.trouble[host] = str(fault)
        self._observer.host(host, str(fault) if fault else text, good=fault is None)


def _labelled(evidence: Evidence) -> Manifest | None:
    """The manifest that a host holds beside the release that it was asked for."""
    if evidence.label is None:
        return None
    try:
        return Manifest.parse(evidence.label)
    except ValueError:
        return None
