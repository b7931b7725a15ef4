"""Whether a rollout is admitted: its plan, or everything that forbids it. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deploytool.agent.model import KnownRelease
from deploytool.core.finding import Finding, forbids
from deploytool.errors import HostFault
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.judge import expect, judge
from deploytool.parity.model import Evidence, Round, RoundAnswers
from deploytool.parity.round import probe_request, take_round
from deploytool.registry.compatibility import Senders
from deploytool.release.model import Manifest, Release
from deploytool.rollout.baseline import find, nothing_to_take_over
from deploytool.rollout.build_conflicts import build_conflicts
from deploytool.rollout.checks import moved, preflight, rootless
from deploytool.rollout.flag_checks import FlagCheck
from deploytool.rollout.model import Plan, Purpose
from deploytool.rollout.plan import make_plan


@dataclass(frozen=True)
class Admission:
    """What one round came to: what forbids it, the plan (undoing needs none), the evidence."""

    obstacles: tuple[Finding, ...]
    evidence: Mapping[str, Evidence]
    plan: Plan | None = None
    round: Round | None = None


def consider(
    inventory: Inventory,
    manifest: Manifest,
    seen: RoundAnswers,
    plan_id: str,
    *,
    take_over: bool = False,
) -> Admission:
    """What can be done with a fleet that showed this. ``take_over``: another rollout ends by it."""
    bare = {name: expect(inventory, name, None) for name in inventory.names}
    obstacles = (*rootless(inventory), *preflight(seen, bare, manifest, take_over=take_over))
    if take_over:
        obstacles += nothing_to_take_over(seen)
    evidence = {name: item for name, item in seen.items() if not isinstance(item, HostFault)}
    if obstacles or set(evidence) != set(inventory.names):
        return Admission(obstacles, evidence)
    taken = judge(inventory, seen, manifest)
    verdicts = {verdict.host: verdict for verdict in taken.hosts}
    plan = make_plan(plan_id, inventory, manifest, evidence, verdicts)
    return Admission((), evidence, plan, taken)


def admit(
    inventory: Inventory,
    release: Release,
    seen: RoundAnswers,
    purpose: Purpose,
    flags: FlagCheck,
    *,
    plan_id: str = "",
    bound: Plan | None = None,
    forward: bool = False,
) -> Admission:
    """Everything that forbids a rollout on a fleet that showed this, before it takes a lock.

    The one check of ``plan``, ``deploy``, ``resume``, ``rollback``, ``--take-over``, ``--disarm``.

    Args:
        flags: asks the senders, and hosts again where it has to.
        bound: the plan that it may not differ from.
        forward: go on to the release although a rollback was in progress.
    """
    begins = purpose in {Purpose.DEPLOY, Purpose.SUPERSEDE}
    if begins:
        take_over = purpose is Purpose.SUPERSEDE
        found = consider(inventory, release.manifest, seen, plan_id, take_over=take_over)
    else:
        found = consider_interrupted(inventory, release, seen, plan_id, purpose, forward=forward)
    if found.obstacles or (found.plan is None and purpose is not Purpose.ROLLBACK):
        return found
    if bound and found.plan and (obstacles := moved(bound, found.plan)):
        return replace(found, obstacles=obstacles)
    given: tuple[Finding, ...] = ()
    if begins:
        given = build_conflicts(inventory, found.evidence, release.manifest)
    obstacles = (*given, *flags_forbid(flags, found.evidence, found.plan, release.manifest))
    return replace(found, obstacles=obstacles)


def flags_forbid(
    flags: FlagCheck, evidence: Mapping[str, Evidence], plan: Plan | None, manifest: Manifest
) -> tuple[Finding, ...]:
    """P3 for all hosts, and P5 for those that the plan switches to ``manifest``.

    Without a plan hosts only go back: to what is not known yet, and is checked when it is.
    """
    switched = (host for wave in plan.waves for host in wave) if plan else ()
    return (*flags.armed(evidence), *flags.readings(evidence, dict.fromkeys(switched, manifest)))


def survey(
    inventory: Inventory,
    release: Release,
    hosts: Mapping[str, Host],
    senders: Senders | None = None,
    purpose: Purpose = Purpose.DEPLOY,
    *,
    plan_id: str = "",
    bound: Plan | None = None,
    forward: bool = False,
    known: tuple[KnownRelease, ...] = (),
) -> Admission:
    """Takes one round and judges by it whether a rollout would be admitted. Changes nothing.

    What is refused has no plan.
    """
    manifest = release.manifest
    request = probe_request((manifest.sha256, manifest.digest()), manifest.requires, known=known)
    seen = take_round(hosts, request, inventory.ssh.command_timeout_s)
    # Every host was asked for everything: there is nothing to look at again.
    flags = FlagCheck(senders, lambda _names: {})
    found = admit(
        inventory, release, seen, purpose, flags, plan_id=plan_id, bound=bound, forward=forward
    )
    return replace(found, plan=None) if found.obstacles else found


class Without:
    """The senders once they have withdrawn these bits."""

    def __init__(self, senders: Senders, withdrawn: frozenset[int]) -> None:
        self._senders = senders
        self._withdrawn = withdrawn

    def bits_in_use(self) -> frozenset[int]:
        """All others that they use.

        Raises:
            HostFault: it could not be observed.
        """
        return self._senders.bits_in_use() - self._withdrawn


def consider_interrupted(
    inventory: Inventory,
    release: Release,
    seen: RoundAnswers,
    plan_id: str,
    purpose: Purpose,
    *,
    forward: bool,
) -> Admission:
    """What can be done with a fleet on which an interrupted rollout left this.

    To finish it there is a plan; undoing it needs none.
    """
    manifest = release.manifest
    evidence = {name: item for name, item in seen.items() if isinstance(item, Evidence)}
    obstacles = find(seen, manifest.sha256, purpose, forward=forward)
    if obstacles or purpose is not Purpose.RESUME:
        return Admission(obstacles, evidence)
    taken = judge(inventory, seen, manifest)
    verdicts = {verdict.host: verdict for verdict in taken.hosts}
    plan = make_plan(plan_id, inventory, manifest, evidence, verdicts)
    if not release.artifact and (lacking := plan.to_stage):
        text = f"lacks {release.label}, and so does this machine's store"
        obstacles = tuple(forbids(host, "RESUME_RELEASE", text) for host in lacking)
    return Admission(obstacles, evidence, plan, taken)
