"""Two faults on two hosts, the second also on the way back: none ends in a lie (P1, P2).

A sample. DEPLOYTOOL_PAIRS asks for more of them, DEPLOYTOOL_SEED for others, and a failure prints
the seed that it came from.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from deploytool.rehearsal.simulated.faults import Fault, Moment, possible

from .cases import Case, deploy, lies, rendered

COUNT = int(os.environ.get("DEPLOYTOOL_PAIRS", "300"))
SEED = int(os.environ.get("DEPLOYTOOL_SEED", "20120801"))
ON_THE_WAY_BACK = [
    Moment(verb, nth, part)
    for verb, nth, parts in (
        ("probe", 2, ("before", "after")),
        ("probe", 3, ("before", "after")),
        ("activate", 2, ("before", "link switched", "service stopped", "service started", "after")),
        ("confirm", 2, ("before", "after")),
        ("unlock", 1, ("before", "after")),
    )
    for part in parts
]


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", ["systemd", "process"])
def test_p1_no_pair_of_faults_ends_in_a_lie(artifact: Path, supervisor: str) -> None:
    chance = random.Random(f"{SEED} {supervisor}")  # noqa: S311 a sample, not a secret
    inventory = rendered(supervisor)
    forward = deploy(artifact, inventory).hosts["router1"].moments
    names = inventory.inventory.names
    firsts = [(m, f) for m in forward for f in Fault if possible(f, m)]
    seconds = [(m, f) for m in ON_THE_WAY_BACK for f in Fault if possible(f, m)]
    ends: Counter[int] = Counter()
    found: list[str] = []
    both = 0
    for _ in range(COUNT):
        hosts = chance.sample(names, 2)
        chosen = chance.choice(firsts), chance.choice(firsts + 2 * seconds)
        cases = tuple(Case(h, m, f) for h, (m, f) in zip(hosts, chosen, strict=True))
        ended = deploy(artifact, inventory, cases)
        both += all(ended.hosts[host].struck for host in hosts)
        ends[ended.code] += 1
        told = lies(ended, inventory.inventory, cases)
        found += [f"{' and '.join(map(str, cases))}: exit {ended.code}: {lie}" for lie in told]
    assert both > COUNT / 10, "the sample has to strike twice"
    assert not found, f"seed {SEED}: {len(found)} lies, ends {dict(ends)}: {found[:20]}"
