"""All that was ever said of each bit: the past that the rules hold a registry against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import yaml

from deploytool.errors import HostFault, InputError
from deploytool.fleet.yaml_source import Document
from deploytool.parity.model import Evidence, RoundAnswers
from deploytool.registry.git import Repository, Version
from deploytool.registry.model import FlagEntry, entries_of
from deploytool.registry.source import BYTES_AT_MOST, recall
from deploytool.release.model import Manifest, Release

_MEANS = "Nothing was touched, and nothing is proven about any flag."


@dataclass(frozen=True)
class Source:
    """One place where bits were given meanings: kind, where, and what it says.

    ``trouble``: why it could not be read. What it says is then not known, which is not nothing.
    ``id``: the commit, or the artifact's SHA-256, by which a person can excuse that.
    """

    kind: str
    place: str
    entries: tuple[FlagEntry, ...] = ()
    trouble: str = ""
    id: str = ""


def committed(repo: Repository, registry: Path, branch: str | None) -> tuple[Source, ...]:
    """Every version of the registry, and of old builds' registries, in the history.

    What is no longer there counts wherever it lay: a registry that went in one commit and came
    back by another name in a later one is the same registry. What is still there counts where it
    lies at or below this one's folder; elsewhere it is another artifact's.

    Raises:
        InputError: the history is not whole, or the registry never was committed.
    """
    try:
        path = registry.resolve().relative_to(repo.top.resolve()).as_posix()
    except ValueError:
        raise InputError(
            f"{registry} is not in the repository {repo.top}.",
            _MEANS,
            "Name the repository that it is kept in with --repo DIR.",
        ) from None
    name, tip = repo.branch(branch)
    versions, moved = repo.versions(path, tip)
    here, folder = repo.names(tip), PurePosixPath(path).parent
    versions = tuple(
        version
        for version in versions
        if version.path in moved
        or version.path not in here
        or PurePosixPath(version.path).is_relative_to(folder)
    )
    if not any(version.path == path for version in versions):
        raise InputError(
            f"{path} never was committed on {name}.",
            f"{_MEANS[:-1]}: it has no past that could be read.",
            f"Commit it on {name}, or name the release branch with --branch BRANCH.",
        )
    sources = [(version.path, _version(version)) for version in versions]
    # Another file is a registry only if it ever was one that could be read.
    known = {at for at, said in sources if not said.trouble} | {path}
    known |= {version.path for version in versions if version.content is None}
    return tuple(said for at, said in sources if at in known)


def _version(version: Version) -> Source:
    if version.content is None:
        return Source("commit", version.place, trouble="its content is missing from the clone")
    if b"flags" not in version.content:
        return Source("commit", version.place, trouble="is no flag registry", id=version.commit)
    return replace(_recalled("commit", version.place, version.content), id=version.commit)


def _recalled(kind: str, place: str, content: bytes) -> Source:
    try:
        return Source(kind, place, recall(content, place))
    except ValueError as error:
        return Source(kind, place, trouble=str(error))


def builds(registry: Path) -> tuple[Source, ...]:
    """The registries of all builds whose recipes lie beside this one, whatever they are called.

    Raises:
        InputError: a recipe can't be read.
    """
    return tuple(
        _file(path)
        for path in sorted({recipe.registry for recipe in recipes(registry)})
        if path != registry.resolve()
    )


@dataclass(frozen=True)
class Recipe:
    """How a build is made: its file, the registry that it names, whether it may be released."""

    path: Path
    registry: Path
    rehearsal_only: bool


def recipes(registry: Path) -> tuple[Recipe, ...]:
    """Each recipe in a ``builds/`` at or below the registry's folder.

    Raises:
        InputError: a recipe can't be read.
    """
    found = []
    for path in sorted(registry.resolve().parent.rglob("builds/*.yaml")):
        try:
            said = Document(path.read_text("utf-8")).value
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(
                f"The recipe {path} can't be read: {error}", _MEANS, f"Mend {path}."
            ) from error
        if isinstance(said, Mapping) and isinstance(named := said.get("registry"), str):
            only = said.get("rehearsal_only") is True
            found.append(Recipe(path, (path.parent.parent / named).resolve(), only))
    return tuple(found)


def _file(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            return _recalled("build", str(path), file.read(BYTES_AT_MOST + 1))
    except OSError as error:
        return Source("build", str(path), trouble=f"can't be read: {error.strerror}")


def stored(release: Release) -> Source:
    """What a release says of each bit: the one it was built from, or one in the store."""
    return replace(_manifest("release", release.label, release.manifest), id=release.digest)


def _manifest(kind: str, place: str, manifest: Manifest) -> Source:
    if manifest.flags is None:
        if kind == "host":
            return Source(kind, place, trouble="its build does not say what its bits mean")
        return Source(kind, place)
    try:
        return Source(kind, place, entries_of(manifest.flags, place))
    except ValueError as error:
        return Source(kind, place, trouble=str(error))


def live(seen: RoundAnswers, store: Callable[[str], Manifest | None]) -> tuple[Source, ...]:
    """What every build says that is live on any host, by the manifest that the host holds.

    A process may run another build than the one that is active on disk: its manifest is then
    looked for in the ``store``, by digest.
    """
    found: list[Source] = []
    for host, outcome in seen.items():
        if isinstance(outcome, HostFault):
            found.append(Source("host", host, trouble=str(outcome)))
            continue
        running = {item.sha for item in outcome.running} | {outcome.release}
        held = _held(outcome.manifest)
        for sha in sorted(sha for sha in running if sha is not None):
            manifest = held if held and held.sha256 == sha else store(sha)
            place = f"{host}, build {sha[:8]}"
            if manifest is None:
                found.append(Source("host", place, trouble="its manifest is not here"))
            else:
                found.append(_manifest("host", place, manifest))
        found += [
            Source("host", f"{host}, process {pid}", trouble="what it runs could not be seen")
            for pid in _unseen(outcome)
        ]
        if running == {None}:
            found.append(Source("host", f"{host}, on no release"))
    return tuple(found)


def _unseen(seen: Evidence) -> tuple[int, ...]:
    """Processes that run something of the service's, nobody knows what; not those that left."""
    found = {other.pid for other in seen.others("unseen")}
    found |= {item.pid for item in seen.running if item.sha is None}
    if seen.main_pid and seen.main_pid not in {item.pid for item in seen.running}:
        found.add(seen.main_pid)
    return tuple(sorted(found))


def _held(text: bytes | None) -> Manifest | None:
    """The manifest that a host showed."""
    if text is None:
        return None
    try:
        return Manifest.parse(text)
    except ValueError:
        return None
