"""What is gated: a checkout, the registry in it, the builds made of it, the inventories."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from deploytool.errors import InputError
from deploytool.gate.checkout import Checkout
from deploytool.gate.declared import Declared, find_inventories, read
from deploytool.gate.model import GateFinding
from deploytool.registry.artifact import NotReadable, members
from deploytool.registry.lint import BuildsToday, Linted, LintRequest, lint, todays_builds
from deploytool.registry.model import FlagEntry, entries_of
from deploytool.registry.source import Written, load_registry
from deploytool.release.model import Release
from deploytool.release.store import find

BUILD_GAP_S = 2.1
"""Builds that are compared begin so far apart: a zip file's clock counts every other second."""


@dataclass(frozen=True)
class GateRequest:
    """What a person asks the gate to look at; ``now`` in seconds since the epoch.

    ``release``: the one that is to be released; without it, what the source gives today.
    ``inventories``: without any, every one in the repository.
    """

    registry: Path
    store: Path
    now: float
    branch: str | None = None
    release: str | None = None
    inventories: tuple[Path, ...] = ()
    excuses: tuple[str, ...] = ()
    gap_s: float = BUILD_GAP_S


class Subject:
    """The request with what was learned about it: each thing is looked at once, when needed."""

    def __init__(self, request: GateRequest) -> None:
        self.request = request
        self.source = request.registry.resolve().parent
        self.made_at_s = float("-inf")
        """When today's builds were begun, by the monotonic clock."""
        self._scratch = tempfile.TemporaryDirectory(prefix="deploytool-gate-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    @cached_property
    def declared(self) -> dict[Path, Declared | tuple[GateFinding, ...]]:
        """The inventories that are asked for, else every one; each as read, or what is wrong.

        Raises:
            InputError: there is none, or no repository to look for them.
        """
        paths = self.request.inventories or find_inventories(self.checkout)
        return {path: read(path) for path in paths}

    @property
    def scratch(self) -> Path:
        """A folder that goes away with this."""
        return Path(self._scratch.name)

    @cached_property
    def checkout(self) -> Checkout:
        """The checkout that the registry lies in.

        Raises:
            InputError: there is none, or its history is not whole.
        """
        return Checkout(self.source)

    @cached_property
    def written(self) -> Written:
        """The registry as it stands.

        Raises:
            InputError: with every mistake in it.
        """
        return load_registry(self.request.registry)

    @cached_property
    def made(self) -> BuildsToday:
        """The builds that the source makes of the registry now.

        Raises:
            InputError: a recipe can't be read.
        """
        self.made_at_s = time.monotonic()
        return todays_builds(self.request.registry, self.scratch / "store")

    @cached_property
    def linted(self) -> Linted:
        """The registry and the builds, checked against all history.

        Raises:
            InputError: the registry is wrong, or its history can't be read.
        """
        request = self.request
        asked = LintRequest(
            request.registry, self.source, request.branch, request.store, request.excuses
        )
        return lint(asked, None, self.made)

    @property
    def released(self) -> tuple[Release, ...]:
        """The release of the store that is named, where one is."""
        return self.releases if self.request.release is not None else ()

    @cached_property
    def releases(self) -> tuple[Release, ...]:
        """What is to be released.

        Raises:
            InputError: there is nothing, it can't be built, or the one that is named is none.
        """
        if self.request.release is not None:
            return (find(self.request.store, self.request.release),)
        for error in self.made.failed.values():
            raise error
        if not self.made.releases:
            raise InputError(
                f"No build is made of {self.name(self.request.registry)}, and no release is named.",
                "Nothing was looked at.",
                "Name a release of the store, or the registry of a source with a build.py",
            )
        return self.made.releases

    def table(self, release: Release) -> tuple[FlagEntry, ...]:
        """What a release says of each bit; nothing where it has no flags.

        Raises:
            InputError: what it says is not what its digests say.
        """
        flags = release.manifest.flags
        try:
            return entries_of(flags, release.label) if flags is not None else ()
        except ValueError as error:
            raise InputError(
                f"The flag table of {release.label} is not true: {error}.",
                "Nothing was touched, and nothing is known of what it does with any bit.",
                "Build it again, with a builder that writes each digest as docs/flags.md says.",
            ) from error

    def name(self, path: Path) -> str:
        """How findings call a file: by its path below the repository's top."""
        try:
            return self.checkout.relative(path)
        except InputError:
            return str(path)

    def placed(self, release: Release, member: str) -> str:
        """The source file that is in the release as ``member``: the one with the same bytes."""
        wanted = self._members(release).get(member)
        ending = Path(member).suffix
        same = [
            path
            for path in sorted(self.source.rglob(f"*{ending}"))
            if wanted is not None and path.is_file() and path.read_bytes() == wanted
        ]
        alike = [path for path in same if path.as_posix().endswith(f"/{member}")]
        return self.name((alike or same)[0]) if same else f"{release.label}: {member}"

    def _members(self, release: Release) -> dict[str, bytes]:
        try:
            return members(Path(release.artifact))
        except NotReadable:
            return {}

    def finding(self, found: GateFinding) -> GateFinding:
        """The same, with its path as findings call it."""
        path = Path(found.path)
        if not path.is_absolute() and not path.exists():
            return found
        return GateFinding(
            found.rule, self.name(path), found.line, found.text, found.remedy, found.unknown
        )
