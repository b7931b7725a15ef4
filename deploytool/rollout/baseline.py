"""What each host had before a rollout, and what an interrupted one left. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploytool.agent.model import RolloutMark
from deploytool.core.finding import Finding, forbids
from deploytool.errors import HostFault
from deploytool.parity.model import Evidence
from deploytool.rollout.checks import CHANGING
from deploytool.rollout.model import Observed, Purpose
from deploytool.rollout.plan import observed


@dataclass(frozen=True)
class Baseline:
    """What one host had: the release to go back to.

    ``as_found`` is what it showed when this rollout found it, and None where an earlier one may
    have switched it already: then only a proof can tell.
    """

    release: str | None
    as_found: Observed | None

    def still(self, now: Evidence) -> bool:
        """Whether the host is to the process what it was when it was found."""
        if self.as_found is None:
            return False
        then, found = self.as_found, observed(now)
        return (then.machine, then.release, then.pid, then.start) == (
            found.machine,
            found.release,
            found.pid,
            found.start,
        )


def fresh(evidence: Evidence) -> Baseline:
    """The baseline of a host that no rollout is under way on."""
    return Baseline(evidence.release, observed(evidence))


def baseline_after_interruption(evidence: Evidence, plans: frozenset[str]) -> Baseline:
    """The baseline of a host that an interrupted rollout may have touched.

    ``plans`` are those that hosts' marks name. A host without a mark belongs to the rollout only
    where it says itself that this very plan was finished there, before the deployer died. That
    holds too where another deployer has locked it since and did not come further.
    """
    mark, finished = evidence.rollout, evidence.finished
    if mark is not None and mark.touched:
        return Baseline(mark.before, None)
    if finished is not None and finished.plan in plans and finished.before != evidence.release:
        return Baseline(finished.before, None)
    return Baseline(mark.before, observed(evidence)) if mark is not None else fresh(evidence)


def marks(seen: Mapping[str, Evidence | HostFault]) -> dict[str, RolloutMark]:
    """The marks of interrupted (or running) rollouts, by host."""
    return {
        host: item.rollout
        for host, item in seen.items()
        if isinstance(item, Evidence) and item.rollout is not None
    }


def found_plan(found: Mapping[str, RolloutMark]) -> str | None:
    """The plan that marks name; None where there is no mark."""
    return min((mark.plan for mark in _begun(found).values()), default=None)


def _begun(found: Mapping[str, RolloutMark]) -> Mapping[str, RolloutMark]:
    """The marks of what has touched a host; where nothing has, all of them.

    Another deployer may have locked a host that was finished already: it has nothing to undo.
    """
    return {host: mark for host, mark in found.items() if mark.touched} or found


def common_target(found: Mapping[str, RolloutMark]) -> str | None:
    """The one release that marks name; None where there is no mark, or more than one name."""
    targets = {mark.target for mark in _begun(found).values()}
    return next(iter(targets)) if len(targets) == 1 else None


def find(
    seen: Mapping[str, Evidence | HostFault], target: str, purpose: Purpose, *, forward: bool
) -> tuple[Finding, ...]:
    """What keeps an interrupted rollout to ``target`` from being finished, or undone.

    ``forward``: the user asks to go on to it although a rollback was under way.
    """
    obstacles = [
        forbids(host, "RESUME_REACHABLE", str(fault))
        for host, fault in seen.items()
        if isinstance(fault, HostFault) and purpose is Purpose.RESUME
    ]
    found = marks(seen)
    if purpose is Purpose.RESUME and not forward:
        obstacles += [
            forbids(host, "RESUME_DIRECTION", "was on the way back to its old release")
            for host, item in seen.items()
            if isinstance(item, Evidence)
            and item.lock is not None
            and item.lock.purpose == Purpose.ROLLBACK.value
        ]
    obstacles += nothing_to_take_over(seen)
    obstacles += [
        forbids(host, "RESUME_TARGET", f"its mark names {str(mark.target)[:12]}, not {target[:12]}")
        for host, mark in _begun(found).items()
        if mark.target != target
    ]
    return tuple(obstacles)


def nothing_to_take_over(seen: Mapping[str, Evidence | HostFault]) -> tuple[Finding, ...]:
    """That no host shows a rollout that did not end, where none does."""
    evidence = [item for item in seen.values() if isinstance(item, Evidence)]
    if marks(seen) or any(item.lock or CHANGING & {*item.marks.unreadable} for item in evidence):
        return ()
    return (forbids("fleet", "NOTHING_INTERRUPTED", "no host has a mark or a lock"),)
