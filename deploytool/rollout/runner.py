"""Performs a rollout: asks the table what is next, does it, and tells the table what happened."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from deploytool.errors import HostFault, IllegalEvent
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.look import expect, judge, probe_call, shown_manifest
from deploytool.parity.model import Evidence, HostVerdict, Parity, Round, Verdict
from deploytool.parity.rules import first_trouble, judge_host
from deploytool.release.model import Manifest, Release
from deploytool.rollout.hands import Hands
from deploytool.rollout.model import Effect, Event, Plan, State
from deploytool.rollout.planning import Obstacle, moved, observed
from deploytool.rollout.rules import ENDS, FIRST, advance
from deploytool.rollout.survey import consider

_STEPS_AT_MOST = 2048


class Observer(Protocol):
    """Whoever watches a rollout. Calls come from the runner's own thread."""

    def state(self, state: State, hosts: tuple[str, ...]) -> None:
        """The rollout is now in ``state`` and works on ``hosts``."""

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """``host`` reached something (good), failed (bad), or is still at it (None)."""


@dataclass
class Report:
    """What a rollout came to. ``trouble`` has a line for each host that failed at something."""

    state: State = State.CHECKING
    plan: Plan | None = None
    round: Round | None = None
    obstacles: tuple[Obstacle, ...] = ()
    trouble: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    already: bool = False
    path: list[State] = field(default_factory=list)


