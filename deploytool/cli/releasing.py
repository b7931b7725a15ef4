"""What ``deploytool release`` does, says, and ends with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from deploytool.cli.output import document, say
from deploytool.errors import InputError
from deploytool.registry.source import load_registry, table
from deploytool.release.build import build as build_release
from deploytool.release.build import check_version
from deploytool.release.build import describe as describe_release
from deploytool.release.model import FlagTable, Release
from deploytool.release.store import all_releases, find
from deploytool.shipped import router_source


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


def build(name: str, source: Path, store: Path) -> None:
    """Carries out the command of this name, and ends it."""
    release = build_release(store, router_source(source), name)
    say(f"Built {release.label}")
    say(f"  {Path(release.artifact).parent}")
    document(_said(release))


def describe(
    file: Path,
    name: str,
    version: str,
    requires: list[str] | None,
    version_line: str | None,
    flags: Path | None,
    wire: str | None,
    store: Path,
) -> None:
    """Carries out the command of this name, and ends it."""
    release = describe_release(
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

    if registry is None or re.fullmatch("[0-9a-f]{64}", wire or "") is None:
        raise InputError(
            f"--flags and --wire, a SHA-256, go together; found --wire {wire}.",
            "Nothing was put into the store.",
            "Give both: --flags flags.yaml --wire SHA256 (docs/contract.md, section 8).",
        )
    return table(load_registry(registry), str(wire))


def show(release: str, store: Path) -> None:
    """Carries out the command of this name, and ends it."""
    found = find(store, release)
    _show(found)
    document(_said(found))


def verify(release: str, store: Path) -> None:
    """Carries out the command of this name, and ends it."""
    found = find(store, release)
    check_version(found)
    say(f"{found.label}: its bytes, its size and what it says of itself are as the manifest says.")
    document(_said(found))


def list_releases(store: Path) -> None:
    """Carries out the command of this name, and ends it."""
    releases = all_releases(store)
    for item in releases:
        say(f"{item.digest}  {item.manifest.name} {item.manifest.version}")
    if not releases:
        say(f"The store {store} is empty. Build one: deploytool release build 2026.1")
    document({"exit": 0, "releases": [_said(item) for item in releases]})
