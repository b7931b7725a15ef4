"""The way back: the old release is whole, it may run, it runs, and that is proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from deploytool.core.faults import fault_finding
from deploytool.core.finding import trouble
from deploytool.core.observer import never
from deploytool.errors import HostFault
from deploytool.parity.beside_rules import strays
from deploytool.parity.judge import judge, shown_manifest
from deploytool.parity.model import Evidence, HostVerdict, Verdict
from deploytool.parity.round import probe_request
from deploytool.release.model import Manifest
from deploytool.rollout.model import Event
from deploytool.rollout.progress import RolloutProgress


class Revert(RolloutProgress):
    """The effects that restore what every touched host had."""

    def _check_old(self) -> Event:
        """Before one goes back: every touched host that answers must hold its old release.

        One that is silent keeps no other from going back, and the end from being one: see
        docs/decisions/0011-back-without-the-silent.md.
        """
        # Waits for whatever is still under way there, and refuses what would come later.
        if self._hosts.renew(self._touched):
            return Event.FAILED
        looked = self._hosts.probe_old(self._base, self._base)
        if self._stopped(looked):
            return Event.STOPPED
        answering = {name: item for name, item in looked.items() if isinstance(item, Evidence)}
        for name in list(self._touched):
            outcome = looked[name]
            if isinstance(outcome, HostFault):
                self._report.trouble.setdefault(name, fault_finding(name, outcome))
                continue
            old = self._base[name].release
            if self._base[name].still(outcome):
                self._touched.remove(name)
                continue
            self._old[name] = _labelled(outcome) if old is not None else None
            label = self._old[name]
            known = label is not None and label.sha256 == old
            if old is not None and (outcome.release_state != "intact" or not known):
                text = f"the old release {old[:12]} is {outcome.release_state} there"
                facts = {"release": old, "state": outcome.release_state}
                self._report.trouble[name] = trouble(name, "old-release", text, **facts)
                return Event.FAILED
        if self._touched and not answering.keys() & set(self._touched):
            return Event.UNKNOWN
        return Event.OLD_INTACT if self._may_go_back(answering) else Event.FAILED

    def _may_go_back(self, evidence: Mapping[str, Evidence]) -> bool:
        """P5: no sender uses a bit that the old build reads differently, or all is halted.

        What was never touched counts too: what it runs is what the senders mean.
        """
        going = {host: self._old.get(host) for host in self._touched if host in evidence}
        why = self._flag_check.readings(evidence, going)
        for obstacle in why:
            found = replace(obstacle, found=f"may not go back: {obstacle.text}")
            self._report.trouble[obstacle.host] = found
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
        return self._soaked(self._look_at_old, never) or Event.PARITY

    def _look_at_old(self) -> tuple[Event | None, Mapping[str, Evidence]]:
        request = probe_request(known=self._known, whole=True)
        seen = self._hosts.probe(self._inventory.names, request)
        stopped = self._stopped(seen)
        bad: dict[str, HostVerdict] = {}
        back: dict[str, Evidence] = {}
        for name, outcome in seen.items():
            if isinstance(outcome, Evidence) and self._untouched(name, outcome):
                continue
            verdict = self._verdict(name, outcome, self._old.get(name))
            if name not in self._old or verdict.verdict is not Verdict.MATCH:
                bad[name] = verdict
                found = trouble(name, "restored", "is not as it was before")
                self._report.trouble.setdefault(name, found)
            elif isinstance(outcome, Evidence) and self._old[name] is not None:
                back[name] = outcome
        self._report.round = judge(self._inventory, seen, shown_manifest(seen))
        if stopped:
            return Event.STOPPED, {}
        return ((self._troubles(bad) or Event.FAILED) if bad else None), back

    def _untouched(self, name: str, now: Evidence) -> bool:
        """Whether a host is what it was when it was found, and nothing was put beside it since."""
        base, then = self._base.get(name), self._found.get(name)
        if base is None or then is None or not base.still(now):
            return False
        if base.release is None and self._verdict(name, now, None).verdict is not Verdict.MATCH:
            return False
        as_now = HostVerdict(name, (), now.release, now)
        if self._trading(as_now).findings:
            return False
        return {*strays(now)} <= {*strays(then)}


def _labelled(evidence: Evidence) -> Manifest | None:
    """The manifest that a host holds beside the release that it was asked for."""
    if evidence.label is None:
        return None
    try:
        return Manifest.parse(evidence.label)
    except ValueError:
        return None