class Runner:
    """One rollout of one release to one fleet."""

    def __init__(
        self,
        inventory: Inventory,
        release: Release,
        hosts: Mapping[str, Host],
        holder: str,
        observer: Observer,
        *,
        bound: Plan | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._inventory = inventory
        self._release = release
        self._observer = observer
        self._bound = bound
        self._interrupted = interrupted
        self._id = bound.id if bound else secrets.token_hex(8)
        self._hands = Hands(inventory, hosts, holder, self._id, self._done)
        self._before: dict[str, Evidence] = {}
        self._wave = 0
        self._touched: list[str] = []
        self.report = Report()

    @property
    def _manifest(self) -> Manifest:
        return self._release.manifest

    @property
    def _plan(self) -> Plan:
        if self.report.plan is None:
            raise IllegalEvent("there is no plan yet")
        return self.report.plan

    def run(self) -> Report:
        """Runs the rollout to one of its ends.

        Raises:
            IllegalEvent: a bug; the fleet is as the report says.
        """
        step = FIRST
        perform = {
            Effect.CHECK: self._check,
            Effect.LOCK: self._lock,
            Effect.STAGE: self._stage,
            Effect.SWITCH_WAVE: self._switch_wave,
            Effect.PROVE: self._prove,
            Effect.CHECK_OLD: self._check_old,
            Effect.REVERT: self._revert,
            Effect.PROVE_OLD: self._prove_old,
            Effect.UNLOCK: self._unlock,
        }
        for _ in range(_STEPS_AT_MOST):
            self.report.state = step.state
            self.report.path.append(step.state)
            if step.state in ENDS or step.effect is None:
                return self.report
            if self._interrupted():
                self.report.interrupted = True
                event = Event.INTERRUPTED
            else:
                event = perform[step.effect]()
            step = advance(step.state, event)
        raise IllegalEvent(f"the rollout did not end after {_STEPS_AT_MOST} steps")

    # --- what the effects do, each giving the event that it came to ---------------------------

    def _check(self) -> Event:
        names = self._inventory.names
        self._observer.state(State.CHECKING, names)
        call = probe_call((self._manifest.sha256, self._manifest.digest()), self._manifest.requires)
        seen = self._hands.look(names, call)
        found = consider(self._inventory, self._manifest, seen, self._id)
        self._before, self.report.plan = dict(found.evidence), found.plan
        self.report.obstacles = found.obstacles
        if found.plan is None or found.round is None:
            return Event.REFUSED
        if self._bound is not None and (differences := moved(self._bound, found.plan)):
            self.report.obstacles = differences
            return Event.REFUSED
        if found.round.parity is Parity.PARITY:
            self.report.round, self.report.already = found.round, True
            return Event.ALREADY
        return Event.CHECKED

    def _lock(self) -> Event:
        self._observer.state(State.LOCKING, self._inventory.names)
        refused, in_doubt = self._hands.lock(self._inventory.names, self._before)
        self.report.obstacles = tuple(refused)
        self.report.trouble |= in_doubt
        if in_doubt:
            return Event.UNKNOWN
        return Event.REFUSED if refused else Event.LOCKED

    def _stage(self) -> Event:
        hosts = self._plan.to_stage
        self._observer.state(State.STAGING, hosts)
        faults = self._hands.stage(hosts, self._release)
        return self._faults(faults, Event.STAGED)

    def _switch_wave(self) -> Event:
        waves = self._plan.waves
        if self._wave < len(waves):
            wave = waves[self._wave]
            self._observer.state(State.SWITCHING, wave)
            self._touched += wave
            event = self._switch(wave, dict.fromkeys(wave, self._manifest))
            if event is not None:
                return event
        self._wave += 1
        return Event.WAVE_PROVEN if self._wave < len(waves) else Event.LAST_WAVE_PROVEN

    def _switch(self, hosts: tuple[str, ...], to: Mapping[str, Manifest | None]) -> Event | None:
        """Switches hosts, has each verified by its running process, and writes that down there."""
        seen = self._hands.activate(hosts, {h: m.sha256 if m else None for h, m in to.items()})
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
        faults = self._hands.confirm(running)
        event = self._faults(faults, Event.STAGED)
        return None if event is Event.STAGED else event

    def _prove(self) -> Event:
        self._observer.state(State.PROVING, self._inventory.names)
        seen = self._hands.look(self._inventory.names, probe_call())
        self.report.round = judge(self._inventory, seen, self._manifest)
        if self.report.round.parity is Parity.PARITY:
            return Event.PARITY
        return self._troubles({v.host: v for v in self.report.round.hosts}) or Event.UNKNOWN

    def _check_old(self) -> Event:
        """Before one goes back: every touched host that answers must hold its old release."""
        self._observer.state(State.CHECKING_OLD, tuple(self._touched))
        answering = 0
        for name, outcome in self._hands.look_for_old(self._touched, self._before).items():
            if isinstance(outcome, HostFault):
                continue
            answering += 1
            old = self._plan.before[name]
            if self._as_it_was(name, outcome):
                self._touched.remove(name)
            elif old is not None and outcome.held != "intact":
                self.report.trouble[name] = f"the old release {old[:12]} is {outcome.held} there"
                return Event.FAILED
        return Event.OLD_INTACT if answering or not self._touched else Event.UNKNOWN

    def _revert(self) -> Event:
        hosts = tuple(self._touched)
        self._observer.state(State.REVERTING, hosts)
        if not hosts:
            return Event.REVERTED
        return self._switch(hosts, {h: self._old_manifest(h) for h in hosts}) or Event.REVERTED

    def _prove_old(self) -> Event:
        """Touched hosts are proven on what they had; the others to be as they were found."""
        self._observer.state(State.PROVING_OLD, self._inventory.names)
        seen = self._hands.look(self._inventory.names, probe_call())
        bad: dict[str, HostVerdict] = {}
        for name, outcome in seen.items():
            if not isinstance(outcome, HostFault) and self._as_it_was(name, outcome):
                continue
            verdict = self._verdict(name, outcome, self._old_manifest(name))
            if name not in self._touched or verdict.verdict is not Verdict.MATCH:
                bad[name] = verdict
        self.report.round = judge(self._inventory, seen, shown_manifest(seen))
        if not bad:
            return Event.PARITY
        for name in bad:
            self.report.trouble.setdefault(name, "is not as it was before")
        return self._troubles(bad) or Event.FAILED

    def _unlock(self) -> Event:
        faults = self._hands.unlock()
        for name, fault in faults.items():
            self.report.trouble[name] = f"its lock was not given back: {fault}"
        return Event.UNKNOWN if faults else Event.UNLOCKED

    # --- small things that several of them need -----------------------------------------------

    def _as_it_was(self, name: str, now: Evidence) -> bool:
        then, found = observed(self._before[name]), observed(now)
        return (then.machine, then.release, then.pid, then.start) == (
            found.machine,
            found.release,
            found.pid,
            found.start,
        )

    def _old_manifest(self, host: str) -> Manifest | None:
        text = self._before[host].manifest
        if self._plan.before[host] is None or text is None:
            return None
        return Manifest.parse(text)

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
            if verdict.evidence is not None or name not in self.report.trouble:
                self.report.trouble[name] = text
            self._observer.host(name, text, good=False)
        if not bad:
            return None
        seen_bad = any(verdict.verdict is Verdict.MISMATCH for verdict in bad.values())
        return Event.FAILED if seen_bad else Event.UNKNOWN

    def _faults(self, faults: Mapping[str, HostFault], fine: Event) -> Event:
        for name, fault in faults.items():
            self.report.trouble[name] = str(fault)
        if not faults:
            return fine
        return Event.UNKNOWN if any(f.in_doubt for f in faults.values()) else Event.FAILED

    def _done(self, host: str, text: str, fault: HostFault | None) -> None:
        if fault is not None:
            self.report.trouble[host] = str(fault)
        self._observer.host(host, str(fault) if fault else text, good=fault is None)
