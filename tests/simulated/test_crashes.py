"""The deployer is killed wherever it can be, beside every fault: what it left is ended (P7)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from deploytool.rollout.model import Purpose
from deploytool.simulation.faults import Fault, possible
from deploytool.simulation.remembered import RememberedFleets

from .cases import Case, Remembering, deploy, rendered
from .crashes import Crash, Fleet, Photo, crashes, recover
from .sampling import Sampling

BOTH = (Purpose.RESUME, Purpose.ROLLBACK)
SUPERVISORS = ("systemd", "process")
HOSTS = 5
"""A canary, three, and one: as many as there have to be for three waves."""


def _points(fleets: RememberedFleets, artifact: Path) -> list[Crash]:
    fleet = Fleet.on(fleets, artifact)
    report, error, calls, photos = fleet.run(Purpose.DEPLOY)
    assert error is None, report.trouble
    assert min(calls.values()) >= 6
    assert len(photos) >= 12
    return crashes(calls, len(photos))


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", SUPERVISORS)
@pytest.mark.parametrize("purpose", BOTH, ids=lambda purpose: purpose.value)
def test_p7_every_crash_is_ended_from_another_machine(
    artifact: Path,
    supervisor: str,
    purpose: Purpose,
    sampling: Sampling,
    remembered: Remembering,
) -> None:
    """A sample of the points: ``--crashes all`` asks for each."""
    chance = random.Random(f"{sampling.seed} {supervisor} {purpose.value}")  # noqa: S311 a sample
    found = []
    fleets = remembered(rendered(supervisor, HOSTS))
    points = sampling.draw(_points(fleets, artifact), 2 * sampling.crashes, chance)
    for crash in points:
        fleet = Fleet.on(fleets, artifact)
        assert fleet.killed(Purpose.DEPLOY, crash), f"{crash} did not happen"
        found += [f"{crash}: {told}" for told in recover(fleet, purpose)]
    assert not found, f"{len(found)} of {len(points)} crashes: {found[:10]}"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_p7_every_crash_of_a_recovery_is_ended_too(
    artifact: Path,
    supervisor: str,
    sampling: Sampling,
    remembered: Remembering,
) -> None:
    """Killed on the way, whoever comes to finish or to undo is killed too, and a third ends it."""
    chance = random.Random(f"{sampling.seed} {supervisor} twice")  # noqa: S311 a sample
    fleets = remembered(rendered(supervisor, HOSTS))
    points = _points(fleets, artifact)
    cases = [(first, then) for first in points for then in BOTH]
    found: list[str] = []
    seconds = 0
    drawn = sampling.draw(cases, max(1, sampling.crashes // 2), chance)
    for first, then in drawn:
        second = chance.choice(points)
        fleet = Fleet.on(fleets, artifact)
        assert fleet.killed(Purpose.DEPLOY, first), f"{first} did not happen"
        seconds += fleet.killed(then, second)
        last = chance.choice(BOTH)
        name = f"{first}; {then.value} {second}; {last.value}"
        found += [f"{name}: {told}" for told in recover(fleet, last)]
    assert seconds > len(drawn) / 4, "the sample has to kill twice"
    assert not found, f"seed {sampling.seed}: {len(found)} of them: {found[:10]}"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_p7_a_fault_and_a_crash_are_ended_once_the_fault_is_lifted(
    artifact: Path,
    supervisor: str,
    sampling: Sampling,
    remembered: Remembering,
) -> None:
    """Step x host x fault x crash x recovery; a sample, or with ``--crashes all`` the product.

    A deployer dies at each record of a deploy that the fault strikes. Where the fleet is then to
    the byte what it was in an earlier case, what ends it is known.
    """
    chance = random.Random(f"{sampling.seed} {supervisor}")  # noqa: S311 a sample, not a secret
    inventory = rendered(supervisor, HOSTS)
    fleets = remembered(inventory)
    moments = deploy(artifact, inventory, fleets=fleets).hosts["router1"].moments
    cases = [
        Case(host, moment, fault)
        for host in inventory.inventory.names
        for moment in moments
        for fault in Fault
        if possible(fault, moment)
    ]
    known: dict[tuple[Photo, Purpose], tuple[str, ...]] = {}
    found: list[str] = []
    played = 0
    for case in sampling.draw(cases, sampling.crashes, chance):
        struck = Fleet.on(fleets, artifact)
        struck.strike((case,))
        photos = struck.run(Purpose.DEPLOY)[3]
        for record, photo in enumerate(photos, start=1):
            for purpose in BOTH:
                played += 1
                if (photo, purpose) not in known:
                    told = _ended(fleets, artifact, case, Crash(record=record), purpose)
                    known[photo, purpose] = told
                told = known[photo, purpose]
                found += [f"{case}; record {record}; {purpose.value}: {text}" for text in told]
    print(
        f"{played} crashes, {len(known)} of them unlike any other, beside faults at "
        f"{min(len(cases), sampling.crashes)} of {len(cases)} moments; seed {sampling.seed}"
    )
    assert len(known) > min(len(cases), sampling.crashes)
    assert not found, f"seed {sampling.seed}: {len(found)} of {played}: {found[:10]}"


def _ended(
    fleets: RememberedFleets, artifact: Path, case: Case, crash: Crash, purpose: Purpose
) -> tuple[str, ...]:
    """What is wrong after a deployer was killed beside a fault, and another one came to end it."""
    fleet = Fleet.on(fleets, artifact)
    fleet.strike((case,))
    assert fleet.killed(Purpose.DEPLOY, crash), f"{crash} did not happen"
    fleet.lift()
    return tuple(recover(fleet, purpose))
