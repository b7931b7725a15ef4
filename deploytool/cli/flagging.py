"""What ``deploytool flags`` does, says, and ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from deploytool.arming.report import Report
from deploytool.arming.status import remedy
from deploytool.arming.table import Purpose
from deploytool.cli.disarming import GOES_ON
from deploytool.cli.flagtable import document, lines, show
from deploytool.cli.interrupt import interruptible
from deploytool.cli.notices import say_notices
from deploytool.cli.options import DEFAULT_STORE
from deploytool.cli.output import finish, say
from deploytool.cli.screen import PlainScreen
from deploytool.errors import InputError, NotProven
from deploytool.operations.flags import FlagChange, check_name, flag_status, signing_key
from deploytool.operations.flags import arm as turn_on
from deploytool.operations.flags import disarm as turn_off
from deploytool.operations.proving import probe
from deploytool.operations.workspace import Workspace
from deploytool.parity.model import RoundAnswers
from deploytool.registry.lint import Linted, LintRequest, conclude
from deploytool.registry.lint import lint as hold


def lint(
    registry: Path,
    repo: Path | None,
    branch: str | None,
    store: Path,
    inventory: Path | None,
    excuse: list[str] | None,
) -> None:
    """Carries out the command of this name, and ends it."""
    _check_store(store)
    again = _again(registry, repo, branch, store, inventory, excuse or [])
    asked = LintRequest(
        registry, repo or registry.resolve().parent, branch, store, tuple(excuse or ())
    )
    linted = hold(asked, None if inventory is None else _seen(inventory))
    error = conclude(linted, again)
    if error is None:
        say(f"{registry}: every rule holds, against {linted.against}.")
    finish(_said(linted), error)


def _check_store(store: Path) -> None:
    """Refuses a store that was named and isn't there: it would prove nothing.

    Raises:
        InputError: there is no such folder.
    """
    if store.parts[-2:] != DEFAULT_STORE.parts and not store.is_dir():
        raise InputError(
            f"There is no store {store}.",
            "Nothing was touched, and nothing is proven about any flag.",
            "Name the store's folder with --store DIR, or leave it out.",
        )


def _seen(path: Path) -> RoundAnswers:
    return probe(Workspace.open(path))


def _again(
    registry: Path,
    repo: Path | None,
    branch: str | None,
    store: Path,
    inventory: Path | None,
    excuses: list[str],
) -> str:
    """The command that was given, to be pasted."""
    words = ["deploytool flags lint", "--registry", quote(str(registry))]
    for option, value in (("--repo", repo), ("--branch", branch), ("-i", inventory)):
        words += [] if value is None else [option, quote(str(value))]
    words += [] if store == DEFAULT_STORE else ["--store", quote(str(store))]
    words += [word for excuse in excuses for word in ("--excuse", quote(excuse))]
    return " ".join(words)


def _said(linted: Linted) -> dict[str, Any]:
    return {
        "registry": linted.registry,
        "refusals": [
            {"rule": r.rule.value, "place": r.place, "text": r.text, "remedy": r.remedy}
            for r in linted.refusals
        ],
        "sources": [
            {"kind": s.kind, "place": s.place, "entries": len(s.entries), "trouble": s.trouble}
            for s in linted.sources
        ],
    }


def arm(flag: str, inventory: Path, key: Path | None) -> None:
    """Carries out the command of this name, and ends it."""
    space = Workspace.open(inventory)
    check_name(flag)
    with signing_key(space, key) as mine:
        say(f"Signing as {mine.name}, with {mine.file}.")
        with _shown(Purpose.ARM) as (shown, pending):
            end = turn_on(space, flag, mine, typed=key, observer=shown, interrupted=pending)
    _end(space, end)


def disarm(flag: str, inventory: Path) -> None:
    """Carries out the command of this name, and ends it."""
    check_name(flag)
    space = Workspace.open(inventory)
    with _shown(Purpose.DISARM) as (shown, pending):
        end = turn_off(space, flag, look_after=True, observer=shown, interrupted=pending)
    say_notices(end.answers or {})
    _end(space, end)


@contextmanager
def _shown(purpose: Purpose) -> Iterator[tuple[PlainScreen, Callable[[], bool]]]:
    """What shows it, and what asks whether the user interrupts it."""
    then = GOES_ON if purpose is Purpose.DISARM else "finishing this step, then turning it off"
    with interruptible(then) as pending, PlainScreen() as shown:
        yield shown, pending


def _end(space: Workspace, end: FlagChange) -> None:
    """Says what came of it, and ends the command."""
    report, error, count = end.report, end.error, len(space.names)
    if error is None and report.epoch is not None:
        window = f", all within {report.window_s:.2f} s" if report.window_s is not None else ""
        say(
            f"ARMED: {report.flag} on all {count} hosts (epoch {report.epoch}{window}). "
            "The senders use it."
        )
    elif error is None:
        say(f"OFF: {report.flag} was observed off on all {count} hosts; the senders don't use it.")
    finish(_report_document(report), error)


def _report_document(report: Report) -> dict[str, Any]:
    return {
        "flag": report.flag,
        "bit": report.bit,
        "release": report.release,
        "epoch": report.epoch,
        "state": report.state.value,
        "states": [state.value for state in report.path],
        "hosts": dict(report.flag_states),
        "senders_use_it": report.in_use,
        "window_s": report.window_s,
        "obstacles": [{"host": o.host, "rule": o.rule, "text": o.text} for o in report.obstacles],
        "trouble": {host: item.text for host, item in sorted(report.trouble.items())},
    }


def status(inventory: Path) -> None:
    """Carries out the command of this name, and ends it."""
    space = Workspace.open(inventory)
    seen = flag_status(space)
    show(seen.rows, space.names, seen.senders)
    left = say_notices(seen.answers)
    odd = lines(seen.rows, seen.answers, seen.senders)
    error = None
    if odd:
        error = NotProven(
            f"The flags of {space.inventory.fleet} are not the same everywhere, or not known.",
            *remedy(seen.rows, seen.answers, space.named),
            odd,
        )
    finish({**document(seen.rows, seen.senders), "under_way": left}, error)
