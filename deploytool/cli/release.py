"""``deploytool release``: make, read and check releases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploytool.cli.options import DEFAULT_STORE, JsonOption, ReleaseArgument, StoreOption
from deploytool.cli.output import document, say

if TYPE_CHECKING:
    from deploytool.release.model import FlagTable, Release

app = typer.Typer(no_args_is_help=True, help="Make, read and check releases.")


def _said(release: Release) -> dict[str, Any]:
    return {
        "exit": 0,
        "folder": str(Path(release.artifact).parent),
        "manifest_sha256": release.manifest.digest(),
        "manifest": release.manifest.model_dump(mode="json", by_alias=True),
    }


def _show(release: Release) -> None:
    manifest = release.manifest
    state = {True: "clean", False: "with uncommitted changes", None: "unknown"}[manifest.clean]
    say(f"{manifest.name} {manifest.version}")
    say(f"  sha256    {manifest.sha256}")
    say(f"  size      {manifest.size} bytes")
    say(f"  says      {manifest.version_line}")
    say(f"  needs     {', '.join(manifest.requires) or 'nothing beyond the base system'}")
    say(f"  revision  {manifest.revision or 'none'}, source {state}")
    say(f"  folder    {Path(release.artifact).parent}")
    if manifest.rehearsal_only:
        say("  REHEARSAL ONLY: never deployed to a fleet that isn't a throwaway one")
    if manifest.flags is not None:
        say(f"  flags     table {manifest.flags.table[:12]}, wire {manifest.flags.wire[:12]}")
        for entry in manifest.flags.entries:
            shown = entry.get("activation", entry.get("state", ""))
            say(f"    bit {entry.get('bit')!s:>3}  {entry.get('name')!s:<20} {shown}")
    if manifest.modules:
        say(f"  modules   {len(manifest.modules)}")
        for module in manifest.modules:
            say(f"    {module}")


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
    from deploytool.release.build import build as make
    from deploytool.shipped import router_source

    release = make(store, router_source(source), name)
    say(f"Built {release.label}")
    say(f"  {Path(release.artifact).parent}")
    document(_said(release))


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
    from deploytool.release.build import describe as make

    release = make(
        store,
        file,
        name=name,
        version=version,
        requires=tuple(requires or ()),
        version_line=version_line,
        flags=_flag_table(flags, wire),
    )
    say(f"Described {release.label}")
    say(f"  {Path(release.artifact).parent}")
    document(_said(release))


def _flag_table(registry: Path | None, wire: str | None) -> FlagTable | None:
    if registry is None and wire is None:
        return None
    from deploytool.errors import InputError
    from deploytool.registry.source import load_registry, table

    if registry is None or re.fullmatch("[0-9a-f]{64}", wire or "") is None:
        raise InputError(
            f"--flags and --wire, a SHA-256, go together; found --wire {wire}.",
            "Nothing was put into the store.",
            "Give both: --flags flags.yaml --wire SHA256 (docs/contract.md, section 8).",
        )
    return table(load_registry(registry), str(wire))


@app.command()
def show(
    release: ReleaseArgument, store: StoreOption = DEFAULT_STORE, *, json: JsonOption = False
) -> None:
    """Show a release: digest, version, modules, flags."""
    del json
    from deploytool.release.store import find

    found = find(store, release)
    _show(found)
    document(_said(found))


@app.command()
def verify(
    release: ReleaseArgument, store: StoreOption = DEFAULT_STORE, *, json: JsonOption = False
) -> None:
    """Hold a release's bytes against its manifest and its own word."""
    del json
    from deploytool.release.build import check_version
    from deploytool.release.store import find

    found = find(store, release)
    check_version(found)
    say(f"{found.label}: its bytes, its size and what it says of itself are as the manifest says.")
    document(_said(found))


@app.command("list")
def list_releases(store: StoreOption = DEFAULT_STORE, *, json: JsonOption = False) -> None:
    """List the releases in the store."""
    del json
    from deploytool.release.store import all_releases

    releases = all_releases(store)
    for item in releases:
        say(f"{item.digest}  {item.manifest.name} {item.manifest.version}")
    if not releases:
        say(f"The store {store} is empty. Build one: deploytool release build 2026.1")
    document({"exit": 0, "releases": [_said(item) for item in releases]})
