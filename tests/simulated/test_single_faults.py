"""Every single fault, on a host, at a moment of a rollout: none ends in a lie (P1, P2).

A moment is a call of the port by the agent that changes something, and what is before and after
each request. A sample of each fault: ``--singles N`` asks for more, ``--singles all`` for each at
each moment on each host.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from deploytool.simulation.faults import AFTER, BEFORE, Fault, possible
from deploytool.simulation.oracle import truth

from .cases import NEW, Case, Remembering, deploy, lies, rendered
from .sampling import Sampling

ALL = tuple(f"router{number}" for number in range(1, 9))
ONE_OF_EACH_WAVE = ("router1", "router4", "router8")


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize(("supervisor", "hosts"), [("systemd", ALL), ("process", ONE_OF_EACH_WAVE)])
@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
def test_p1_no_single_fault_ends_in_a_lie(
    artifact: Path,
    supervisor: str,
    hosts: tuple[str, ...],
    fault: Fault,
    sampling: Sampling,
    remembered: Remembering,
) -> None:
    inventory = rendered(supervisor)
    fleets = remembered(inventory)
    healthy = deploy(artifact, inventory, fleets=fleets)
    assert healthy.code == 0
    moments = healthy.hosts["router1"].moments
    assert len(moments) > 100

    possible_ones = [m for m in moments if possible(fault, m)]
    around = [Case(h, m, fault) for h in hosts for m in possible_ones if m.part in {BEFORE, AFTER}]
    parts = [m for m in possible_ones if m.part not in {BEFORE, AFTER}]
    within = [Case(h, m, fault) for h in hosts for m in parts]
    chance = random.Random(f"{sampling.seed} {supervisor} {fault.name}")  # noqa: S311 a sample
    cases = [*sampling.draw(around, sampling.singles, chance)]
    cases += sampling.draw(within, sampling.singles, chance) if within else []
    ends: Counter[int] = Counter()
    found = []
    for case in cases:
        ended = deploy(artifact, inventory, (case,), fleets=fleets)
        struck = ended.hosts[case.host].struck
        assert struck == [case.moment], f"{case} did not strike"
        ends[ended.code] += 1
        told = lies(ended, inventory.inventory, (case,))
        found += [f"{case}: exit {ended.code}: {lie}" for lie in told]
    text = f"{len(found)} lies, {len(cases)} cases, ends {dict(ends)}: {found[:20]}"
    assert not found, f"seed {sampling.seed}: {text}"


@pytest.mark.usefixtures("swift")
def test_p1_the_oracle_itself_sees_a_healthy_fleet_and_a_missed_host(artifact: Path) -> None:
    ended = deploy(artifact, rendered("systemd"))
    assert all(truth(host).runs(NEW[0].sha256) for host in ended.hosts.values())
    ended.hosts["router8"].service.stop()
    assert not truth(ended.hosts["router8"]).runs(NEW[0].sha256)
