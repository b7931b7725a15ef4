"""``deploytool host signers``: who may sign certificates and requests to start, on every host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploytool.cli.options import AdminKeyOption, InventoryOption, JsonOption

app = typer.Typer(no_args_is_help=True, help="Who may sign for the fleet: list, add, remove.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The person's name.")]

AdminOption = Annotated[
    str | None,
    typer.Option("--admin", help="The account to install with: root, or one that may sudo."),
]


@app.command("list")
def list_signers(inventory: InventoryOption, *, json: JsonOption = False) -> None:
    """Show who may sign by the inventory's file. Whether hosts believe the same, status says."""
    del json
    from deploytool.cli import signing

    signing.list_signers(inventory)


@app.command()
def add(
    name: NameArgument,
    key: Annotated[Path, typer.Argument(metavar="KEY.pub", help="Their public key's file.")],
    inventory: InventoryOption,
    admin: AdminOption = None,
    admin_key: AdminKeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Let a person sign, in the inventory's file and on every host.

    Each host is looked at afterwards.
    """
    del json
    from deploytool.cli import signing

    signing.add(name, key, inventory, admin, admin_key)


@app.command()
def remove(
    name: NameArgument,
    inventory: InventoryOption,
    admin: AdminOption = None,
    admin_key: AdminKeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Let a person sign no more, in the file and on every host."""
    del json
    from deploytool.cli import signing

    signing.remove(name, inventory, admin, admin_key)
