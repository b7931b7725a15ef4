"""Two deployers at once, in every order of their looks, locks and takeovers (P1, P7)."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.errors import DeploytoolError
from deploytool.release.model import Manifest, Release
from deploytool.rollout.model import Purpose
from deploytool.rollout.outcome import conclude
from deploytool.rollout.runner import Runner
from deploytool.simulation import fleet, program
from deploytool.simulation.faults import BEFORE, CallPoint, Fault
from deploytool.simulation.oracle import locked_by, truth
from deploytool.simulation.remembered import RememberedFleets

from .cases import NEW, OLD, Forgetful, Remembering, Silent
from .sampling import Sampling
from .turns import Both, Deployer, Gated, Turnstile, interleavings, play

OTHER = program.build("2026.3")
ANN, BOB, CAROL, DAVE = "a", "b", "c", "d"
NAMES = {ANN: "ann@desk", BOB: "bob@laptop"}
LATER = {CAROL: "carol@office", DAVE: "dave@home"}


@functools.cache
def small(count: int) -> fleet.Rendered:
    return fleet.Rendered.of(fleet.inventory(count))


@pytest.fixture
def fleets(remembered: Remembering) -> RememberedFleets:
    return remembered(small(3))


class Pair:
    """A small fleet, and the two who come to it."""

    def __init__(self, fleets: RememberedFleets, folder: Path) -> None:
        self.rendered = fleets.rendered
        self.hosts = fleets.fleet()
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
                (NAMES | LATER)[who],
                Silent(),
                Forgetful(),
                plan_id=f"plan-{who}",
                purpose=purpose,
            ).run()
            return conclude(report, "inventory.yaml")

        return run

    def running(self) -> set[str | None]:
        """What the machines truly run; None for one that is not whole."""
        seen = {name: truth(host) for name, host in self.hosts.items()}
        return {t.linked if t.linked and t.runs(t.linked) else None for t in seen.values()}

    def locks(self) -> set[str]:
        return {str(locked_by(h)) for h in self.hosts.values() if locked_by(h)}


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
def test_p7_two_deployers_one_wins_in_every_order(
    tmp_path: Path, remembered: Remembering, count: int, calls: int, sampling: Sampling
) -> None:
    """Each looks at every host and locks every host: so many first calls has each of them.

    Of three hosts' orders a sample: ``--pairs all`` asks for each.
    """
    fleets = remembered(small(count))
    ends: Counter[str] = Counter()
    found = []
    chance = random.Random(f"{sampling.seed} {count}")  # noqa: S311 a sample
    schedules = list(interleavings(ANN, BOB, calls))
    assert len(schedules) == {4: 70, 6: 924}[calls]
    drawn = sampling.draw(schedules, max(70, sampling.pairs // 2), chance)
    for schedule in drawn:
        pair = Pair(fleets, tmp_path)
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
    assert {"0 3", "3 0"} <= {*ends}, ends
    assert not found, f"{len(found)}, ends {dict(ends)}: {found[:10]}"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("purpose", [Purpose.RESUME, Purpose.ROLLBACK], ids=lambda p: p.value)
def test_p7_a_takeover_at_any_instant_leaves_one_in_charge(
    tmp_path: Path, fleets: RememberedFleets, purpose: Purpose
) -> None:
    """Bob takes Ann's locks over after any of her calls, and she wakes up after any of his."""
    found = []
    refused: Counter[int] = Counter()
    for before in range(1, 22):
        for taken in (1, 2, 4, 6, 8, 10, 12, 99):
            pair = Pair(fleets, tmp_path)
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


# --- one whose last unlock was lost, one who slept, and one who cleans up -------------------------


