"""What ``deploytool rehearse`` does, says, and ends with."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deploytool.cli.alive import alive
from deploytool.cli.fleet import FleetKind, take_away
from deploytool.cli.output import finish, say
from deploytool.errors import DeploytoolError, InputError, Interrupted, NotProven
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.gate.record import Shape
from deploytool.home import home
from deploytool.rehearsal.faults.catalogue import CATALOGUE
from deploytool.rehearsal.faults.whole import HOSTS, Wish, rehearse_faults, verdict
from deploytool.rehearsal.fleets import open_fleet
from deploytool.rehearsal.fleets.files import with_waves
from deploytool.rehearsal.fleets.throwaway import Throwaway
from deploytool.rehearsal.fleets.vagrant import VagrantFleet
from deploytool.rehearsal.playing import Played, fitting, play
from deploytool.rehearsal.recording import RehearsalRecorder, shape_now
from deploytool.rehearsal.scenarios import FIRST, SCENARIOS
from deploytool.rehearsal.scenarios.model import Scenario
from deploytool.rehearsal.stage import Stage
from deploytool.release.build import build
from deploytool.shipped import router_source

_HOSTS = 8


def _chosen(words: list[str], kind: FleetKind) -> tuple[Scenario, ...]:
    """The scenarios that are asked for; what this kind of fleet can't play is never left out."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    unknown = sorted(set(words) - {*known, "all"})
    if unknown:
        raise InputError(
            f"There is no scenario {', '.join(unknown)}.",
            "Nothing was rehearsed.",
            f"deploytool rehearse --scenario {next(iter(known))}",
            tuple(f"{s.name}: {s.sentence}" for s in SCENARIOS),
        )
    if "all" in words:
        for s in (s for s in SCENARIOS if kind.value not in s.kinds):
            say(f"left out: {s.name}; it needs --fleet {' or '.join(s.kinds)}")
        return tuple(s for s in SCENARIOS if kind.value in s.kinds)
    chosen = tuple(known[word] for word in words) if words else FIRST
    if wrong := [s for s in chosen if kind.value not in s.kinds]:
        raise InputError(
            f"A {kind.value} fleet can't play {', '.join(s.name for s in wrong)}.",
            "Nothing was rehearsed.",
            f"deploytool rehearse --fleet {wrong[0].kinds[0]} --scenario {wrong[0].name}",
            tuple(f"{s.name}: needs --fleet {' or '.join(s.kinds)}" for s in wrong),
        )
    return chosen


def _list() -> None:
    """Says what can be played, and where."""
    say("Scenarios (* is played when none is named):")
    for item in SCENARIOS:
        where = "" if "local" in item.kinds else f" (--fleet {' or '.join(item.kinds)})"
        say(f"  {'*' if item in FIRST else ' '} {item.name}: {item.sentence}{where}")
    say("Faults:")
    for entry in CATALOGUE:
        where = "" if "local" in entry.kinds else f" (--fleet {' or '.join(entry.kinds)})"
        say(f"    {entry.name}{where}")
    faults = [{"name": entry.name, "fleets": list(entry.kinds)} for entry in CATALOGUE]
    scenarios = [
        {"name": s.name, "sentence": s.sentence, "fleets": list(s.kinds)} for s in SCENARIOS
    ]
    finish({"scenarios": scenarios, "faults": faults}, None)


def _waiting(kind: FleetKind) -> Callable[[str], None]:
    """Machines take minutes to boot: what they do meanwhile is shown, and what they need."""
    if kind is not FleetKind.VAGRANT:
        return lambda _line: None
    return lambda line: say(f"  {line}")


def _say_figures(fleet: Throwaway) -> None:
    """What each machine took and takes, where hosts are machines of their own."""
    if not isinstance(fleet, VagrantFleet):
        return
    try:
        figures = fleet.figures()
    except DeploytoolError as error:  # what was played counts, whatever became of the machines
        say(f"  not measured at the end: {error.what}")
        return
    for line in ("at the end:", *map(str, figures)):
        say(f"  {line}")


def _said(held: bool, text: str) -> None:  # noqa: FBT001 reads as: the point held
    say(f"  {'ok  ' if held else 'FAIL'} {text}", "" if held else "red")


def _faults(wish: Wish, folder: Path, recorder: RehearsalRecorder) -> None:
    """Rehearses faults, and ends the command."""
    releases = (recorder.baseline, recorder.candidate)
    result = rehearse_faults(wish, folder / f"faults-{wish.kind}", folder / "store", releases, say)
    say()
    for line in result.lines():
        say(line)
    record = recorder.faults(result, time.time())
    _say_record(recorder, record)
    finish({**result.document(), "record": _named(record)}, verdict(result))


