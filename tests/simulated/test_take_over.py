"""From wherever a rollout stopped, a command that it printed leads to PARITY (P7).

``--take-over`` is the way out where the release can't be finished and the one before can't be had.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from deploytool.errors import DeploytoolError
from deploytool.parity.model import Parity
from deploytool.release.model import Manifest, Release
from deploytool.rollout.model import Effect, Event, Purpose, State
from deploytool.rollout.outcome import conclude
from deploytool.rollout.report import Report
from deploytool.rollout.runner import Runner
from deploytool.rollout.table import ENDS, TABLE
from deploytool.simulation import fleet, program
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.oracle import locked_by, truth

from .cases import NEW, OLD, Silent

pytestmark = pytest.mark.usefixtures("swift")
RENDERED = fleet.Rendered.of(fleet.inventory(2))
THIRD = program.build("2026.3")
Build = tuple[Manifest, bytes]


class Killed(BaseException):
    """SIGKILL: nothing that the deployer wrote can catch it."""


class Recorder:
    """A journal that ends its deployer on entering a state, before its effect or after it."""

    def __init__(self, state: State | None = None, *, after: bool = False) -> None:
        self._state, self._after = state, after

    def intent(self, state: State, _effect: Effect, _hosts: tuple[str, ...]) -> None:
        if state is self._state and not self._after:
            raise Killed

    def outcome(self, state: State, _event: Event) -> None:
        if state is self._state and self._after:
            raise Killed

    def end(self, state: State) -> None:
        pass


@dataclass
class Ground:
    """Two hosts, and what is wrong with one of them for good."""

    folder: Path
    hosts: dict[str, SimulatedHost]
    deployers: int = 0

    def run(
        self,
        purpose: Purpose,
        build: Build = NEW,
        *,
        forward: bool = False,
        recorder: Recorder | None = None,
    ) -> tuple[Report, DeploytoolError | None]:
        self.deployers += 1
        artifact = self.folder / build[0].version
        artifact.write_bytes(build[1])
        report = Runner(
            RENDERED.inventory,
            Release(build[0], str(artifact)),
            self.hosts,
            f"operator{self.deployers}@here",
            Silent(),
            recorder or Recorder(),
            plan_id=f"plan{self.deployers}",
            purpose=purpose,
            forward=forward,
        ).run()
        return report, conclude(report, "inventory.yaml")

    def killed(self, state: State) -> bool:
        """Whether a deployer of NEW comes to that state, and dies there."""
        try:
            self.run(Purpose.DEPLOY, recorder=Recorder(state, after=True))
        except Killed:
            return True
        return False

    def on(self, build: Build) -> bool:
        whole = all(truth(host).runs(build[0].sha256) for host in self.hosts.values())
        return whole and not any(locked_by(host) for host in self.hosts.values())


def crashes(ground: Ground) -> None:
    """The new build dies on the second host, whoever starts it."""
    host = ground.hosts["router2"]
    start = host.service.start

    def starts() -> str:
        said = start()
        main = host.service.main
        if main is not None and sha256(main.loaded) == NEW[0].sha256:
            host.service.crash()
        return said

    host.service.start = starts  # type: ignore[method-assign]


def loses_old(ground: Ground) -> None:
    """The old release rots on the first host."""
    host = ground.hosts["router1"]
    node = host.computer.find(f"{host.root}/releases/{OLD[0].sha256}/router")
    assert node is not None
    host.computer.disk.overwrite(node, b"rotten")


def both(ground: Ground) -> None:
    """The release crashes, and there is no way back."""
    crashes(ground)
    loses_old(ground)


def nothing(_ground: Ground) -> None:
    """Only the deployer is gone."""


LASTING: Mapping[str, Callable[[Ground], None]] = MappingProxyType(
    {
        "the deployer is gone": nothing,
        "the release crashes": crashes,
        "the old release is lost": loses_old,
        "the release crashes, and the old one is lost": both,
    }
)


@dataclass(frozen=True)
class Typed:
    """A command that a person can be told to type."""

    text: str
    purpose: Purpose
    build: Build = NEW
    forward: bool = False


COMMANDS = (
    Typed("resume", Purpose.RESUME),
    Typed("rollback", Purpose.ROLLBACK),
    Typed("resume --forward", Purpose.RESUME, forward=True),
    Typed("deploy RELEASE", Purpose.DEPLOY, THIRD),
    Typed("deploy RELEASE --take-over", Purpose.SUPERSEDE, THIRD),
)


def printed(error: DeploytoolError) -> set[str]:
    """The commands that an end names, as ``COMMANDS`` calls them."""
    found = set()
    for text in error.now.split("deploytool ")[1:]:
        command = re.split(r"[.,;](?: |$)", text)[0].split()
        flags = [word for word in command if word in {"--forward", "--take-over"}]
        deploys = command[0] in {"deploy", "plan"}
        found.add(" ".join(["deploy RELEASE" if deploys else command[0], *flags]))
    return found


def way_out(ground: Ground, told: set[str]) -> tuple[str, ...]:
    """Commands one after the other, each printed by the end before, until one comes to parity."""
    tried: list[str] = []
    way: list[str] = []
    while len(tried) < len(COMMANDS):
        chosen = next((c for c in COMMANDS if c.text in told and c.text not in tried), None)
        if chosen is None:
            return ()
        tried.append(chosen.text)
        report, error = ground.run(chosen.purpose, chosen.build, forward=chosen.forward)
        if error is None:
            assert report.round is not None
            assert report.round.parity is Parity.PARITY
            assert any(ground.on(build) for build in (OLD, NEW, THIRD)), "proven, and not so"
            return (*way, chosen.text)
        guards = ", ".join(sorted({obstacle.rule for obstacle in report.obstacles}))
        way.append(f"{chosen.text} ({error.exit_code}{': ' if guards else ''}{guards})")
        told = printed(error)
    return ()


def stopped_in(state: State, fault: str, folder: Path) -> Ground | None:
    """A fleet whose deployer died in a state, under a fault; None where none comes to it."""
    ground = Ground(folder, fleet.fleet_of(RENDERED, OLD))
    if state in {State.CHECKING_OLD, State.REVERTING, State.PROVING_OLD}:
        crashes(ground)  # else nothing turns back
    elif "crashes" in fault:
        crashes(ground)
    if state is State.HOLDING and "lost" in fault:
        loses_old(ground)  # else it does go back
    if not ground.killed(state):
        return None
    if "lost" in fault:
        loses_old(ground)
    return ground


STATES = [state for state in State if state not in ENDS]
NO_START = {
    *(State.CHECKING, State.UNLOCKING, State.UNLOCKING_RESTORED, State.UNLOCKING_REFUSED),
    *(State.FINDING, State.FINDING_TO_UNDO, State.TAKING_OVER, State.TAKING_OVER_TO_UNDO),
}
"""Nothing is begun in them, or all is released; or they are the recovery's own."""


