"""What the results come to. Pure: an empty set, no data and a check that can't run never pass."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

from deploytool.errors import DeploytoolError, InputError, Refused
from deploytool.gate.model import Check, GateFinding, GateReport, Result

CLOCK_SKEW_S = 300
"""How far this machine's clock may be behind what was written down elsewhere."""
_PLACE = re.compile(r"(?P<path>[^:\n]+):(?P<line>\d+): (?P<text>.+)", re.DOTALL)
_MEANS = "Nothing was changed. What is refused here must not reach a fleet."


def settle(check: Check, found: Result, path: str) -> Result:
    """The result, where a check that looked at nothing says so; ``path`` is what it is about."""
    if found.evidence or found.findings:
        return found
    text = "there was nothing to look at, and no evidence is not evidence"
    nothing = GateFinding(check.value, path, 1, text, "give it something to check", unknown=True)
    return Result(check, (), (nothing,), found.seconds)


def could_not_run(check: Check, error: DeploytoolError, path: str) -> tuple[GateFinding, ...]:
    """What is said of a check that could not be held; with the lines that the error names."""
    placed = list(_placed(check, error))
    if placed:
        return tuple(placed)
    text = " ".join((error.what.rstrip("."), *error.details))
    return (GateFinding(check.value, path, 1, text, error.now, unknown=True),)


def _placed(check: Check, error: DeploytoolError) -> Iterator[GateFinding]:
    for line in error.details:
        if found := _PLACE.match(line):
            number = max(1, int(found["line"]))
            yield GateFinding(
                check.value, found["path"], number, found["text"], error.now, unknown=True
            )


def place(text: str) -> tuple[str, int]:
    """The path and the line of a place written ``path:line``; an empty path where it is none."""
    path, colon, line = text.rpartition(":")
    if colon and path and line.isdigit():
        return path, max(1, int(line))
    return "", 1


def clock_is_off(now: float, newest: float) -> str:
    """Why this machine's clock can't be believed; ``newest`` is when the last commit was made.

    What was written down can't come from the future: where it does, nobody knows how old it is.
    """
    if now >= newest - CLOCK_SKEW_S:
        return ""
    told, then = (dt.datetime.fromtimestamp(at, dt.UTC) for at in (now, newest))
    return (
        f"this machine's clock says {told:%Y-%m-%d %H:%M} UTC, but the commit that is checked out "
        f"was made at {then:%Y-%m-%d %H:%M} UTC: nothing can be said about ages and expiry"
    )


def verdict(report: GateReport, again: str) -> DeploytoolError | None:
    """None where every check that was asked for passed; ``again`` is the command to try anew."""
    if not report.results:
        return InputError(
            "No check was asked for.",
            "Nothing was looked at: an empty set of checks proves nothing.",
            "deploytool gate",
        )
    bad = [result for result in report.results if not result.passed]
    if not bad:
        return None
    details = tuple(map(str, report.findings))
    refusing = [r for r in bad if not all(finding.unknown for finding in r.findings)]
    names = ", ".join(result.check.value for result in bad)
    now = f"Do what the lines name, then: {again}"
    if not refusing:
        return InputError(f"{names}: could not be held.", _MEANS, now, details)
    return Refused(refusing[0].check.value, f"The gate refuses it: {names}.", _MEANS, now, details)
