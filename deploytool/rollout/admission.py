"""Probes a fleet and makes a plan for it, or finds what forbids one. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploytool.agent.model import KnownRelease
from deploytool.errors import HostFault
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.judge import expect, judge
from deploytool.parity.model import Evidence, Round, RoundAnswers
from deploytool.parity.round import probe_request, take_round
from deploytool.registry.compatibility import Senders
from deploytool.release.model import Manifest, Release
from deploytool.rollout.baseline import find
from deploytool.rollout.build_conflicts import build_conflicts
from deploytool.rollout.checks import Obstacle, moved, preflight, rootless
from deploytool.rollout.flag_checks import FlagCheck
from deploytool.rollout.model import Plan, Purpose
from deploytool.rollout.plan import make_plan


@dataclass(frozen=True)
class Admission:
    """What one probe came to: a plan and the round it rests on, or the obstacles."""

    obstacles: tuple[Obstacle, ...]
    evidence: Mapping[str, Evidence]
    plan: Plan | None = None
    round: Round | None = None


def consider(
    inventory: Inventory, manifest: Manifest, seen: RoundAnswers, plan_id: str
) -> Admission:
    """What can be done with a fleet that showed this."""
    bare = {name: expect(inventory, name, None) for name in inventory.names}
    obstacles = (*rootless(inventory), *preflight(seen, bare, manifest))
    evidence = {name: item for name, item in seen.items() if not isinstance(item, HostFault)}
    if obstacles or set(evidence) != set(inventory.names):
        return Admission(obstacles, evidence)
    taken = judge(inventory, seen, manifest)
    verdicts = {verdict.host: verdict for verdict in taken.hosts}
    plan = make_plan(plan_id, inventory, manifest, evidence, verdicts)
    return Admission((), evidence, plan, taken)


def admit(
    inventory: Inventory,
    manifest: Manifest,
    hosts: Mapping[str, Host],
    plan_id: str,
    senders: Senders | None = None,
    known: tuple[KnownRelease, ...] = (),
) -> Admission:
    """Takes one round and considers it; what flags forbid is said too."""
    asked = (manifest.sha256, manifest.digest())
    call = probe_request(asked, manifest.requires, known=known)
    seen = take_round(hosts, call, inventory.ssh.command_timeout_s)
    found = consider(inventory, manifest, seen, plan_id)
    if found.plan is None:
        return found
    in_the_way = (
        *build_conflicts(inventory, found.evidence, manifest),
        *_flags_forbid(found, manifest, senders),
    )
    return Admission(in_the_way, found.evidence) if in_the_way else found


def _flags_forbid(
    found: Admission, manifest: Manifest, senders: Senders | None
) -> tuple[Obstacle, ...]:
    # Every host was asked for everything: there is nothing to look at again.
    check = FlagCheck(senders, lambda _names: {})
    waves = found.plan.waves if found.plan else ()  # what is gone back to is not known yet
    switched = dict.fromkeys((host for wave in waves for host in wave), manifest)
    return (*check.armed(found.evidence), *check.readings(found.evidence, switched))


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


def forbids(
    inventory: Inventory,
    release: Release,
    hosts: Mapping[str, Host],
    purpose: Purpose,
    senders: Senders | None,
    bound: Plan | None,
    *,
    forward: bool,
) -> tuple[Obstacle, ...]:
    """Everything that a rollout would be refused by, before it takes a lock; changes nothing."""
    manifest = release.manifest
    call = probe_request((manifest.sha256, manifest.digest()), manifest.requires)
    seen = take_round(hosts, call, inventory.ssh.command_timeout_s)
    if purpose is not Purpose.DEPLOY:
        left = consider_interrupted(inventory, release, seen, "", purpose, forward=forward)
        return left.obstacles or _flags_forbid(left, manifest, senders)
    found = consider(inventory, manifest, seen, "")
    if found.plan is None:
        return found.obstacles
    return (
        *(moved(bound, found.plan) if bound else ()),
        *build_conflicts(inventory, found.evidence, manifest),
        *_flags_forbid(found, manifest, senders),
    )


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
        obstacles = tuple(Obstacle(host, "RESUME_RELEASE", text) for host in lacking)
    return Admission(obstacles, evidence, plan, taken)
