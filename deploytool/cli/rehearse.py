"""``deploytool rehearse``: scenarios with faults, on a throwaway fleet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploytool.cli.fleet import FleetKind
from deploytool.cli.options import JsonOption
from deploytool.cli.output import finish, say

if TYPE_CHECKING:
    from deploytool.rehearsal.faults.whole import Wish
    from deploytool.rehearsal.scenarios.model import Scenario

_HOSTS = 8


def _chosen(words: list[str]) -> tuple[Scenario, ...]:
    from deploytool.errors import InputError
    from deploytool.rehearsal.scenarios import FIRST, SCENARIOS

    known = {scenario.name: scenario for scenario in SCENARIOS}
    unknown = sorted(set(words) - {*known, "all"})
    if unknown:
        raise InputError(
            f"There is no scenario {', '.join(unknown)}.",
            "Nothing was rehearsed.",
            f"deploytool rehearse --scenario {next(iter(known))}",
            tuple(f"{s.name}: {s.sentence}" for s in SCENARIOS),
        )
    if words == ["all"]:
        return SCENARIOS
    return tuple(known[word] for word in words) if words else FIRST


def _faults(wish: Wish, folder: Path, source: Path, builds: tuple[str, str]) -> None:
    """Rehearses faults, and ends the command."""
    from deploytool.rehearsal.faults.whole import rehearse_faults, verdict
    from deploytool.release.build import build

    store = folder / "store"
    releases = (build(store, source, builds[0]), build(store, source, builds[1]))
    result = rehearse_faults(wish, folder / f"faults-{wish.kind}", store, releases, say)
    say()
    for line in result.lines():
        say(line)
    finish(result.document(), verdict(result))


def rehearse(
    kind: Annotated[
        FleetKind, typer.Option("--fleet", help="Where to rehearse.")
    ] = FleetKind.LOCAL,
    scenario: Annotated[
        list[str] | None, typer.Option("--scenario", help="Only this one; repeat for more.")
    ] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option("--faults", help="Faults instead of scenarios: all, or a name; repeatable."),
    ] = None,
    cases: Annotated[
        int | None, typer.Option("--cases", min=1, help="How many cases of faults; 200 or 60.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Which cases of faults, and in what order.")
    ] = None,
    hosts: Annotated[
        int, typer.Option("--hosts", min=2, max=64, help="Hosts that faults are rehearsed on.")
    ] = 3,
    source: Annotated[
        Path, typer.Option("--source", help="The router's source, to build releases from.")
    ] = Path("router_binary"),
    baseline: Annotated[
        str, typer.Option("--baseline", help="The build to start from.")
    ] = "2026.0",
    candidate: Annotated[str, typer.Option("--candidate", help="The build to deploy.")] = "2026.1",
    *,
    json: JsonOption = False,
) -> None:
    """Deploy to eight real SSH hosts on this machine, with and without faults, and say what showed.

    The fleet is brought up for it and taken away afterwards, whatever happens.
    """
    del json
    from deploytool.errors import NotProven
    from deploytool.rehearsal.fleets import open_fleet
    from deploytool.rehearsal.scenarios.model import Showing
    from deploytool.rehearsal.stage import Stage
    from deploytool.release.build import build

    folder = Path(".deploytool/rehearsal")
    if faults:
        from deploytool.rehearsal.faults.whole import Wish

        wish = Wish(kind.value, tuple(faults), hosts, cases, seed)
        _faults(wish, folder, source, (baseline, candidate))
        return
    scenarios = _chosen(scenario or [])
    fleet = open_fleet(kind.value, folder / kind.value)
    store = folder / "store"
    stage = Stage(fleet, build(store, source, baseline), build(store, source, candidate), say)
    say(f"Rehearsing {stage.baseline.label} -> {stage.candidate.label} on eight {kind.value} hosts")
    fleet.down(lambda _line: None)
    results: list[dict[str, Any]] = []
    try:
        began = time.monotonic()
        fleet.up(_HOSTS, lambda _line: None)
        say(f"eight hosts with sshd are up, {time.monotonic() - began:.1f} s")
        for item in scenarios:
            began = time.monotonic()
            showing = Showing()
            say(f"\n{item.name}: {item.sentence}")
            item.play(stage, showing)
            seconds = time.monotonic() - began
            for held, text in showing.points:
                say(f"  {'ok  ' if held else 'FAIL'} {text}")
            say(f"  {'PASSED' if showing.passed else 'FAILED'} {item.name}, {seconds:.1f} s")
            points = [{"held": held, "text": text} for held, text in showing.points]
            results.append(
                {"scenario": item.name, "passed": showing.passed, "seconds": round(seconds, 1),
                 "points": points}
            )  # fmt: skip
    finally:
        fleet.down(lambda _line: None)
    failed = [result["scenario"] for result in results if not result["passed"]]
    say(f"\n{len(results) - len(failed)} of {len(results)} scenarios passed. The fleet is gone.")
    error = None
    if failed:
        error = NotProven(
            f"{', '.join(failed)} did not show what it has to show.",
            "This build of deploytool, or of the router, is not fit for your fleet.",
            f"deploytool rehearse --fleet {kind.value} --scenario {failed[0]}",
        )
    finish({"scenarios": results}, error)


def register(app: typer.Typer) -> None:
    """Puts the command at the top level."""
    app.command()(rehearse)
