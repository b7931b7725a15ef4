"""What ``deploytool gate`` does, says, and ends with."""

from __future__ import annotations

import os
import time
from pathlib import Path
from shlex import quote

from deploytool.cli.options import DEFAULT_REGISTRY, DEFAULT_STORE
from deploytool.cli.output import finish, say
from deploytool.errors import EnvironmentProblem, InputError
from deploytool.gate.formats import document, github, lines
from deploytool.gate.formats import junit as as_junit
from deploytool.gate.model import REASONS, Check
from deploytool.gate.rules import verdict
from deploytool.gate.runner import run
from deploytool.gate.sarif import sarif as as_sarif
from deploytool.gate.subject import GateRequest


def gate(
    release: str | None,
    registry: Path,
    branch: str | None,
    store: Path,
    inventory: list[Path] | None,
    check: list[str] | None,
    skip: list[str] | None,
    excuse: list[str] | None,
    sarif: Path | None,
    junit: Path | None,
) -> None:
    """Carries out the command of this name, and ends it."""
    request = GateRequest(
        registry,
        store,
        time.time(),
        branch=branch,
        release=release,
        inventories=tuple(inventory or ()),
        excuses=tuple(excuse or ()),
    )
    report = run(request, _asked(check or [], skip or []))
    error = verdict(report, _again(request, check or [], skip or []))
    for line in lines(report):
        say(line, "red" if line.startswith("FAIL") else "")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github(report):
            say(line)
    exit_code = 0 if error is None else error.exit_code
    for path, text in ((sarif, as_sarif(report, exit_code)), (junit, as_junit(report))):
        if path is not None:
            _write(path, text)
    if error is None:
        count = len(report.results)
        out = f", {len(report.left_out)} not asked for" if report.left_out else ""
        say(f"The gate lets it pass: {count} of {count} checks{out}.", "green")
    finish(document(report), error)


def _asked(check: list[str], skip: list[str]) -> tuple[Check, ...]:
    known = {item.value: item for item in Check}
    unknown = sorted({*check, *skip} - set(known))
    if unknown:
        raise InputError(
            f"There is no check {', '.join(unknown)}.",
            "Nothing was looked at.",
            f"deploytool gate --check {next(iter(known))}",
            tuple(f"{item.value}: {reason}" for item, reason in REASONS.items()),
        )
    wanted = [known[name] for name in check] or list(Check)
    return tuple(item for item in wanted if item.value not in skip)


def _again(request: GateRequest, check: list[str], skip: list[str]) -> str:
    """The command that was given, to be pasted."""
    options = [("--branch", request.branch), *(("--check", name) for name in check)]
    options += [("--skip", name) for name in skip]
    options += [("-i", str(path)) for path in request.inventories]
    options += [("--excuse", name) for name in request.excuses]
    if request.registry != DEFAULT_REGISTRY:
        options.append(("--registry", str(request.registry)))
    if request.store != DEFAULT_STORE:
        options.append(("--store", str(request.store)))
    words = ["deploytool gate"] if request.release is None else ["deploytool gate", request.release]
    words += [word for name, value in options if value for word in (name, quote(value))]
    return " ".join(words)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(
            f"The report can't be written to {path}: {error.strerror}.",
            "What the gate found is said above, and nowhere else.",
            "Name a file that can be written.",
        ) from error
