"""Records of rehearsals: what one says, its one spelling in bytes, and what it shows. Pure.

A record is written by the rehearsal itself, and signed by whoever rehearsed. A digest in the
record alone would show nothing: who edits it computes it anew. See docs/decisions/0008-records.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from deploytool.fleet.fields import Frozen, Line, Name
from deploytool.fleet.model import Inventory, RehearsalDemand, split_waves
from deploytool.gate.rules import CLOCK_SKEW_S
from deploytool.registry.model import canonical
from deploytool.release.model import Hex64, Version

NAMESPACE = "rehearsal.deploytool"
"""OpenSSH's signature namespace: a signature made for anything else is not one of ours."""
BYTES_AT_MOST = 256 * 1024
DAY_S = 86_400
FAULT_HOSTS_AT_LEAST = 3
"""A canary and a wave behind it: with fewer hosts, nothing that is between hosts shows."""

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Second = Annotated[int, Field(ge=0, le=2**40)]


class Shape(Frozen):
    """What a fleet is like, as far as a rehearsal on another one says something about it."""

    service: Name
    supervisor: Literal["systemd", "process"]
    waves: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]

    @property
    def hosts(self) -> int:
        """How many hosts it has."""
        return sum(self.waves)

    def __str__(self) -> str:
        waves = " + ".join(map(str, self.waves))
        return f"{self.hosts} hosts of {self.service} under {self.supervisor}, waves {waves}"


def shape_of(inventory: Inventory) -> Shape:
    """The shape of a declared fleet."""
    return Shape(
        service=inventory.service.name,
        supervisor=inventory.service.supervisor,
        waves=tuple(len(wave) for wave in split_waves(inventory.waves, inventory.names)),
    )


class PlayedScenario(Frozen):
    """How one scenario went: how many points it had to show, and how many of them it did."""

    name: Line
    passed: bool
    points: Count
    held: Count


class PlayedFaults(Frozen):
    """How a campaign of faults went."""

    faults: tuple[Line, ...]
    seed: Seed
    planned: Count
    played: Count
    struck: Count
    false_successes: Count
    unresolved: Count
    unexpected: Count

    @property
    def good(self) -> bool:
        """Whether all that was planned was played, some of it struck, and nothing was bad."""
        bad = self.false_successes + self.unresolved + self.unexpected
        return not bad and self.planned == self.played and 0 < self.struck <= self.played


class RehearsalRecord(Frozen):
    """One rehearsal: of this release, from that one, on a fleet of this shape, then."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    tool: Line
    release: Hex64
    version: Version
    baseline: Hex64
    fleet: Line
    shape: Shape
    began: Second
    ended: Second
    scenarios: tuple[PlayedScenario, ...] = ()
    faults: PlayedFaults | None = None

    def canonical(self) -> bytes:
        """The bytes that are signed: canonical JSON, one line."""
        return canonical(self.model_dump(mode="json", by_alias=True)) + b"\n"

    @staticmethod
    def parse(content: bytes) -> RehearsalRecord:
        """A record from the bytes that were signed.

        Raises:
            ValueError: it is none, or is not in its one spelling.
        """
        found = RehearsalRecord.model_validate_json(content)
        if found.canonical() != content:
            raise ValueError("it is not as a rehearsal writes it (sorted keys, one line)")
        return found


@dataclass(frozen=True)
class Kept:
    """A record as it was found: whose signature is on it, or why it is not believed."""

    place: str
    record: RehearsalRecord | None
    signer: str = ""
    trouble: str = ""


def shown(
    kept: Iterable[Kept], release: str, shape: Shape, demand: RehearsalDemand, now: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the records show of this release on this shape, and what of the demand they don't.

    Where they don't, each record that does not count is named with why: it is not believed, is of
    another release or shape, is too old, or comes from the future.
    """
    counting: list[tuple[Kept, RehearsalRecord]] = []
    aside: list[str] = []
    for item in kept:
        why = _set_aside(item, release, shape, demand, now)
        if why:
            aside.append(f"{item.place}: {why}")
        elif item.record is not None:
            counting.append((item, item.record))
    lacking = [*_scenarios(counting, shape, demand), *_faults(counting, demand)]
    evidence = tuple(_told(item, record, now) for item, record in counting)
    return evidence, (*lacking, *(aside if lacking else ()))


