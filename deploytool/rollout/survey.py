"""Looks at a fleet and makes a plan for it, or finds what forbids one. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploytool.errors import HostFault
from deploytool.flags.compatibility import Senders
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.look import Seen, expect, judge, probe_call, take_round
from deploytool.parity.model import Evidence, Round
from deploytool.release.model import Manifest
from deploytool.rollout.fence import Fence
from deploytool.rollout.live import given_away
from deploytool.rollout.model import Plan
from deploytool.rollout.planning import Obstacle, make_plan, preflight


@dataclass(frozen=True)
class Survey:
    """What one look came to: a plan and the round it rests on, or the obstacles."""

    obstacles: tuple[Obstacle, ...]
    evidence: Mapping[str, Evidence]
    plan: Plan | None = None
    round: Round | None = None


def consider(inventory: Inventory, manifest: Manifest, seen: Seen, plan_id: str) -> Survey:
    """What can be done with a fleet that showed this."""
    bare = {name: expect(inventory, name, None) for name in inventory.names}
    obstacles = preflight(seen, bare, manifest)
    evidence = {name: item for name, item in seen.items() if not isinstance(item, HostFault)}
    if obstacles or set(evidence) != set(inventory.names):
        return Survey(obstacles, evidence)
    taken = judge(inventory, seen, manifest)
    verdicts = {verdict.host: verdict for verdict in taken.hosts}
    plan = make_plan(plan_id, inventory, manifest, evidence, verdicts)
    return Survey((), evidence, plan, taken)


def survey(
    inventory: Inventory,
    manifest: Manifest,
    hosts: Mapping[str, Host],
    plan_id: str,
    senders: Senders | None = None,
) -> Survey:
    """Takes one round and considers it; what flags forbid is said too."""
    call = probe_call((manifest.sha256, manifest.digest()), manifest.requires)
    seen = take_round(hosts, call, inventory.ssh.command_timeout_s)
    found = consider(inventory, manifest, seen, plan_id)
    if found.plan is None:
        return found
    # Every host was asked for everything: there is nothing to look at again.
    fence = Fence(senders, lambda _names: {})
    switched = dict.fromkeys((h for wave in found.plan.waves for h in wave), manifest)
    in_the_way = (
        *given_away(inventory, found.evidence, manifest),
        *fence.armed(found.evidence),
        *fence.readings(found.evidence, switched),
    )
    return Survey(in_the_way, found.evidence) if in_the_way else found
