"""``deploytool gate``: all that must never reach a fleet, refused before it is deployed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from deploytool.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from deploytool.cli.output import finish, say

if TYPE_CHECKING:
    from deploytool.gate.model import Check
    from deploytool.gate.subject import GateRequest

_REGISTRY = Path("router_binary/flags.yaml")


def gate(
    release: Annotated[
        str | None,
        typer.Argument(
            metavar="[RELEASE]",
            help="What is to be released; else what the source gives today.",
            show_default=False,
        ),
    ] = None,
    registry: Annotated[
        Path, typer.Option("--registry", help="The flag registry; its folder is the source.")
    ] = _REGISTRY,
    branch: Annotated[
        str | None,
        typer.Option("--branch", help="The release branch; else the one that is checked out."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    inventory: Annotated[
        list[Path] | None,
        typer.Option(
            "--inventory", "-i", help="Only this inventory; repeat. Else every one in the repo."
        ),
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option("--check", metavar="ID", help="Only this check; repeat.")
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="ID", help="Not this check, and say so; repeat."),
    ] = None,
    excuse: Annotated[
        list[str] | None,
        typer.Option(
            "--excuse",
            metavar="ID",
            help="A commit or artifact that nobody can read and no bit depends on; repeat.",
        ),
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option("--sarif", help="Write SARIF 2.1.0 here, for code scanning.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML here, for CI servers.")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Refuse, before a deployment, what must never reach a fleet.

    It looks at flags, retired and dead code, manifests, inventories, rehearsals and builds; each
    check and its way out is in docs/gate.md.
    """
    del json
    from deploytool.gate.formats import document, github, lines
    from deploytool.gate.formats import junit as as_junit
    from deploytool.gate.rules import verdict
    from deploytool.gate.runner import run
    from deploytool.gate.sarif import sarif as as_sarif
    from deploytool.gate.subject import GateRequest

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
    from deploytool.errors import InputError
    from deploytool.gate.model import REASONS, Check

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
    if request.registry != _REGISTRY:
        options.append(("--registry", str(request.registry)))
    if request.store != DEFAULT_STORE:
        options.append(("--store", str(request.store)))
    words = ["deploytool gate"] if request.release is None else ["deploytool gate", request.release]
    words += [word for name, value in options if value for word in (name, quote(value))]
    return " ".join(words)


def _write(path: Path, text: str) -> None:
    from deploytool.errors import EnvironmentProblem

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(
            f"The report can't be written to {path}: {error.strerror}.",
            "What the gate found is said above, and nowhere else.",
            "Name a file that can be written.",
        ) from error


def register(app: typer.Typer) -> None:
    """Puts the command at the top level."""
    app.command()(gate)
