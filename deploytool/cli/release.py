"""``deploytool release``: make, read and check releases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploytool.cli.options import DEFAULT_STORE, JsonOption, ReleaseArgument, StoreOption

app = typer.Typer(no_args_is_help=True, help="Make, read and check releases.")


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="A build of the source, such as 2026.1.")],
    source: Annotated[
        Path, typer.Option("--source", help="The folder that holds build.py and builds/.")
    ] = Path("router_binary"),
    store: StoreOption = DEFAULT_STORE,
    *,
    json: JsonOption = False,
) -> None:
    """Build a router release, the same to the byte everywhere."""
    del json
    from deploytool.cli import releasing

    releasing.build(name, source, store)


@app.command()
def describe(
    file: Annotated[Path, typer.Argument(help="Any executable file.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="Its name: the service's name.")],
    version: Annotated[str, typer.Option("--version", help="Its version, for people.")],
    requires: Annotated[
        list[str] | None, typer.Option("--requires", help="A program the host must have; repeat.")
    ] = None,
    version_line: Annotated[
        str | None,
        typer.Option(
            "--version-line",
            help="The first line that it prints for its version; without this it is asked here.",
        ),
    ] = None,
    flags: Annotated[
        Path | None, typer.Option("--flags", help="The registry of the flags that it carries out.")
    ] = None,
    wire: Annotated[
        str | None,
        typer.Option(
            "--wire", help="SHA-256 that it shows for its wire format; goes with --flags."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    *,
    json: JsonOption = False,
) -> None:
    """Make any executable file a release.

    docs/contract.md says what the file must offer.
    """
    del json
    from deploytool.cli import releasing

    releasing.describe(file, name, version, requires, version_line, flags, wire, store)


@app.command()
def show(
    release: ReleaseArgument, store: StoreOption = DEFAULT_STORE, *, json: JsonOption = False
) -> None:
    """Show a release: digest, version, modules, flags."""
    del json
    from deploytool.cli import releasing

    releasing.show(release, store)


@app.command()
def verify(
    release: ReleaseArgument, store: StoreOption = DEFAULT_STORE, *, json: JsonOption = False
) -> None:
    """Hold a release's bytes against its manifest and its own word."""
    del json
    from deploytool.cli import releasing

    releasing.verify(release, store)


@app.command("list")
def list_releases(store: StoreOption = DEFAULT_STORE, *, json: JsonOption = False) -> None:
    """List the releases in the store."""
    del json
    from deploytool.cli import releasing

    releasing.list_releases(store)
