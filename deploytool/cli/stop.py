"""``deploytool stop``, ``start`` and ``watch``: the kill switch, its release, who keeps watch."""

from __future__ import annotations

from typing import Annotated

import typer

from deploytool.cli.options import InventoryOption, JsonOption

HostsOption = Annotated[
    list[str] | None, typer.Option("--host", help="This host; repeat for more.")
]
EveryOption = Annotated[bool, typer.Option("--all", help="Every declared host.")]


def stop(
    inventory: InventoryOption,
    host: HostsOption = None,
    release: Annotated[
        str | None,
        typer.Option(
            "--release", help="Every host that runs this release: its SHA-256 or the head."
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept on the hosts.")] = "",
    *,
    every: EveryOption = False,
    json: JsonOption = False,
) -> None:
    """Stop hosts now: one step, no question, no lock, no journal, no second person.

    Exit 0 only where every target stopped and the witness saw the silence; else 6, and who didn't.
    """
    from deploytool.cli.stopnow import run

    words = ["-i", str(inventory), *(word for name in host or () for word in ("--host", name))]
    words += ["--all"] * every + ["--json"] * json + ["--reason", reason]
    words += ["--release", release] if release else []
    raise typer.Exit(run(words))


def register(app: typer.Typer) -> None:
    """Puts the commands at the top level."""
    app.command()(stop)
