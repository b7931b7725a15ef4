"""Two deployers at once, in every order of their looks, locks and takeovers (P1, P7)."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.errors import DeploytoolError
from deploytool.rehearsal.simulated import fleet, program
from deploytool.rehearsal.simulated.oracle import locked_by, truth
from deploytool.release.model import Manifest, Release
from deploytool.rollout.model import Purpose
from deploytool.rollout.outcome import conclude
from deploytool.rollout.runner import Runner

from .cases import NEW, OLD, Forgetful, Silent
from .turns import Both, Deployer, Gated, Turnstile, interleavings, play

OTHER = program.build("2026.3")
ANN, BOB = "a", "b"
NAMES = {ANN: "ann@desk", BOB: "bob@laptop"}


@functools.cache
def small(count: int) -> fleet.Rendered:
    return fleet.Rendered.of(fleet.inventory(count))


class Pair:
    """A small fleet, and the two who come to it."""

    def __init__(self, count: int, folder: Path) -> None:
        self.rendered = small(count)
        self.hosts = fleet.fleet_of(self.rendered, OLD)
        self._folder = folder

    def deployer(
        self, who: str, purpose: Purpose = Purpose.DEPLOY, release: tuple[Manifest, bytes] = NEW
    ) -> Deployer:
        artifact = self._folder / release[0].version
        if not artifact.exists():
            artifact.write_bytes(release[1])

        def run(turnstile: Turnstile) -> DeploytoolError | None:
            report = Runner(
                self.rendered.inventory,
                Release(release[0], str(artifact)),
                {name: Gated(host, turnstile) for name, host in self.hosts.items()},
                NAMES[who],
                Silent(),
                Forgetful(),
                plan_id=f"plan-{who}",
                purpose=purpose,
            ).run()
            return conclude(report, "inventory.yaml")

        return run

    def running(self) -> set[str | None]:
        """What the machines truly run; None for one that is not whole."""
        seen = {name: truth(host.helper) for name, host in self.hosts.items()}
        return {t.linked if t.linked and t.runs(t.linked) else None for t in seen.values()}

    def locks(self) -> set[str]:
        return {str(locked_by(h.helper)) for h in self.hosts.values() if locked_by(h.helper)}


def _untrue(pair: Pair, both: Both) -> Iterator[str]:
    """One wins or both did, one after the other; who is refused is told by whom."""
    codes = {who: both.code(who) for who in NAMES}
    if 0 not in codes.values():
        yield f"neither: {codes}"
    if set(codes.values()) - {0, 3}:
        yield f"ends that nobody's fault can lead to: {codes}"
    if pair.locks():
        yield f"locked by {pair.locks()} in the end"
    for who, error in both.ends.items():
        other = NAMES[BOB if who == ANN else ANN]
        if error is None:
            continue
        said = " ".join(error.details)
        if "LOCK" in error.what and other not in said:
            yield f"{NAMES[who]} is refused, and not told that {other} was there: {said}"
        if "LOCK" not in error.what and "PLAN_MOVED" not in error.what:
            yield f"{NAMES[who]} is refused by another rule: {error.what}"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize(("count", "calls"), [(2, 4), (3, 6)])
def test_p7_two_deployers_one_wins_in_every_order(tmp_path: Path, count: int, calls: int) -> None:
    """Each looks at every host and locks every host: so many first calls has each of them."""
    ends: Counter[str] = Counter()
    found = []
    for schedule in interleavings(ANN, BOB, calls):
        pair = Pair(count, tmp_path)
        deployers = {ANN: pair.deployer(ANN), BOB: pair.deployer(BOB, release=OTHER)}
        both = play(schedule, deployers)
        ends[f"{both.code(ANN)} {both.code(BOB)}"] += 1
        found += [f"{schedule}: {text}" for text in _untrue(pair, both)]
        winners = {
            release[0].sha256
            for who, release in ((ANN, NEW), (BOB, OTHER))
            if both.ends[who] is None
        }
        if not pair.running() <= winners or len(pair.running()) != 1:
            found.append(f"{schedule}: exit 0 is for {winners}, they run {pair.running()}")
    assert sum(ends.values()) == {4: 70, 6: 924}[calls]
    assert {"0 3", "3 0"} <= {*ends}, ends
    assert not found, f"{len(found)}, ends {dict(ends)}: {found[:10]}"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("purpose", [Purpose.RESUME, Purpose.ROLLBACK], ids=lambda p: p.value)
def test_p7_a_takeover_at_any_instant_leaves_one_in_charge(
    tmp_path: Path, purpose: Purpose
) -> None:
    """Bob takes Ann's locks over after any of her calls, and she wakes up after any of his."""
    found = []
    refused: Counter[int] = Counter()
    for before in range(1, 22):
        for taken in (1, 2, 4, 6, 8, 10, 12, 99):
            pair = Pair(3, tmp_path)
            deployers = {ANN: pair.deployer(ANN), BOB: pair.deployer(BOB, purpose)}
            schedule = ANN * before + BOB * taken + ANN
            both = play(schedule, deployers)
            refused[both.code(ANN)] += 1
            name = f"{before} calls, {purpose.value} {taken}: {both.code(ANN)}, {both.code(BOB)}"
            found += [f"{name}: {text}" for text in _stranded(pair, both, purpose)]
    assert refused[5] > 20, refused
    assert not found, f"{len(found)}: {found[:8]}"


def _stranded(pair: Pair, both: Both, purpose: Purpose) -> Iterator[str]:
    codes = {both.code(ANN), both.code(BOB)}
    runs, locks = pair.running(), pair.locks()
    wanted = (NEW if purpose is Purpose.RESUME else OLD)[0].sha256
    if codes & {1, 2, 130}:
        yield f"an end that nothing here can lead to: {codes}"
    if both.code(ANN) == 0 and both.code(BOB) == 0 and runs != {wanted}:
        yield f"both are proven, and they run {runs}"
    if both.code(BOB) == 0 and runs != {wanted}:
        yield f"{purpose.value} is proven, and they run {runs}"
    if 0 not in codes and 4 not in codes and not locks:
        yield "nobody ended it, and nobody is told by a lock"
    if both.code(BOB) == 0 and locks:
        yield f"{purpose.value} ended, and {locks} has locks"
    if len(runs) > 1 and not locks:
        yield f"a mixed fleet without a lock: {runs}"
