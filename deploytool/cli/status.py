"""``deploytool status`` and ``verify``: what is true of a fleet, now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploytool.cli.alive import alive
from deploytool.cli.options import DEFAULT_STORE, InventoryOption, JsonOption, StoreOption
from deploytool.cli.output import finish, say

if TYPE_CHECKING:
    from deploytool.operations.workspace import Workspace
    from deploytool.parity.model import Round


_QUIET_S = 3.0


@contextmanager
def waiting(names: tuple[str, ...], deadline_s: float) -> Iterator[Callable[[str, object], None]]:
    """Says every few seconds which hosts are waited for; yields what hears of each answer."""
    left = dict.fromkeys(names)

    def doing() -> str:
        hosts = ", ".join(tuple(left))
        return f"waiting for {hosts} (each has {deadline_s:g} s to answer)" if hosts else ""

    with alive(doing, _QUIET_S):
        yield lambda host, _outcome: left.pop(host, None)


def _look(space: Workspace, release: str | None, *, whole: bool = False) -> Round:
    from deploytool.operations.proving import status as look

    with waiting(space.names, space.deadline_s) as heard:
        return look(space, release, heard=heard, whole=whole)


def status(
    inventory: InventoryOption,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            help="Hold the fleet against this release; else against the one that most hosts have.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    *,
    json: JsonOption = False,
) -> None:
    """Look at every host, and say whether all run one release.

    One evidence round, which changes nothing. Exit 0 only when every declared host proved it;
    5 where the fleet is MIXED or UNKNOWN, or held by a rollout that is older than one can take:
    then the last line says what to do first.
    """
    del json
    from deploytool.operations.workspace import Workspace

    space = Workspace.open(inventory, store=store)
    taken = _look(space, release)

    from deploytool.cli.screen import round_document, show_notices, show_round
    from deploytool.parity.model import Parity, Verdict
    from deploytool.rollout.abandoned import abandoned, longest_s
    from deploytool.rollout.outcome import left_behind, not_proven

    show_round(taken)
    lines = show_notices(taken, inventory)
    proven = taken.parity is Parity.PARITY
    count = f"{taken.count(Verdict.MATCH)} of {len(taken.hosts)} hosts"
    if proven:
        say(f"PARITY: {count} proven on {taken.label}.", "green")
    held = abandoned(taken.evidence, time.time(), longest_s(space.inventory))
    error = left_behind(held, str(inventory)) if held else None
    if not proven:
        error = not_proven(taken, str(inventory), f"{taken.parity.value}: {count} are a MATCH.")
    finish({**round_document(taken), "under_way": lines}, error)


def verify(
    inventory: InventoryOption,
    release: Annotated[
        str | None, typer.Option("--release", help="Hold the fleet against this release.")
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            "--spec", help="A folder of your own testinfra specs, instead of the ones that ship."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    *,
    json: JsonOption = False,
) -> None:
    """Status, and testinfra specs on every host.

    With --spec they are your own. The ones that ship look at a fleet in parity once more, past its
    agent: with testinfra, over OpenSSH, as the deploy account. A host without a result is a failure
    (exit 5), as is a folder without specs (exit 2).
    """
    del json
    from deploytool.cli.screen import round_document, show_notices, show_round
    from deploytool.errors import NotProven
    from deploytool.operations.proving import verify as prove
    from deploytool.operations.workspace import Workspace
    from deploytool.parity.model import Parity
    from deploytool.rollout.outcome import host_lines, not_proven

    found = prove(
        Workspace.open(inventory, store=store), release, spec, look=partial(_look, whole=True)
    )
    taken, results = found.round, found.specs
    show_round(taken)
    lines = show_notices(taken, inventory)
    failed = tuple(result for result in results if not result.good)
    for result in results:
        say(f"{result.host}: specs that passed: {result.passed}{'' if result.good else '; FAILED'}")
    error = None
    if taken.parity is not Parity.PARITY:
        error = not_proven(
            taken, str(inventory), f"{taken.parity.value}: not every host is a MATCH."
        )
        error.details += tuple(f"{r.host}: {line}" for r in failed for line in r.lines)
    elif failed:
        error = NotProven(
            f"The specs in {found.folder} fail on {len(failed)} of {len(results)} hosts.",
            "The release is the same everywhere; what the specs ask for is not.",
            f"deploytool verify -i {inventory}" + (f" --spec {spec}" if spec else ""),
            tuple(f"{r.host}: {line}" for r in failed for line in r.lines) + host_lines(taken),
        )
    else:
        say(f"PARITY on {taken.label}, and every spec holds.")
    specs = [
        {"host": r.host, "good": r.good, "passed": r.passed, "lines": list(r.lines)}
        for r in results
    ]
    finish({**round_document(taken), "under_way": lines, "specs": specs}, error)


def register(app: typer.Typer) -> None:
    """Puts the commands at the top level."""
    app.command()(status)
    app.command()(verify)
