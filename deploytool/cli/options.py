"""The options that many commands share, with the one text that explains each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploytool.home import NAME, home


def settled(context: typer.Context, option: typer.CallbackParam, value: Path) -> Path:
    """Moves a default such as ``.deploytool/store`` to the folder that ``home`` finds.

    A path that was typed stays as it is. The inventory was read before, because it was typed.
    """
    source = context.get_parameter_source(option.name or "")
    if source is None or source.name != "DEFAULT":
        return value
    named = context.params.get("inventory")
    first = named[0] if isinstance(named, list | tuple) and named else named
    return home(first if isinstance(first, Path) else None) / value.relative_to(NAME)


AdminKeyOption = Annotated[
    Path | None, typer.Option("--admin-key", help="That account's private key file.")
]

InventoryOption = Annotated[
    Path,
    typer.Option(
        "--inventory",
        "-i",
        envvar="DEPLOYTOOL_INVENTORY",
        help="The fleet's YAML file.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")
]
StoreOption = Annotated[
    Path,
    typer.Option("--store", callback=settled, help="Where releases are kept on this machine."),
]
ReleaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE",
        help="A version, a SHA-256 or its beginning, or a release's folder.",
        show_default=False,
    ),
]
DEFAULT_STORE = Path(".deploytool/store")
DEFAULT_REGISTRY = Path("router_binary/flags.yaml")
JournalOption = Annotated[
    Path,
    typer.Option("--journal", callback=settled, help="The folder where rollouts are written down."),
]
DEFAULT_JOURNAL = Path(".deploytool/journal")
