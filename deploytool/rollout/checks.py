"""What forbids changing these hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from deploytool.core.finding import Finding, Level, forbids
from deploytool.errors import HostFault
from deploytool.fleet.model import Inventory
from deploytool.parity.host_notices import halt_notice, hold_notice, lock_notice
from deploytool.parity.model import Evidence, Expected, HostVerdict
from deploytool.parity.rules import unseen, wrong
from deploytool.parity.table import ProofUse, judge_fleet, judge_host
from deploytool.release.model import Manifest
from deploytool.rollout.model import HostPlan, Plan

ROOM_BYTES = 8 * 1024 * 1024
"""Free space that must be left beside a copy of the release."""

CHANGING = frozenset({"lock", "rollout", "held"})
"""Marks of a host that is being changed, by the names of their files."""


def rootless(inventory: Inventory) -> tuple[Finding, ...]:
    """Without systemd the deploy account and the service are one: no proof covers such a host."""
    if inventory.service.supervisor == "systemd" or inventory.throwaway:
        return ()
    text = (
        "without systemd the hosts have no root that could prove what runs: "
        "only a throwaway fleet is deployed to so"
    )
    return (forbids(inventory.fleet, "PREFLIGHT_ROOT", text),)


def preflight(
    seen: Mapping[str, Evidence | HostFault],
    expected: Mapping[str, Expected],
    manifest: Manifest,
    *,
    take_over: bool = False,
) -> tuple[Finding, ...]:
    """Everything that forbids changing these hosts, all at once.

    ``expected`` is what each host has to show with nothing active: the static rules alone look.
    ``take_over``: what another rollout left there is to be taken over, and forbids nothing.
    """
    obstacles = list(readiness(seen, expected))
    for host, outcome in seen.items():
        if isinstance(outcome, HostFault):
            continue
        obstacles += [_forbidding(f, host, rule) for rule, f in _room(outcome, manifest)]
        if outcome.halt is not None and outcome.halt.fenced:
            obstacles.append(forbids(host, "PREFLIGHT_STOPPED", halt_notice(outcome.halt)))
        if not take_over:
            obstacles += _occupied(host, outcome)
    return tuple(obstacles)


def _occupied(host: str, evidence: Evidence) -> Iterator[Finding]:
    """What another deployer does to this host, or left there."""
    if evidence.hold is not None:
        yield forbids(host, "PREFLIGHT_LOCK", hold_notice(evidence.hold))
    elif evidence.lock is not None:
        yield forbids(host, "PREFLIGHT_LOCK", lock_notice(evidence.lock))
    elif evidence.rollout is not None:
        text = f"has the mark of plan {evidence.rollout.plan}, which did not end"
        yield forbids(host, "PREFLIGHT_LOCK", text)
    elif unreadable := CHANGING.intersection(evidence.marks.unreadable):
        text = f"it is not known who changes it: state/{min(unreadable)} there can't be read"
        yield forbids(host, "PREFLIGHT_LOCK", text)


def _room(evidence: Evidence, manifest: Manifest) -> tuple[tuple[str, Finding], ...]:
    found: list[tuple[str, Finding]] = [
        ("PREFLIGHT_REQUIRES", wrong("programs", f"{program} on PATH", "none"))
        for program in evidence.shown.lacks
    ]
    need, what = manifest.size + ROOM_BYTES, f"free space in {evidence.root}/releases"
    if evidence.shown.free is None:
        found.append(("PREFLIGHT_SPACE", unseen(what, f"{need} bytes", "it was not said")))
    elif evidence.release_state != "intact" and evidence.shown.free < need:
        free = f"{evidence.shown.free} bytes"
        found.append(("PREFLIGHT_SPACE", wrong(what, f"{need} bytes", free)))
    return tuple(found)


def moved(plan: Plan, fresh: Plan) -> tuple[Finding, ...]:
    """How the fleet differs from what ``plan`` was bound to; empty when it doesn't."""
    obstacles = []
    for what, was, now in (
        ("fleet", plan.fleet, fresh.fleet),
        ("inventory", plan.inventory, fresh.inventory),
        ("release", plan.release, fresh.release),
    ):
        if was != now:
            obstacles.append(forbids(what, "PLAN_MOVED", f"was {was[:12]}, is {now[:12]}"))
    then = {item.host: item for item in plan.hosts}
    for item in fresh.hosts:
        old = then.get(item.host)
        if old is None or old.observed != item.observed or old.action is not item.action:
            obstacles.append(forbids(item.host, "PLAN_MOVED", _since_then(old, item)))
    return tuple(obstacles)


def _since_then(old: HostPlan | None, fresh: HostPlan) -> str:
    """What is another on a host than the plan found."""
    if old is None:
        return "is not in the plan"
    was, now = old.observed, fresh.observed
    if was.machine != now.machine:
        return "is another machine than the plan found"
    if was.release != now.release:
        return f"was on {_named(was.release)} when the plan was made, is on {_named(now.release)}"
    if was.token != now.token:
        return "was locked by a rollout since the plan was made"
    if (was.pid, was.start) != (now.pid, now.start):
        return f"runs process {now.pid}, the plan found {was.pid}"
    return f"needs another thing than the plan says: {fresh.action.value}"


def _named(release: str | None) -> str:
    return release[:12] if release else "no release"


def readiness(
    seen: Mapping[str, Evidence | HostFault], expected: Mapping[str, Expected]
) -> tuple[Finding, ...]:
    """What keeps hosts from being deployed to, whatever the release."""
    obstacles: list[Finding] = []
    verdicts: list[HostVerdict] = []
    for host, outcome in seen.items():
        if isinstance(outcome, HostFault):
            found = forbids(host, "PREFLIGHT_REACHABLE", str(outcome), **outcome.facts)
            obstacles.append(found)
        else:
            verdicts.append(judge_host(host, expected[host], outcome, ProofUse.CHANGE))
    for verdict in judge_fleet(verdicts, ProofUse.CHANGE):
        obstacles += [_forbidding(f, verdict.host, "PREFLIGHT_HOST") for f in verdict.findings]
    return tuple(obstacles)


def _forbidding(finding: Finding, host: str, rule: str) -> Finding:
    """What was found on a host, as a reason why it may not be changed."""
    facts = {**finding.facts, "proof_rule": finding.rule, "level": finding.level.value}
    return replace(finding, host=host, rule=rule, level=Level.FORBIDS, facts=facts)