def _say_record(recorder: RehearsalRecorder, record: Path | None) -> None:
    unsigned = "" if recorder.key else "; it is not signed (--sign KEY), so no gate believes it"
    say(f"The record is {record}{unsigned}.")


def _named(record: Path | None) -> str | None:
    return None if record is None else str(record)


def rehearse(
    kind: FleetKind,
    scenario: list[str] | None,
    faults: list[str] | None,
    cases: int | None,
    seed: int | None,
    hosts: int | None,
    inventory: Path | None,
    record: Path,
    sign: Path | None,
    source: Path,
    baseline: str,
    candidate: str,
    *,
    only_list: bool,
) -> None:
    """Carries out the command of this name, and ends it."""
    if only_list:
        _list()
        return
    source = router_source(source)
    folder = home() / "rehearsal"
    scenarios = _chosen(scenario or [], kind)
    like = None if inventory is None else load_inventory(inventory)
    store = folder / "store"
    releases = (build(store, source, baseline), build(store, source, candidate))
    recorder = RehearsalRecorder(record, sign, kind.value, *releases, time.time())
    recorder.try_key()
    if faults:
        _faults(Wish(kind.value, tuple(faults), hosts or HOSTS, cases, seed), folder, recorder)
        return
    count = hosts or (_HOSTS if like is None else len(like.hosts))
    fleet = open_fleet(kind.value, folder / kind.value)
    stage = Stage(fleet, *releases, say, source=source)
    said = f"{stage.baseline.label} -> {stage.candidate.label}"
    say(f"Rehearsing {said} on {count} {kind.value} hosts")
    _gone(fleet)
    named = "all" not in (scenario or ["all"])
    try:
        shape = _up(fleet, count, like)
        results = _play(stage, fitting(scenarios, stage.record.factor, named=named, say=say))
        _say_figures(fleet)
    except KeyboardInterrupt:
        raise Interrupted(
            "You broke the rehearsal off.",
            "Nothing was proven. The throwaway fleet is gone.",
            f"deploytool rehearse --fleet {kind.value}",
        ) from None
    finally:
        _gone(fleet)
    failed = [result.scenario for result in results if not result.passed]
    say(f"\n{len(results) - len(failed)} of {len(results)} scenarios passed. The fleet is gone.")
    kept = recorder.scenarios(shape, results, time.time())
    _say_record(recorder, kept)
    for result in results:
        if result.bug is not None:
            raise result.bug
    error = None
    if failed:
        error = NotProven(
            f"{', '.join(failed)} did not show what it has to show.",
            "This build of deploytool, or of the router, is not fit for your fleet.",
            f"deploytool rehearse --fleet {kind.value} --scenario {failed[0]}",
        )
    finish({"scenarios": [item.document() for item in results], "record": _named(kept)}, error)


def _up(fleet: Throwaway, count: int, like: Inventory | None) -> Shape:
    """Brings the fleet up, with the waves of another one where that is asked; its shape."""
    began = time.monotonic()
    with alive(lambda: f"  ... bringing {count} hosts up"):
        fleet.up(count, _waiting(FleetKind(fleet.kind)))
    if like is not None:
        text = fleet.inventory.read_text(encoding="utf-8")
        fleet.inventory.write_text(with_waves(text, like.waves), encoding="utf-8")
    say(f"{count} hosts with sshd are up, {time.monotonic() - began:.1f} s")
    return shape_now(fleet.inventory)


def _play(stage: Stage, scenarios: tuple[Scenario, ...]) -> list[Played]:
    """Plays them all; a bug of our own ends it after what it struck."""
    results: list[Played] = []
    for item in scenarios:
        say(f"\n{item.name}: {item.sentence}", "bold")
        with alive(partial("  ... {} goes on".format, item.name)) as heard:

            def told(held: bool, text: str, heard: Callable[[], None] = heard) -> None:  # noqa: FBT001
                _said(held, text)
                heard()

            result = play(stage, item, told)
        word, style = ("PASSED", "green") if result.passed else ("FAILED", "red")
        say(f"  {word} {result.scenario}, {result.seconds:.1f} s", style)
        results.append(result)
        if result.bug is not None:
            break
    return results


def _gone(fleet: Throwaway) -> None:
    """Takes the fleet away; a user who interrupts that is told how to go on with it."""
    again = f"deploytool fleet down --fleet {fleet.kind} --folder {fleet.folder}"
    take_away(fleet, lambda _line: None, again)