def _lose_unlock(pair: Pair, host: str, first: int = 1) -> None:
    """The host's ``first`` unlock and its repetition don't get there."""
    again = pair.hosts[host]
    lost = {CallPoint("unlock", n, BEFORE): Fault.CONNECTION_LOST for n in (first, first + 1)}
    again.strikes = {**again.strikes, **lost}


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("dark", ["router1", "router2", "router3"])
@pytest.mark.parametrize("woken", [0, 1, 2, 3, 99])
@pytest.mark.parametrize("his", [NEW, OTHER], ids=["same", "other"])
def test_p7_who_slept_and_was_refused_does_not_hide_what_was_finished(
    tmp_path: Path,
    fleets: RememberedFleets,
    dark: str,
    woken: int,
    his: tuple[Manifest, bytes],
) -> None:
    """Bob looks and sleeps; Ann's last unlock is lost; Bob wakes for some calls; Carol undoes."""
    pair = Pair(fleets, tmp_path)
    _lose_unlock(pair, dark)
    both = play(
        BOB * 3 + ANN * 99 + BOB * woken + CAROL * 99 + BOB,
        {
            ANN: pair.deployer(ANN),
            BOB: pair.deployer(BOB, release=his),
            CAROL: pair.deployer(CAROL, Purpose.ROLLBACK),
        },
    )
    assert both.code(ANN) == 5
    assert both.code(CAROL) in {0, 5}
    runs, locks = pair.running(), pair.locks()
    assert len(runs) == 1 or locks, f"mixed without a lock: {both.ends[CAROL]}"
    wanted = his if both.code(BOB) == 0 else OLD  # Bob may find all as he saw it, after Carol
    assert both.code(CAROL) == 5 or runs == {wanted[0].sha256}


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("dark", ["router1", "router2", "router3"])
@pytest.mark.parametrize("died", range(1, 30))
def test_p7_what_was_finished_by_a_taker_over_can_be_undone_as_a_whole(
    tmp_path: Path, fleets: RememberedFleets, dark: str, died: int
) -> None:
    """Ann dies after any call; Carol finishes, and her last unlock is lost; Dave undoes."""
    pair = Pair(fleets, tmp_path)
    _lose_unlock(pair, dark)
    both = play(
        ANN * died + CAROL * 99 + DAVE * 99 + ANN,
        {
            ANN: pair.deployer(ANN),
            CAROL: pair.deployer(CAROL, Purpose.RESUME),
            DAVE: pair.deployer(DAVE, Purpose.ROLLBACK),
        },
    )
    runs, locks = pair.running(), pair.locks()
    assert len(runs) == 1 or locks, f"mixed without a lock: {both.ends}"


@pytest.mark.usefixtures("swift")
def test_who_is_refused_while_it_locks_says_so_and_takes_nothing_away(
    tmp_path: Path, fleets: RememberedFleets
) -> None:
    pair = Pair(fleets, tmp_path)
    first = pair.hosts["router1"].computer
    root = small(3).inventory.root("router1")
    for number in range(9):
        manifest, content = program.build(f"2025.{number}")
        folder = f"{root}/releases/{manifest.sha256}"
        first.put(f"{folder}/{manifest.name}", content, 0o555)
        first.put(f"{folder}/release.json", manifest.canonical(), 0o444)
    held = {*first.make_folders(f"{root}/releases").entries}
    pair.hosts["router3"].strikes = {CallPoint("lock", 1, BEFORE): Fault.OTHER_DEPLOYER}
    error = play(ANN, {ANN: pair.deployer(ANN)}).ends[ANN]
    assert error is not None
    assert error.exit_code == 3
    assert "locks that were taken were released" in error.means
    assert {*first.make_folders(f"{root}/releases").entries} == held
    pair.hosts["router3"].strikes = {}
    error = play(BOB, {BOB: pair.deployer(BOB)}).ends[BOB]
    assert error is not None
    assert error.exit_code == 3
    assert "no lock was taken" in error.means, "it saw the other's lock before it locked any"


@pytest.mark.usefixtures("swift")
def test_a_host_that_had_the_release_already_knows_what_all_were_led_to(
    tmp_path: Path, fleets: RememberedFleets
) -> None:
    """A watch declares what a finished rollout has led every host to."""
    pair = Pair(fleets, tmp_path)
    assert play(ANN, {ANN: pair.deployer(ANN)}).code(ANN) == 0
    pair.hosts["router2"].service.crash()
    pair.hosts["router1"].remove_mark("finished")
    assert play(BOB, {BOB: pair.deployer(BOB)}).code(BOB) == 0
    led = {host.pairs("finished")["target"] for host in pair.hosts.values()}
    assert led == {NEW[0].sha256}
