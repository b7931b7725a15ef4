"""A whole rehearsal of faults: a fleet of its own, the cases, and the fleet away again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import DeploytoolError, NotProven
from deploytool.fleet.inventory import load_inventory
from deploytool.gate.record import shape_of
from deploytool.rehearsal.faults.cases import every_case, sample, select
from deploytool.rehearsal.faults.operators import Operators
from deploytool.rehearsal.faults.report import Campaign
from deploytool.rehearsal.faults.run import Rehearsal, campaign
from deploytool.rehearsal.fleets import open_fleet
from deploytool.rehearsal.fleets.model import Kind, silent
from deploytool.release.model import Release

CASES = {"container": 200, "local": 60, "vagrant": 20}
"""How many cases are played where nobody says a number."""
HOSTS = 3
"""A canary and a wave behind it: what can go wrong between hosts shows with few of them."""
_CASE_S = 11
_SEEDS = 1_000_000


@dataclass(frozen=True)
class Wish:
    """What is to be rehearsed. ``cases`` and ``seed``: None where nobody says."""

    kind: Kind
    faults: tuple[str, ...]
    hosts: int = HOSTS
    cases: int | None = None
    seed: int | None = None


def rehearse_faults(
    wish: Wish,
    folder: Path,
    store: Path,
    releases: tuple[Release, Release],
    say: Callable[[str], None],
) -> Campaign:
    """Plays the cases that are wished for, on a fleet that is made for it in ``folder``.

    Raises:
        InputError: a fault is not known, or can't be brought on this kind of fleet.
        EnvironmentProblem: there is no such fleet on this machine, or no baseline.
    """
    chosen = select(wish.faults, wish.kind)
    fleet = open_fleet(wish.kind, folder)
    names = tuple(f"router{number}" for number in range(1, wish.hosts + 1))
    possible = every_case(chosen, names)
    seed = random.randrange(_SEEDS) if wish.seed is None else wish.seed  # noqa: S311 printed
    cases = sample(possible, CASES[wish.kind] if wish.cases is None else wish.cases, seed)
    result = Campaign(wish.kind, wish.hosts, seed, len(possible), len(cases))
    say(
        f"{len(cases)} of {len(possible)} cases, {len(chosen)} faults, {wish.hosts} {wish.kind} "
        f"hosts, seed {seed}; about {max(1, len(cases) * _CASE_S // 60)} min on a quiet machine"
    )
    fleet.down(silent)
    try:
        fleet.up(wish.hosts, silent)
        result.shape = shape_of(load_inventory(fleet.inventory))
        operators = Operators(fleet, store)
        try:
            campaign(Rehearsal(fleet, operators, releases), cases, result, say)
        finally:
            operators.close()
    finally:
        fleet.down(silent)
    return result


def verdict(result: Campaign) -> DeploytoolError | None:
    """None where every case was played and nothing is to be said against any."""
    if result.passed and len(result.played) == result.planned:
        return None
    bad = tuple(str(item) for item in result.played if not item.good)
    return NotProven(
        f"{len(result.lies)} false successes, {len(result.unresolved)} unresolved, "
        f"{len(result.odd)} unexpected ends in "
        f"{len(result.played)} of {result.planned} cases.",
        "This build of deploytool is not fit for your fleet.",
        f"deploytool rehearse --fleet {result.kind} --faults NAME --seed {result.seed}",
        bad,
    )