def _set_aside(item: Kept, release: str, shape: Shape, demand: RehearsalDemand, now: float) -> str:
    record = item.record
    if record is None:
        return item.trouble
    if record.release != release:
        return f"it is of {record.version} ({record.release[:8]})"
    if item.trouble:
        return item.trouble
    if record.ended > now + CLOCK_SKEW_S:
        return f"it ends {record.ended - now:.0f} s in the future: a clock is off"
    if record.began > record.ended:
        return "it ended before it began"
    if now - record.ended > demand.within_days * DAY_S:
        age = (now - record.ended) / DAY_S
        return f"it is {age:.1f} days old, and may be {demand.within_days}"
    return _other_shape(record, shape)


def _other_shape(record: RehearsalRecord, shape: Shape) -> str:
    """Why what was rehearsed is another fleet. Faults may be rehearsed on fewer hosts."""
    same = record.shape == shape
    if record.faults is not None:
        here = record.shape
        alike = (here.service, here.supervisor) == (shape.service, shape.supervisor)
        same = alike and here.hosts >= min(FAULT_HOSTS_AT_LEAST, shape.hosts)
    return "" if same else f"it was played on {record.shape}; the inventory declares {shape}"


def _scenarios(
    counting: Iterable[tuple[Kept, RehearsalRecord]], shape: Shape, demand: RehearsalDemand
) -> Iterator[str]:
    """The newest record of each scenario counts: a failure is not undone by an older success."""
    newest: dict[str, tuple[int, PlayedScenario]] = {}
    for _, record in counting:
        for played in record.scenarios:
            if record.shape == shape and newest.get(played.name, (-1,))[0] <= record.ended:
                newest[played.name] = (record.ended, played)
    for name, (_, played) in sorted(newest.items()):
        if not (played.passed and 0 < played.points == played.held):
            yield f"{name} showed {played.held} of {played.points} points when it was played last"
    for name in demand.scenarios:
        if name not in newest:
            yield f"{name} was not rehearsed with this release on {shape}"


def _faults(
    counting: Iterable[tuple[Kept, RehearsalRecord]], demand: RehearsalDemand
) -> Iterator[str]:
    """No campaign that counts may have a lie in it, and the good ones must have cases enough.

    A case counts where its fault struck, and once: a seed plays the same cases again.
    """
    cases: dict[tuple[str, int, tuple[str, ...], int], int] = {}
    for item, record in counting:
        played = record.faults
        if played is None:
            continue
        if played.good:
            key = (record.fleet, record.shape.hosts, played.faults, played.seed)
            cases[key] = max(played.struck, cases.get(key, 0))
        else:
            yield (
                f"{item.place}: {played.false_successes} false successes, {played.unresolved} "
                f"unresolved, {played.unexpected} unexpected ends in {played.played} of "
                f"{played.planned} cases, {played.struck} of which struck"
            )
    if (count := sum(cases.values())) < demand.faults:
        yield (
            f"{count} cases of faults struck in rehearsals of this release, not {demand.faults} "
            "(a seed's cases count once: play others with --seed)"
        )


def _told(item: Kept, record: RehearsalRecord, now: float) -> str:
    days = (now - record.ended) / DAY_S
    played = [f"{s.name} {s.held}/{s.points}" for s in record.scenarios]
    if record.faults is not None:
        faults = record.faults
        played.append(f"{faults.struck} struck of {faults.played}, {len(faults.faults)} faults")
    what = ", ".join(played) or "nothing"
    return f"{item.place}: {what}, {record.shape.hosts} hosts, {days:.1f} days ago, {item.signer}"
