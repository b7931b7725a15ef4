"""What a watch makes of what it sees: who is what it is meant to be, and who is renewed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from deploytool.errors import HostFault
from deploytool.parity.model import Evidence, Parity, Round, Verdict
from deploytool.parity.rules import first_trouble
from deploytool.release.model import Manifest

RENEWALS_A_LEASE = 4
"""A lease is renewed so often: two renewals in a row may get lost, and it holds."""
ROUNDS_A_STATUS = 6
"""Every so many rounds the running process itself is asked too: that costs a host the most."""


def meant(evidence: Evidence, declared: str | None) -> frozenset[str]:
    """The releases that this host is meant to run: the declared one, or during a rollout its two.

    Between the switch and the answer nobody but the host knows which of the two it is.
    """
    mark = evidence.rollout
    if mark is None:
        return frozenset({declared} if declared else ())
    return frozenset(release for release in (mark.target, mark.before) if release)


def own_manifest(evidence: Evidence) -> Manifest | None:
    """The manifest that a host holds of what it runs, where its bytes are those it digested."""
    return Manifest.of(evidence.manifest, evidence.release)


def carry_status(now: Evidence, before: Evidence | None) -> Evidence:
    """What the process said of itself in an earlier round, where it is the very same process.

    A host that was stopped has to say anew where it stands: before that, it said ACTIVE.
    """
    if now.halt is not None:
        return now
    if now.status is not None or before is None or before.status is None or not now.main_pid:
        return now
    then, is_now = before.processes.get(before.main_pid), now.processes.get(now.main_pid)
    same = then is not None and is_now is not None and then.start == is_now.start
    if not same or (now.boot, now.main_pid) != (before.boot, before.main_pid):
        return now
    return replace(now, status=before.status)


def halted(evidence: Evidence) -> bool:
    """Whether the process itself says that it is HALTED."""
    return (evidence.status or {}).get("trading_state") == "HALTED"


def passing(now: Evidence, before: Evidence | None) -> bool:
    """Whether a host that was stopped says something else for the first time.

    Between the latch and the halt, and between a start and the end of its latch, that is as it
    has to be, for moments; it counts where the next look shows it too. ``before``: what was shown
    in the round before, as it was.
    """
    return _contrary(now) and not (before is not None and _contrary(before))


def _contrary(evidence: Evidence) -> bool:
    return evidence.halt is not None and evidence.status is not None and not halted(evidence)


def declared_by(taken: Round, declared: Manifest | None, shown: Manifest | None) -> bool:
    """Whether a round declares another release: all of the fleet proven on it, by a deployment.

    A release that is simply there, without a finished rollout that led to it, is drift.
    """
    if declared is None:
        return shown is not None
    if shown is None or shown.sha256 == declared.sha256 or taken.parity is not Parity.PARITY:
        return False
    marks = [v.evidence.finished for v in taken.hosts if v.evidence is not None]
    return all(mark is not None and mark.target == shown.sha256 for mark in marks)


@dataclass(frozen=True)
class Picture:
    """The last that was surely seen of a host. ``at`` in seconds since the epoch."""

    verdict: Verdict
    release: str | None
    text: str
    at: float

    @property
    def document(self) -> dict[str, object]:
        """The same as JSON."""
        return {**asdict(self), "verdict": self.verdict.value}


def drifts(taken: Round) -> Mapping[str, str]:
    """Hosts that were seen to differ from what is declared, outside of any rollout, and how."""
    return {
        v.host: first_trouble(v)
        for v in taken.hosts
        if v.verdict is Verdict.MISMATCH and not (v.evidence and v.evidence.rollout)
    }


def unknowns(taken: Round, faults: Mapping[str, HostFault]) -> Mapping[str, str]:
    """Hosts of which this round says nothing: a query that failed is never "no drift"."""
    found = {v.host: first_trouble(v) for v in taken.hosts if v.verdict is Verdict.UNKNOWN}
    return {**found, **{host: str(fault) for host, fault in faults.items()}}
