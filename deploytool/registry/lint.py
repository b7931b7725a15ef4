"""Holds a registry against all that was ever said, and builds against what was retired."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploytool.errors import DeploytoolError, InputError, NotProven, Refused
from deploytool.parity.model import RoundAnswers
from deploytool.registry.artifact import NotReadable, read_artifact
from deploytool.registry.git import Repository
from deploytool.registry.history import Source, builds, committed, live, recipes, stored
from deploytool.registry.model import FlagEntry
from deploytool.registry.reachability import unreachable
from deploytool.registry.rules import FlagRefusal, between, check_against
from deploytool.registry.source import load_registry
from deploytool.release.build import BUILDER, build
from deploytool.release.model import Release
from deploytool.release.store import all_releases

_EXCUSE_AT_LEAST = 7
_KINDS = {
    "commit": "versions in the history",
    "build": "registries of old builds",
    "release": "releases in the store",
    "today's build": "builds made of it now",
    "host": "builds live on hosts",
}


@dataclass(frozen=True)
class LintRequest:
    """What is to be linted, and against what. ``excuses``: sources that nobody can read."""

    registry: Path
    repo: Path
    branch: str | None
    store: Path
    excuses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Linted:
    """Every source that was looked at, and everything that a rule forbids."""

    registry: str
    sources: tuple[Source, ...]
    refusals: tuple[FlagRefusal, ...]

    @property
    def unread(self) -> tuple[Source, ...]:
        """The sources of which it is not known what they say."""
        return tuple(source for source in self.sources if source.trouble)

    def count(self, kind: str) -> int:
        """How many sources of this kind were looked at."""
        return sum(source.kind == kind for source in self.sources)

    @property
    def against(self) -> str:
        """What the registry was checked against, in words."""
        counted = {words: self.count(kind) for kind, words in _KINDS.items()}
        return ", ".join(f"{count} {words}" for words, count in counted.items() if count)


def lint(
    asked: LintRequest, seen: RoundAnswers | None = None, made: BuildsToday | None = None
) -> Linted:
    """Holds the registry of the working tree against its past; ``seen``: what a fleet showed.

    ``made``: today's builds, where they were made already.

    Raises:
        InputError: the registry is wrong, or its history can't be read.
    """
    written = load_registry(asked.registry)
    sources = list(committed(Repository(asked.repo), asked.registry, asked.branch))
    sources += builds(asked.registry)
    releases = all_releases(asked.store)
    sources += [stored(release) for release in releases]
    if seen is not None:
        manifests = {str(release.digest): release.manifest for release in releases}
        sources += live(seen, manifests.get)
    past = [entry for source in sources for entry in source.entries]
    refusals = list(check_against(written.entries, past, str(asked.registry)))
    refusals += _other_builds(asked.registry, (*past, *written.entries))
    with tempfile.TemporaryDirectory(prefix="deploytool-lint-") as scratch:
        made = todays_builds(asked.registry, Path(scratch)) if made is None else made
        sources += [Source("today's build", n, trouble=e.told()) for n, e in made.failed.items()]
        sources += [_as_built(release, written.entries) for release in made.releases]
        newest = {release.digest for release in made.releases}
        for release in {item.digest: item for item in (*releases, *made.releases)}.values():
            refused, trouble = _look_into(release, past, newest=release.digest in newest)
            refusals += refused
            if trouble:
                place = f"the artifact of {release.label}"
                sources.append(Source("artifact", place, trouble=trouble, id=release.digest))
    excused = tuple(_excuse(source, asked.excuses) for source in sources)
    return Linted(str(asked.registry), excused, tuple(dict.fromkeys(refusals)))


@dataclass(frozen=True)
class BuildsToday:
    """Today's builds, and those that could not be made, with why."""

    releases: tuple[Release, ...] = ()
    failed: Mapping[str, InputError] = field(default_factory=dict)


