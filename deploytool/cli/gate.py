"""``deploytool gate``: all that must never reach a fleet, refused before it is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploytool.cli.options import DEFAULT_REGISTRY, DEFAULT_STORE, JsonOption, StoreOption


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
    ] = DEFAULT_REGISTRY,
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
            help="A commit or artifact that can't be read and that no bit depends on; repeat.",
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
    from deploytool.cli import gating

    gating.gate(release, registry, branch, store, inventory, check, skip, excuse, sarif, junit)


def register(app: typer.Typer) -> None:
    """Puts the command at the top level."""
    app.command()(gate)
