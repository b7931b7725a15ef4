"""What forbids changing these hosts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploytool.errors import HostFault
from deploytool.fleet.model import Inventory
from deploytool.parity.host_notices import halt_notice, hold_notice, lock_notice
from deploytool.parity.model import Evidence, Expected, Finding, HostVerdict
from deploytool.parity.rules import unseen, wrong
from deploytool.parity.table import ProofUse, judge_fleet, judge_host
from deploytool.release.model import Manifest
from deploytool.rollout.model import HostPlan, Plan

ROOM_BYTES = 8 * 1024 * 1024
"""Free space that must be left beside a copy of the release."""

CHANGING = frozenset({"lock", "rollout", "held"})
"""Marks of a host that is being changed, by the names of their files."""


@dataclass(frozen=True)
class Obstacle:
    """One reason why a host, or the fleet, may not be changed."""

    host: str
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.host}: {self.text}"


def rootless(inventory: Inventory) -> tuple[Obstacle, ...]:
    """Without systemd the deploy account and the service are one: no proof covers such a host."""
    if inventory.service.supervisor == "systemd" or inventory.throwaway:
        return ()
    text = (
        "without systemd the hosts have no root that could prove what runs: "
        "only a throwaway fleet is deployed to so"
    )
    return (Obstacle(inventory.fleet, "PREFLIGHT_ROOT", text),)


def preflight(
    seen: Mapping[str, Evidence | HostFault], expected: Mapping[str, Expected], manifest: Manifest
) -> tuple[Obstacle, ...]:
    """Everything that forbids changing these hosts, all at once.

    ``expected`` is what each host has to show with nothing active: the static rules alone look.
    """
    obstacles = list(readiness(seen, expected))
    for host, outcome in seen.items():
        if isinstance(outcome, HostFault):
            continue
        obstacles += [Obstacle(host, rule, str(f)) for rule, f in _room(outcome, manifest)]
        if outcome.halt is not None and outcome.halt.fenced:
            obstacles.append(Obstacle(host, "PREFLIGHT_STOPPED", halt_notice(outcome.halt)))
        if outcome.hold is not None:
            obstacles.append(Obstacle(host, "PREFLIGHT_LOCK", hold_notice(outcome.hold)))
        elif outcome.lock is not None:
            obstacles.append(Obstacle(host, "PREFLIGHT_LOCK", lock_notice(outcome.lock)))
        elif outcome.rollout is not None:
            text = f"has the mark of plan {outcome.rollout.plan}, which did not end"
            obstacles.append(Obstacle(host, "PREFLIGHT_LOCK", text))
        elif unreadable := CHANGING.intersection(outcome.marks.unreadable):
            text = f"nobody can tell who changes it: state/{min(unreadable)} there can't be read"
            obstacles.append(Obstacle(host, "PREFLIGHT_LOCK", text))
    return tuple(obstacles)


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


def moved(plan: Plan, fresh: Plan) -> tuple[Obstacle, ...]:
    """How the fleet differs from what ``plan`` was bound to; empty when it doesn't."""
    obstacles = []
    for what, was, now in (
        ("fleet", plan.fleet, fresh.fleet),
        ("inventory", plan.inventory, fresh.inventory),
        ("release", plan.release, fresh.release),
    ):
        if was != now:
            obstacles.append(Obstacle(what, "PLAN_MOVED", f"was {was[:12]}, is {now[:12]}"))
    then = {item.host: item for item in plan.hosts}
    for item in fresh.hosts:
        old = then.get(item.host)
        if old is None or old.observed != item.observed or old.action is not item.action:
            obstacles.append(Obstacle(item.host, "PLAN_MOVED", _since_then(old, item)))
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
) -> tuple[Obstacle, ...]:
    """What keeps hosts from being deployed to, whatever the release."""
    obstacles: list[Obstacle] = []
    verdicts: list[HostVerdict] = []
    for host, outcome in seen.items():
        if isinstance(outcome, HostFault):
            obstacles.append(Obstacle(host, "PREFLIGHT_REACHABLE", str(outcome)))
        else:
            verdicts.append(judge_host(host, expected[host], outcome, ProofUse.CHANGE))
    for verdict in judge_fleet(verdicts, ProofUse.CHANGE):
        obstacles += [
            Obstacle(verdict.host, "PREFLIGHT_HOST", str(finding)) for finding in verdict.findings
        ]
    return tuple(obstacles)
