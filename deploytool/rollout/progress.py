"""What a rollout knows of its hosts while it goes on, and what each of its effects needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from deploytool.agent.model import KnownRelease
from deploytool.core.faults import came_of, fault_finding, faults_of
from deploytool.core.finding import trouble
from deploytool.core.observer import Observer
from deploytool.errors import HostFault, IllegalEvent
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.judge import expect
from deploytool.parity.model import Evidence, HostVerdict, StandingHalt, Verdict
from deploytool.parity.round import probe_request
from deploytool.parity.rules import worst
from deploytool.parity.table import judge_host
from deploytool.registry.compatibility import Senders
from deploytool.release.model import Manifest, Release
from deploytool.rollout.baseline import Baseline
from deploytool.rollout.flag_checks import FlagCheck
from deploytool.rollout.hosts import RolloutHosts
from deploytool.rollout.model import Event, Plan
from deploytool.rollout.report import Report
from deploytool.rollout.soak import left_s
from deploytool.rollout.trading import Trading, held_to

_SOAK_POLL_S = 0.1
_LOOKS_AT_MOST = 4
"""Two do, unless a host's time passes more slowly than ours."""
Look = Callable[[], tuple[Event | None, Mapping[str, Evidence]]]


class RolloutProgress:
    """One rollout's hosts, and how they are switched, verified and judged, forward and back."""

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
        known: tuple[KnownRelease, ...] = (),
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
        self._known = known
        """Releases that are looked for on every host, wherever they lie there."""
        self._hosts = RolloutHosts(inventory, hosts, holder, plan_id, report.purpose, self._done)
        self._flag_check = FlagCheck(
            senders, lambda names: self._hosts.probe(names, probe_request(disk=False))
        )
        self._found: dict[str, Evidence] = {}
        self._base: dict[str, Baseline] = {}
        self._old: dict[str, Manifest | None] = {}
        self._was: dict[str, Trading] = {}
        self._touched: list[str] = []
        self._wave = 0
        self._switched: Mapping[str, Evidence] = {}
        """What was started by this rollout, as it showed itself then, and has not soaked yet."""

    @property
    def _plan(self) -> Plan:
        if self._report.plan is None:
            raise IllegalEvent("there is no plan yet")
        return self._report.plan

    @property
    def _next_wave(self) -> tuple[str, ...]:
        """The hosts that are switched next; none where the plan has nothing to switch."""
        return self._plan.waves[self._wave] if self._wave < len(self._plan.waves) else ()

    # --- switching, forward and back -------------------------------------------------------------

    def _switch(self, hosts: Iterable[str], to: Mapping[str, Manifest | None]) -> Event | None:
        """Switches hosts, has each verified by its running process, and writes that down there."""
        seen = self._hosts.activate(hosts, {h: m.sha256 if m else None for h, m in to.items()})
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
        self._switched = running
        return self._faults(self._hosts.confirm(running))

    def _soaked(self, look: Look, interrupted: Callable[[], bool]) -> Event | None:
        """Gives what serves the time to die young, and looks whether it did; None where it didn't.

        Args:
            look: takes a round; gives what is wrong with it, or what must have soaked.
            interrupted: asked while it waits.
        """
        soak_s = self._inventory.service.soak_s
        left, self._switched = left_s(self._switched, soak_s), {}
        for _ in range(_LOOKS_AT_MOST):
            if not _wait(max(left.values(), default=0.0), interrupted):
                return Event.INTERRUPTED
            event, serving = look()
            if event is not None:
                return event
            left = left_s(serving, soak_s)
            if not left:
                return None
        for name, seconds in left.items():
            text = f"its process has not been seen to run for {soak_s:g} s: {seconds:.1f} s lack"
            self._report.trouble[name] = trouble(name, "soak", text, lacks_s=seconds)
        return Event.UNKNOWN

    # --- a host was stopped ------------------------------------------------------------------

    def _stopped(self, seen: Mapping[str, Evidence | HostFault]) -> bool:
        """Whether a host shows a stop that it did not show when this rollout began."""
        found = {
            name: item if isinstance(item, HostFault) else item.halt for name, item in seen.items()
        }
        return self._note_stops(found)

    def _stopped_meanwhile(self) -> Event | None:
        """Asked before each wave, of all hosts: a stop anywhere is the end of switching."""
        found = self._hosts.halts(self._inventory.names)
        if self._note_stops(found):
            return Event.STOPPED
        return self._faults(faults_of(found))

    def _note_stops(self, found: Mapping[str, StandingHalt | HostFault | None]) -> bool:
        for name, item in found.items():
            if isinstance(item, HostFault):
                if item.code == "halted":
                    self._report.stopped = True
            elif item is not None and item.latch != self._hosts.latches.get(name):
                text = f"was stopped by {item.by}: {item.reason} (latch {item.latch})"
                self._report.trouble[name] = trouble(name, "stopped", text, latch=item.latch)
                self._report.stopped = True
        return self._report.stopped

    # --- what hosts showed ------------------------------------------------------------------------

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
        expected = expect(
            self._inventory, name, manifest, verified=verified, disk=disk, surroundings=disk
        )
        return self._trading(judge_host(name, expected, outcome))

    def _trading(self, verdict: HostVerdict) -> HostVerdict:
        """The verdict, with what is wrong with how the host trades."""
        was = self._was.get(verdict.host, Trading())
        return held_to(verdict, was, self._inventory.service.expect_state)

    def _troubles(self, verdicts: Mapping[str, HostVerdict]) -> Event | None:
        """Writes down every host that isn't a MATCH; None when there is none."""
        bad = {n: v for n, v in verdicts.items() if v.verdict is not Verdict.MATCH}
        for name, verdict in bad.items():
            found = replace(worst(verdict), host=name)
            if verdict.evidence is not None or name not in self._report.trouble:
                self._report.trouble[name] = found
            self._observer.host(name, found.text, good=False)
        if not bad:
            return None
        seen_bad = any(verdict.verdict is Verdict.MISMATCH for verdict in bad.values())
        return Event.FAILED if seen_bad else Event.UNKNOWN

    def _faults(self, faults: Mapping[str, HostFault]) -> Event | None:
        """Writes down every host that did not do what it was told; None when there is none."""
        for name, fault in faults.items():
            self._report.trouble[name] = fault_finding(name, fault)
        if faults and self._note_stops(faults):
            return Event.STOPPED
        return came_of(faults, None, Event.FAILED, Event.UNKNOWN)

    def _done(self, host: str, text: str, fault: HostFault | None) -> None:
        if fault is not None:
            self._report.trouble[host] = fault_finding(host, fault)
        self._observer.host(host, str(fault) if fault else text, good=fault is None)


def shown(seen: Mapping[str, Evidence | HostFault]) -> dict[str, Evidence]:
    """What was shown, by each host that answered."""
    return {name: item for name, item in seen.items() if isinstance(item, Evidence)}


def _wait(seconds: float, interrupted: Callable[[], bool]) -> bool:
    """Waits; False where the user broke it off."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if interrupted():
            return False
        time.sleep(min(left, _SOAK_POLL_S))
    return True