def todays_names(registry: Path) -> tuple[str, ...]:
    """The builds that are made of this very registry, where the source has a builder.

    Raises:
        InputError: a recipe can't be read.
    """
    source = registry.resolve().parent
    if not (source / BUILDER).is_file():
        return ()
    mine = (item.path.stem for item in recipes(registry) if item.registry == registry.resolve())
    return tuple(dict.fromkeys(mine))


def _other_builds(registry: Path, said: Sequence[FlagEntry]) -> Iterator[FlagRefusal]:
    """What may be released with a registry of its own has to agree with all others.

    Else a bit could be given away in a file that no caller checks against the past. Builds that are
    for rehearsals only are the past.
    """
    own = {r.registry for r in recipes(registry) if not r.rehearsal_only} - {registry.resolve()}
    for source in builds(registry):
        if Path(source.place) in own:
            yield from between(source.entries, said, source.place)


def todays_builds(registry: Path, scratch: Path) -> BuildsToday:
    """Today's builds, made now. What the rules say does not wait for one that can't be made.

    Raises:
        InputError: a recipe can't be read.
    """
    releases, failed = [], {}
    for name in todays_names(registry):
        try:
            releases.append(build(scratch, registry.resolve().parent, name))
        except InputError as error:
            failed[name] = error
    return BuildsToday(tuple(releases), failed)


def _as_built(release: Release, registry: Sequence[FlagEntry]) -> Source:
    """Whether the builder read the registry as we do."""
    source = stored(release)
    said = {entry.content for entry in source.entries}
    if not source.trouble and said != {entry.content for entry in registry}:
        trouble = "the artifact's flag table is not the one that its registry gives"
        return Source("today's build", release.label, trouble=trouble, id=release.digest)
    return replace(source, kind="today's build")


def _look_into(
    release: Release, past: Sequence[FlagEntry], *, newest: bool
) -> tuple[tuple[FlagRefusal, ...], str]:
    """What a rule forbids in the artifact itself, or why it can't be looked into."""
    flags, table = release.manifest.flags, stored(release).entries
    if flags is None or not table:
        return (), ""
    try:
        contents = read_artifact(Path(release.artifact))
    except NotReadable as error:
        return (), str(error)
    said = flags.model_dump(mode="json")
    if any(inside != said for inside in contents.tables):
        return (), "the flag table in it is not the one in its manifest"
    return unreachable(contents, table, past, release.label, newest=newest), ""


def _excuse(source: Source, excuses: Sequence[str]) -> Source:
    """A source that a person took responsibility for says nothing, and is no trouble."""
    named = any(source.id.startswith(word) for word in excuses if len(word) >= _EXCUSE_AT_LEAST)
    return replace(source, trouble="") if source.id and named else source


def conclude(linted: Linted, again: str) -> DeploytoolError | None:
    """None where every source was read and every rule holds; else what to say.

    ``again`` is the command that lints once more.
    """
    unread = tuple(f"{s.kind} {s.place}: {s.trouble}" for s in linted.unread)
    details = (*map(str, linted.refusals), *unread)
    if linted.refusals:
        rules = ", ".join(dict.fromkeys(refusal.rule.value for refusal in linted.refusals))
        return Refused(
            linted.refusals[0].rule.value,
            f"{linted.registry} is refused by {rules}.",
            "Nothing was changed. A build made of it would read a bit otherwise than another does.",
            f"Do what the lines name, then: {again}",
            details,
        )
    hosts = [source for source in linted.unread if source.kind == "host"]
    if len(hosts) < len(unread):
        word = next(s.id for s in linted.unread if s.kind != "host")[:12] or "ID"
        return InputError(
            f"{len(unread) - len(hosts)} sources of the past can't be read.",
            "Nothing was touched. What they say of any bit is not known, so nothing is proven.",
            f"Fix them; where no build was ever made of one: {again} --excuse {word}",
            details,
        )
    if hosts:
        return NotProven(
            f"What is live on {len(hosts)} hosts or processes could not be seen.",
            "Nothing was changed. A build that no one saw may read any bit in any way.",
            f"Fix what the lines name, then: {again}",
            details,
        )
    return None
