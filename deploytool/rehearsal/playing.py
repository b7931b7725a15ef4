"""Plays scenarios one after the other on a fleet that is up; what breaks one is what it showed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deploytool.errors import DeploytoolError, InputError
from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.stage import Stage


@dataclass(frozen=True)
class Played:
    """What one scenario came to. ``bug``: what deploytool itself broke with, if it did."""

    scenario: str
    passed: bool
    seconds: float
    points: tuple[tuple[bool, str], ...]
    bug: Exception | None = None

    def document(self) -> dict[str, Any]:
        """It as a program reads it."""
        return {
            "scenario": self.scenario,
            "passed": self.passed,
            "seconds": round(self.seconds, 1),
            "points": [{"held": held, "text": text} for held, text in self.points],
        }


def play(stage: Stage, scenario: Scenario, told: Callable[[bool, str], None]) -> Played:
    """Plays one. An error ends it, and is a point that did not hold: the others have their turn."""
    began = time.monotonic()
    showing = Showing(told)
    bug: Exception | None = None
    try:
        scenario.play(stage, showing)
    except DeploytoolError as error:
        showing.point(False, " ".join((error.what, error.means, *error.details)))  # noqa: FBT003
    except Exception as error:  # noqa: BLE001 told to whoever plays, who ends with it
        bug = error
        showing.point(False, f"a bug of deploytool: {type(error).__name__}: {error}")  # noqa: FBT003
    seconds = time.monotonic() - began
    return Played(scenario.name, showing.passed, seconds, tuple(showing.points), bug)


def fitting(
    scenarios: Sequence[Scenario], factor: float, *, named: bool, say: Callable[[str], None]
) -> tuple[Scenario, ...]:
    """Those that hosts as slow as these can play; what is left out is said.

    Raises:
        InputError: one was asked for by its name, and can't be played on hosts as slow as these.
    """
    slow = [item for item in scenarios if factor > item.factor_at_most]
    told = [
        f"{item.name}: its deadlines are not stretched, so hosts may be {item.factor_at_most:g} "
        f"times as slow as usual for it; these are {factor:g} times"
        for item in slow
    ]
    if slow and named:
        raise InputError(
            f"These hosts are too slow for {', '.join(item.name for item in slow)}.",
            "Nothing was rehearsed.",
            f"deploytool rehearse --fleet container --scenario {slow[0].name}",
            tuple(told),
        )
    for line in told:
        say(f"left out: {line}")
    return tuple(item for item in scenarios if item not in slow)
