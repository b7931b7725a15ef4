"""``deploytool rehearse``: scenarios with faults, on a throwaway fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploytool.cli.fleet import FleetKind
from deploytool.cli.options import JsonOption, settled


def rehearse(
    kind: Annotated[
        FleetKind, typer.Option("--fleet", help="Where to rehearse.")
    ] = FleetKind.LOCAL,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            "--scenario",
            metavar="NAME",
            help="Only this one; repeat for more; all: every one. --list names them.",
        ),
    ] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            "--faults",
            metavar="NAME",
            help="Faults instead of scenarios: all, or one that --list names; repeat for more.",
        ),
    ] = None,
    cases: Annotated[
        int | None,
        typer.Option(
            "--cases",
            min=1,
            help="How many cases of faults; each kind of fleet has its own default.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, max=2**63 - 1, help="Which cases of faults, and in what order."
        ),
    ] = None,
    hosts: Annotated[
        int | None,
        typer.Option("--hosts", min=2, max=64, help="How many hosts. [default: 8; 3 for faults]"),
    ] = None,
    inventory: Annotated[
        Path | None,
        typer.Option("--inventory", "-i", help="Rehearse with the hosts and waves of this fleet."),
    ] = None,
    record: Annotated[
        Path,
        typer.Option(
            "--record", callback=settled, help="The folder where what showed is written down."
        ),
    ] = Path(".deploytool/records"),
    sign: Annotated[
        Path | None,
        typer.Option("--sign", metavar="KEY", help="Sign the record with this SSH key."),
    ] = None,
    source: Annotated[
        Path, typer.Option("--source", help="The router's source, to build releases from.")
    ] = Path("router_binary"),
    baseline: Annotated[
        str, typer.Option("--baseline", help="The build to start from.")
    ] = "2026.0",
    candidate: Annotated[str, typer.Option("--candidate", help="The build to deploy.")] = "2026.1",
    *,
    only_list: Annotated[
        bool, typer.Option("--list", help="Say which scenarios and faults there are, and end.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Play deployments, with and without faults, on throwaway hosts.

    They are real SSH hosts on this machine. The fleet is brought up for it and taken away
    afterwards, whatever happens.
    """
    del json
    from deploytool.cli import rehearsing

    rehearsing.rehearse(
        kind,
        scenario,
        faults,
        cases,
        seed,
        hosts,
        inventory,
        record,
        sign,
        source,
        baseline,
        candidate,
        only_list=only_list,
    )


def register(app: typer.Typer) -> None:
    """Puts the command at the top level."""
    app.command()(rehearse)
