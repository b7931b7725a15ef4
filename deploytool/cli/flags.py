"""``deploytool flags``: what each bit means, and who obeys it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploytool.cli.options import (
    DEFAULT_REGISTRY,
    DEFAULT_STORE,
    InventoryOption,
    JsonOption,
    StoreOption,
)

app = typer.Typer(no_args_is_help=True, help="What each bit means, and who obeys it.")

FlagArgument = Annotated[
    str, typer.Argument(metavar="FLAG", help="The flag's name in the registry.")
]

KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="Your private key, or the public half of one that your agent holds; "
        "else the first of yours that may sign for this fleet.",
    ),
]


@app.command()
def lint(
    registry: Annotated[
        Path, typer.Option("--registry", help="The flag registry, as it is to become.")
    ] = DEFAULT_REGISTRY,
    repo: Annotated[
        Path | None,
        typer.Option("--repo", help="The git repository; else the one that the registry is in."),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option("--branch", help="The release branch; else the one that is checked out."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    inventory: Annotated[
        Path | None,
        typer.Option("--inventory", "-i", help="Hold it against every build live on this fleet."),
    ] = None,
    excuse: Annotated[
        list[str] | None,
        typer.Option(
            "--excuse",
            metavar="ID",
            help="A commit or artifact that can't be read and that no bit depends on; repeat.",
        ),
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Hold the registry against history, releases and what is live."""
    del json
    from deploytool.cli import flagging

    flagging.lint(registry, repo, branch, store, inventory, excuse)


@app.command()
def arm(
    flag: FlagArgument,
    inventory: InventoryOption,
    key: KeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Turn a flag on, on every host or on none.

    It takes a fresh proof of parity, a certificate that your key signs, and two phases. Whatever
    goes wrong after the first commit is withdrawn everywhere, and that is observed.
    """
    del json
    from deploytool.cli import flagging

    flagging.arm(flag, inventory, key)


@app.command()
def disarm(flag: FlagArgument, inventory: InventoryOption, *, json: JsonOption = False) -> None:
    """Turn a flag off: the senders first, then every host, and look.

    It needs no proof, no key and no lock, and may be given again at any time.
    """
    del json
    from deploytool.cli import flagging

    flagging.disarm(flag, inventory)


@app.command()
def status(inventory: InventoryOption, *, json: JsonOption = False) -> None:
    """Show each flag on each host, and what the senders do.

    A flag is armed, off, unknown, not running with its process, or of another meaning. "epoch"
    is the number of the certificate that armed it. Exit 5 where not all hosts are alike or known.
    """
    del json
    from deploytool.cli import flagging

    flagging.status(inventory)