def test_p7_from_each_state_under_each_fault_a_printed_command_leads_to_parity(
    tmp_path: Path,
) -> None:
    """``pytest -s`` prints them, with the rules that refused on the way.

    The deployer dies once a state's effect was done: what hosts are before an effect, they are
    after the one before. Nothing is lifted but that there is a deployer again: what crashes goes on
    crashing, and what is lost stays lost. Where no lock is left, any deployment can begin.
    """
    rows: list[tuple[State, str, tuple[str, ...]]] = []
    for state, fault in itertools.product(STATES, LASTING):
        ground = stopped_in(state, fault, tmp_path)
        if ground is None or not any(locked_by(host) for host in ground.hosts.values()):
            continue
        _, error = ground.run(Purpose.DEPLOY, THIRD)
        assert error is not None, "a fleet that is held is not deployed to"
        assert error.exit_code == 3
        way = way_out(ground, printed(error))
        assert way, f"no way out of {state.value}, where {fault}: {error.now}"
        rows.append((state, fault, way))
    reached = {state for state, *_ in rows}
    assert {state for state, _ in TABLE} - reached == NO_START
    for state, fault, way in rows:
        print(f"{state.value}; {fault}: {' -> '.join(way)}")
    longest = max(rows, key=lambda row: len(row[2]))
    print(f"the longest way out: {' -> '.join(longest[2])}, from {longest[0].value}")
    assert "--take-over" in longest[2][-1]


def held(tmp_path: Path) -> Ground:
    """A fleet that is on hold: its release crashes, and the old one is lost."""
    ground = Ground(tmp_path, fleet.fleet_of(RENDERED, OLD))
    both(ground)
    report, error = ground.run(Purpose.DEPLOY)
    assert report.state is State.HELD
    assert error is not None
    assert "deploy RELEASE --take-over" in printed(error)
    return ground


def test_p7_a_held_fleet_whose_release_crashes_goes_to_a_third_one(tmp_path: Path) -> None:
    ground = held(tmp_path)
    for purpose, build, code in (
        (Purpose.DEPLOY, THIRD, 3),
        (Purpose.ROLLBACK, NEW, 5),
        (Purpose.RESUME, NEW, 3),
    ):
        error = ground.run(purpose, build)[1]
        assert error is not None
        assert error.exit_code == code
        assert "deploy RELEASE --take-over" in printed(error)
    assert ground.run(Purpose.SUPERSEDE, THIRD)[1] is None
    assert ground.on(THIRD)


@pytest.mark.parametrize(
    "state", [State.TAKING_OVER, State.STAGING, State.SWITCHING, State.PROVING]
)
@pytest.mark.parametrize("after", [False, True])
def test_p7_who_takes_over_may_die_too_and_its_release_is_the_one_to_finish(
    tmp_path: Path, state: State, *, after: bool
) -> None:
    ground = held(tmp_path)
    with pytest.raises(Killed):
        ground.run(Purpose.SUPERSEDE, THIRD, recorder=Recorder(state, after=after))
    taken = state is not State.TAKING_OVER or after
    report, error = ground.run(Purpose.RESUME, THIRD, forward=not taken)
    if not taken:
        assert error is not None
        assert error.exit_code == 3
        report, error = ground.run(Purpose.SUPERSEDE, THIRD)
    assert error is None, report.trouble
    assert ground.on(THIRD)


def test_p1_who_takes_over_is_held_to_every_check(tmp_path: Path) -> None:
    ground = Ground(tmp_path, fleet.fleet_of(RENDERED, OLD))
    error = ground.run(Purpose.SUPERSEDE, THIRD)[1]
    assert error is not None
    assert error.what.startswith("Refused by NOTHING_INTERRUPTED")
    ground = held(tmp_path)
    ground.hosts["router2"].computer.disk.room = 0
    report, error = ground.run(Purpose.SUPERSEDE, THIRD)
    assert error is not None
    assert (report.state, error.exit_code) == (State.REFUSED, 3)
    assert {o.rule for o in report.obstacles} == {"PREFLIGHT_HOST", "PREFLIGHT_SPACE"}
