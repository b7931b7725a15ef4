"""Two faults on two hosts, the second also on the way back: none ends in a lie (P1, P2).

A sample: ``--pairs N`` asks for more of them, ``--pairs all`` for each pair of faults at each pair
of moments on a canary and a host of the last wave, ``--seed N`` for others. A failure prints the
seed that it came from.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.simulation.faults import AFTER, CallPoint, Fault, possible

from .cases import Case, Remembering, deploy, lies, rendered
from .sampling import ALL, Sampling

Struck = tuple[CallPoint, Fault]


def _pairs(
    firsts: list[Struck],
    seconds: list[Struck],
    names: tuple[str, ...],
    sampling: Sampling,
    key: str,
) -> Iterator[tuple[Case, Case]]:
    if sampling.pairs == ALL:
        for one, other in itertools.product(firsts, firsts + seconds):
            yield Case(names[0], *one), Case(names[-1], *other)
        return
    chance = random.Random(f"{sampling.seed} {key}")  # noqa: S311 a sample, not a secret
    for _ in range(sampling.pairs):
        hosts = chance.sample(names, 2)
        one, other = chance.choice(firsts), chance.choice(firsts + 2 * seconds)
        yield Case(hosts[0], *one), Case(hosts[1], *other)


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", ["systemd", "process"])
def test_p1_no_pair_of_faults_ends_in_a_lie(
    artifact: Path,
    supervisor: str,
    sampling: Sampling,
    remembered: Remembering,
) -> None:
    inventory = rendered(supervisor)
    fleets = remembered(inventory)
    forward = deploy(artifact, inventory, fleets=fleets).hosts["router1"].moments
    firsts = [(m, f) for m in forward for f in Fault if possible(f, m)]
    dies = Case("router4", CallPoint("activate", 1, AFTER), Fault.CRASHES)
    back = list(deploy(artifact, inventory, (dies,), fleets=fleets).hosts["router1"].moments)
    seconds = [(m, f) for m in back if m not in forward for f in Fault if possible(f, m)]
    assert {m.verb for m, _ in seconds} >= {"renew", "activate", "confirm"}
    ends: Counter[int] = Counter()
    found: list[str] = []
    both = 0
    for cases in _pairs(firsts, seconds, inventory.inventory.names, sampling, supervisor):
        ended = deploy(artifact, inventory, cases, fleets=fleets)
        both += all(ended.hosts[case.host].struck for case in cases)
        ends[ended.code] += 1
        told = lies(ended, inventory.inventory, cases)
        found += [f"{' and '.join(map(str, cases))}: exit {ended.code}: {lie}" for lie in told]
    played = sum(ends.values())
    print(f"{played} pairs, {both} of them struck twice, ends {dict(ends)}; seed {sampling.seed}")
    assert both > played / 10, "the sample has to strike twice"
    assert not found, f"seed {sampling.seed}: {len(found)} lies, ends {dict(ends)}: {found[:20]}"
