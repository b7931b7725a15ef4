"""``deploytool logs``: the last lines that the service of one host printed."""

from __future__ import annotations

from typing import Annotated

import typer

from deploytool.cli.options import InventoryOption, JsonOption
from deploytool.cli.output import finish, say


def logs(
    host: Annotated[str, typer.Argument(metavar="HOST", help="A host of the inventory.")],
    inventory: InventoryOption,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=1000, help="So many lines, the last ones.")
    ] = 50,
    *,
    json: JsonOption = False,
) -> None:
    """Show the last lines that the service on a host printed.

    They come from the host's journal, with what systemd said of the unit; no shell on the host is
    needed. A deployment that fails shows the last one by itself. What a service prints proves
    nothing.
    """
    del json
    from deploytool.operations.proving import logs as read
    from deploytool.operations.workspace import Workspace

    shown = read(Workspace.open(inventory), host, lines)
    for line in shown:
        say(line)
    if not shown:
        say(f"{host}: its service has printed nothing since the host started.")
    finish({"host": host, "lines": list(shown)}, None)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("logs")(logs)
