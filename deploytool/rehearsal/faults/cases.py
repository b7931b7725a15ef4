"""Which cases are played: every fault on every host at every moment, sampled from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from deploytool.errors import InputError
from deploytool.rehearsal.faults.catalogue import (
    CATALOGUE,
    DURING,
    NOT_ON_REAL_HOSTS,
    CatalogueEntry,
    Moment,
)
from deploytool.rehearsal.fleets.model import Kind

_RECORDS = 14
"""Records that a deploy in two waves writes into its journal."""


@dataclass(frozen=True)
class Case:
    """One fault at one moment, and what is done about it afterwards.

    ``record`` counts the journal's records where that tells the moment. ``elsewhere``: what was
    left is mended from another machine, with an empty journal and an empty store.
    """

    fault: CatalogueEntry
    host: str
    moment: Moment
    recovery: str
    elsewhere: bool
    record: int | None = None

    def __str__(self) -> str:
        where = f" on {self.host}" if self.fault.every_host else ""
        when = self.moment.value if self.record is None else f"at journal record {self.record}"
        return f"{self.fault.name}{where}, {when}"


def select(words: tuple[str, ...], kind: Kind) -> tuple[CatalogueEntry, ...]:
    """The faults that ``words`` name ("all": every one), as far as this kind of fleet has them.

    Raises:
        InputError: a name is unknown, or this kind of fleet can't have that fault.
    """
    possible = {entry.name: entry for entry in CATALOGUE if kind in entry.kinds}
    if not words or "all" in words:
        return tuple(possible.values())
    wrong = sorted(set(words) - set(possible))
    if wrong:
        reasons = {entry.name: f"needs a fleet of {entry.kinds[0]}s" for entry in CATALOGUE}
        lines = (
            f"{name}: {(NOT_ON_REAL_HOSTS | reasons).get(name, 'no fault has this name')}"
            for name in wrong
        )
        raise InputError(
            f"A {kind} fleet can't be struck with {', '.join(wrong)}.",
            "Nothing was rehearsed.",
            f"Name one of: {', '.join(possible)}",
            tuple(lines),
        )
    return tuple(possible[name] for name in dict.fromkeys(words))


def every_case(faults: tuple[CatalogueEntry, ...], hosts: tuple[str, ...]) -> list[Case]:
    """The whole product."""
    found: list[Case] = []
    for fault in faults:
        if fault.name == "deployer-killed":
            found += [
                Case(fault, hosts[0], DURING[0], recovery, elsewhere, record)
                for record in range(1, _RECORDS + 1)
                for recovery in ("resume", "rollback")
                for elsewhere in (False, True)
            ]
            continue
        for number, host in enumerate(hosts if fault.every_host else hosts[:2]):
            for moment in fault.moments:
                # Not chance but parity, so that the product is the same whatever the seed.
                odd = number + fault.moments.index(moment)
                recovery = ("resume", "rollback")[odd % 2]
                found.append(Case(fault, host, moment, recovery, odd % 4 > 1))
    return found


def sample(cases: list[Case], count: int, seed: int) -> list[Case]:
    """``count`` of them in an order that the seed says; each fault at least once, if it can be."""
    chance = random.Random(seed)  # noqa: S311 a sample that can be drawn again, not a secret
    shuffled = chance.sample(cases, len(cases))
    firsts = {case.fault.name: case for case in reversed(shuffled)}
    chosen = list(firsts.values())[:count]
    rest = [case for case in shuffled if case not in chosen]
    chosen += rest[: count - len(chosen)]
    return chance.sample(chosen, len(chosen))
