"""Before anything is changed: what hosts show, what forbids it, and their locks."""

from __future__ import annotations

from collections.abc import Mapping

from deploytool.errors import HostFault
from deploytool.parity.evidence import known_by
from deploytool.parity.model import Evidence, Parity
from deploytool.parity.round import probe_request
from deploytool.release.model import KNOWN_AT_MOST
from deploytool.rollout.admission import Admission, admit, flags_forbid
from deploytool.rollout.baseline import Baseline, baseline_after_interruption, fresh, marks
from deploytool.rollout.locks import Taken
from deploytool.rollout.model import Event
from deploytool.rollout.progress import RolloutProgress
from deploytool.rollout.soak import left_s
from deploytool.rollout.trading import baseline


class Prepare(RolloutProgress):
    """The effects that look and lock."""

    def _probe_all(self) -> dict[str, Evidence | HostFault]:
        release = (self._manifest.sha256, self._manifest.digest())
        request = probe_request(
            release, self._manifest.requires, only_target=True, known=self._known, whole=True
        )
        return self._hosts.probe(self._inventory.names, request)

    def _remember(self, evidence: Mapping[str, Evidence], base: dict[str, Baseline]) -> None:
        self._found, self._base = dict(evidence), base
        self._known = tuple(dict.fromkeys((*self._known, *known_by(evidence))))[:KNOWN_AT_MOST]
        self._hosts.latches = {h: e.halt.latch for h, e in evidence.items() if e.halt is not None}
        self._report.before = {host: item.release for host, item in base.items()}

    def _admit(self) -> tuple[Admission, dict[str, Evidence | HostFault]]:
        """The admission of this rollout by a round of its own; it is written into the report."""
        seen = self._probe_all()
        found = admit(
            self._inventory, self._release, seen, self._report.purpose, self._flag_check,
            plan_id=self._id, bound=self._bound, forward=self._forward,
        )  # fmt: skip
        self._report.plan, self._report.obstacles = found.plan, found.obstacles
        return found, seen

    def _check(self) -> Event:
        found, _ = self._admit()
        if found.plan is None or found.round is None:
            return Event.REFUSED
        self._remember(found.evidence, {h: fresh(e) for h, e in found.evidence.items()})
        if found.obstacles:
            return Event.REFUSED
        young = left_s(found.evidence, self._inventory.service.soak_s)
        if found.round.parity is Parity.PARITY and not young:
            self._report.round, self._report.already = found.round, True
            return Event.ALREADY
        return Event.CHECKED

    def _find(self) -> Event:
        """What an interrupted rollout left, by what the hosts show."""
        found, seen = self._admit()
        if found.obstacles:
            return Event.REFUSED
        plans = frozenset(mark.plan for mark in marks(seen).values())
        base = {
            host: baseline_after_interruption(item, plans) for host, item in found.evidence.items()
        }
        self._remember(found.evidence, base)
        self._touched = [host for host, item in base.items() if item.as_found is None]
        return Event.FOUND

    def _lock(self) -> Event:
        return self._locked(self._hosts.lock(self._found, self._release.digest))

    def _take_over(self) -> Event:
        return self._locked(self._hosts.take_over(self._found, self._base, self._release.digest))

    def _locked(self, taken: Taken) -> Event:
        self._report.trouble |= taken.in_doubt
        self._report.obstacles = tuple(taken.refused)
        # The look before asks only what runs the release already for its status; this one asks all.
        self._was = {
            host: baseline(item, touched=self._maybe_touched(host))
            for host, item in taken.seen.items()
        }
        if taken.in_doubt:
            return Event.UNKNOWN
        if not taken.refused:
            # Nobody can arm anything on a host that is locked: what was seen then goes on holding.
            self._report.obstacles = flags_forbid(
                self._flag_check, taken.seen, self._report.plan, self._manifest
            )
        return Event.REFUSED if self._report.obstacles else Event.LOCKED

    def _maybe_touched(self, host: str) -> bool:
        """Whether what a host shows may be an earlier rollout's doing, and the user minds."""
        return self._base[host].as_found is None and not self._report.may_be_halted
