"""Makes the plan: what a deployment would do on each host. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from deploytool.fleet.model import Digest, Inventory, split_waves
from deploytool.parity.model import Evidence, HostVerdict, Verdict
from deploytool.release.model import Manifest
from deploytool.rollout.model import Action, HostPlan, Observed, Plan


def observed(evidence: Evidence) -> Observed:
    """What a plan is bound to, out of a host's evidence."""
    main = evidence.processes.get(evidence.main_pid)
    return Observed(
        machine=evidence.machine,
        release=evidence.release,
        token=evidence.token,
        pid=evidence.main_pid,
        start=main.start if main else None,
    )


def action(evidence: Evidence, verdict: HostVerdict, release: Digest) -> Action:
    """What brings one host to the release: no more than it needs."""
    if verdict.verdict is Verdict.MATCH:
        return Action.NOTHING
    if evidence.release_state != "intact":
        return Action.STAGE
    return Action.RESTART if evidence.release == release else Action.ACTIVATE


def make_plan(
    plan_id: str,
    inventory: Inventory,
    manifest: Manifest,
    seen: Mapping[str, Evidence],
    verdicts: Mapping[str, HostVerdict],
) -> Plan:
    """The plan for a fleet of which every host answered.

    Raises:
        ValueError: a declared host is missing from ``seen``, or an undeclared one is in it.
    """
    if set(seen) != set(inventory.names):
        raise ValueError("a plan needs the evidence of exactly the declared hosts")
    release = Digest(manifest.sha256)
    hosts = tuple(
        HostPlan(host=h, action=action(seen[h], verdicts[h], release), observed=observed(seen[h]))
        for h in inventory.names
    )
    busy = tuple(item.host for item in hosts if item.action is not Action.NOTHING)
    order = tuple(host for host in inventory.hosts if host in busy)
    return Plan(
        id=plan_id,
        fleet=inventory.fleet,
        inventory=inventory.digest(),
        release=release,
        label=manifest.label,
        hosts=hosts,
        waves=split_waves(inventory.waves, order),
    )
