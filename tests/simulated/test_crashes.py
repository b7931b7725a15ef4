"""The deployer is killed wherever it can be, beside every fault: what it left is ended (P7)."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from deploytool.rehearsal.simulated.faults import Fault, possible
from deploytool.rollout.model import Purpose

from .cases import Case, deploy, rendered
from .crashes import Crash, Fleet, crashes, recover
from .sampling import Sampling

BOTH = (Purpose.RESUME, Purpose.ROLLBACK)
SUPERVISORS = ("systemd", "process")


def _points(supervisor: str, artifact: Path) -> list[Crash]:
    report, error, calls, records = Fleet.on(rendered(supervisor), artifact).run(Purpose.DEPLOY)
    assert error is None, report.trouble
    assert min(calls.values()) >= 6
    assert records >= 12
    return crashes(calls, records)


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", SUPERVISORS)
@pytest.mark.parametrize("purpose", BOTH, ids=lambda purpose: purpose.value)
def test_p7_every_crash_is_ended_from_another_machine(
    artifact: Path, supervisor: str, purpose: Purpose
) -> None:
    found = []
    points = _points(supervisor, artifact)
    for crash in points:
        fleet = Fleet.on(rendered(supervisor), artifact)
        assert fleet.killed(Purpose.DEPLOY, crash), f"{crash} did not happen"
        found += [f"{crash}: {told}" for told in recover(fleet, purpose)]
    assert not found, f"{len(found)} of {len(points)} crashes: {found[:10]}"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_p7_every_crash_of_a_recovery_is_ended_too(
    artifact: Path, supervisor: str, sampling: Sampling
) -> None:
    """Killed on the way, whoever comes to finish or to undo is killed too, and a third ends it."""
    chance = random.Random(f"{sampling.seed} {supervisor} twice")  # noqa: S311 a sample
    points = _points(supervisor, artifact)
    cases = [(first, then) for first in points for then in BOTH]
    found: list[str] = []
    seconds = 0
    for first, then in sampling.draw(cases, sampling.crashes // 2, chance):
        second = chance.choice(points)
        fleet = Fleet.on(rendered(supervisor), artifact)
        assert fleet.killed(Purpose.DEPLOY, first), f"{first} did not happen"
        seconds += fleet.killed(then, second)
        last = chance.choice(BOTH)
        name = f"{first}; {then.value} {second}; {last.value}"
        found += [f"{name}: {told}" for told in recover(fleet, last)]
    assert seconds > 10, "the sample has to kill twice"
    assert not found, f"seed {sampling.seed}: {len(found)} of them: {found[:10]}"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_p7_a_fault_and_a_crash_are_ended_once_the_fault_is_lifted(
    artifact: Path, supervisor: str, sampling: Sampling
) -> None:
    """Step x host x fault x crash; a sample, and with ``--crashes all`` the whole product."""
    chance = random.Random(f"{sampling.seed} {supervisor}")  # noqa: S311 a sample, not a secret
    inventory = rendered(supervisor)
    moments = deploy(artifact, inventory).hosts["router1"].moments
    records = [crash for crash in _points(supervisor, artifact) if crash.record]
    cases = [
        (Case(host, moment, fault), crash)
        for host in inventory.inventory.names
        for moment in moments
        for fault in Fault
        if possible(fault, moment)
        for crash in records
    ]
    ends: Counter[str] = Counter()
    found: list[str] = []
    for number, (case, crash) in enumerate(sampling.draw(cases, sampling.crashes, chance)):
        fleet = Fleet.on(inventory, artifact)
        fleet.strike((case,))
        ends["killed" if fleet.killed(Purpose.DEPLOY, crash) else "ended before"] += 1
        fleet.lift()
        purpose = BOTH[number % 2]
        name = f"{case}; {crash}; {purpose.value}"
        found += [f"{name}: {told}" for told in recover(fleet, purpose)]
    print(f"{sum(ends.values())} of {len(cases)} cases, {dict(ends)}; seed {sampling.seed}")
    assert ends["killed"] > sum(ends.values()) / 4
    assert not found, f"seed {sampling.seed}: {len(found)}, {dict(ends)}: {found[:10]}"
