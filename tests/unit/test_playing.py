"""Playing scenarios: an error is a point that did not hold, and nothing that was played is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from deploytool.cli.fleet import FleetKind
from deploytool.cli.rehearse import rehearse
from deploytool.errors import EnvironmentProblem, InputError, Interrupted
from deploytool.gate.record import Shape
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import Progress
from deploytool.rehearsal.playing import Played, fitting, play
from deploytool.rehearsal.recording import RehearsalRecorder
from deploytool.rehearsal.scenarios import SCENARIOS
from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.scenarios.stopdrill import drill
from deploytool.rehearsal.stage import Stage
from deploytool.release.model import Release

ROOT = Path(__file__).parents[2]
STAGE = cast("Stage", None)


def scenario(happens: Callable[[], None], *, factor_at_most: float = 99.0) -> Scenario:
    def playing(_stage: Stage, showing: Showing) -> None:
        showing.point(True, "it began")
        happens()

    return Scenario("one", "one", playing, factor_at_most=factor_at_most)


def unheard(_held: bool, _text: str) -> None:
    """Nobody listens."""


def breaks(error: BaseException) -> Callable[[], None]:
    def happens() -> None:
        raise error

    return happens


def test_an_error_is_a_point_that_did_not_hold() -> None:
    problem = EnvironmentProblem("No host.", "Nothing is known.", "Again.", ("router8: away",))
    played = play(STAGE, scenario(breaks(problem)), unheard)
    assert not played.passed
    assert played.bug is None
    assert played.points[0] == (True, "it began")
    assert played.points[1] == (False, "No host. Nothing is known. router8: away")


def test_a_bug_is_told_and_kept_for_whoever_ends_with_it() -> None:
    bug = KeyError("x")
    played = play(STAGE, scenario(breaks(bug)), unheard)
    assert not played.passed
    assert played.bug is bug
    assert "a bug of deploytool: KeyError" in played.points[1][1]


def test_ctrl_c_is_no_result() -> None:
    with pytest.raises(KeyboardInterrupt):
        play(STAGE, scenario(breaks(KeyboardInterrupt())), unheard)


def test_what_failed_is_in_the_record(tmp_path: Path) -> None:
    release = cast("Release", SimpleNamespace(
        digest="ab" * 32, manifest=SimpleNamespace(version="2026.1")
    ))  # fmt: skip
    recorder = RehearsalRecorder(tmp_path, None, "local", release, release, time.time())
    results = [
        Played("healthy", True, 1.0, ((True, "a"), (True, "b"))),
        play(STAGE, scenario(breaks(KeyError("x"))), unheard),
    ]
    shape = Shape(service="router", supervisor="process", waves=(1, 1))
    kept = recorder.scenarios(shape, results, time.time())
    said = json.loads(kept.read_text(encoding="utf-8"))["scenarios"]
    assert [(s["name"], s["passed"], s["held"], s["points"]) for s in said] == [
        ("healthy", True, 2, 2),
        ("one", False, 1, 2),
    ]


def test_what_hosts_are_too_slow_for_is_said_or_refused() -> None:
    slow, any_pace = scenario(lambda: None, factor_at_most=2.0), SCENARIOS[0]
    said: list[str] = []
    assert fitting((any_pace, slow), 2.0, named=False, say=said.append) == (any_pace, slow)
    assert said == []
    assert fitting((any_pace, slow), 2.1, named=False, say=said.append) == (any_pace,)
    (line,) = said
    assert line.startswith("left out: one: ")
    assert line.endswith("these are 2.1 times")
    with pytest.raises(InputError, match="too slow for one"):
        fitting((any_pace, slow), 2.1, named=True, say=said.append)


@pytest.mark.parametrize("slow", [1.0, 1.5, drill.FACTOR_AT_MOST])
def test_the_drill_has_a_load_for_every_pace_that_it_is_played_at(slow: float) -> None:
    load = drill.load(slow)
    assert load.rate is not None
    assert load.parents / load.rate > 900, "the drill would outlast it"


# --- broken off -----------------------------------------------------------------------------------


def broken_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, downs: list[bool]) -> Interrupted:
    """Ctrl-C as a fleet comes up; ``downs``: whether each taking away is broken off as well."""

    def up(_fleet: LocalFleet, _count: int, _progress: Progress) -> Path:
        raise KeyboardInterrupt

    def down(_fleet: LocalFleet, _progress: Progress) -> tuple[str, ...]:
        if downs.pop(0):
            raise KeyboardInterrupt
        return ()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LocalFleet, "up", up)
    monkeypatch.setattr(LocalFleet, "down", down)
    with pytest.raises(Interrupted) as stopped:
        rehearse(
            FleetKind.LOCAL, None, None, None, None, 2, None,
            tmp_path / "records", None, ROOT / "router_binary", "2026.0", "2026.1",
        )  # fmt: skip
    assert downs == []
    return stopped.value


def test_who_breaks_a_rehearsal_off_is_told_that_the_fleet_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped = broken_off(monkeypatch, tmp_path, [False, False])
    assert stopped.means == "Nothing was proven. The throwaway fleet is gone."


def test_who_breaks_the_taking_away_off_as_well_is_told_how_to_end_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped = broken_off(monkeypatch, tmp_path, [False, True])
    folder = tmp_path / ".deploytool/rehearsal/local"
    assert stopped.now == f"deploytool fleet down --fleet local --folder {folder}"
