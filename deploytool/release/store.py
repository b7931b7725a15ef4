"""The operator's store of releases: ``<store>/<sha256>/<name>`` and ``release.json``."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from pydantic import ValidationError

from deploytool.agent.model import KnownRelease
from deploytool.agent.words import is_digest
from deploytool.errors import EnvironmentProblem, InputError
from deploytool.fleet.model import Digest
from deploytool.release.model import KNOWN_AT_MOST, Manifest, Release

DEFAULT_STORE = Path(".deploytool/store")
MANIFEST = "release.json"
_SLICE_BYTES = 1024 * 1024
_MANIFEST_BYTES_AT_MOST = 64 * 1024
_PREFIX_AT_LEAST = 6


def slices(path: Path) -> Iterator[bytes]:
    """The file's bytes, a mebibyte at a time."""
    with path.open("rb") as file:
        while part := file.read(_SLICE_BYTES):
            yield part


def file_digest(path: Path) -> Digest:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def add(store: Path, artifact: Path, manifest: Manifest) -> Release:
    """Puts an artifact and its manifest into the store, whole or not at all.

    Raises:
        InputError: the manifest is not true of the artifact.
        EnvironmentProblem: the store can't be written to, or is full.
    """
    with _usable(store):
        return _add(store, artifact, manifest)


@contextmanager
def _usable(store: Path) -> Iterator[None]:
    """What the system refuses there is no bug of ours, and is said as a person would say it."""
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"The store {store} can't be used: {error}",
            "Nothing was touched. A release that was there before is there still.",
            f"Look at its owner and its disk: ls -ld {quote(str(store))}; df -h . ; "
            "or name another: --store DIR",
        ) from error


def _add(store: Path, artifact: Path, manifest: Manifest) -> Release:
    store.mkdir(parents=True, exist_ok=True)
    target = store / manifest.sha256
    with tempfile.TemporaryDirectory(dir=store, prefix=".incoming-") as scratch:
        folder = Path(scratch) / "release"
        folder.mkdir(mode=0o755)
        copy = folder / manifest.name
        shutil.copyfile(artifact, copy)
        copy.chmod(0o555)
        (folder / MANIFEST).write_bytes(manifest.canonical())
        (folder / MANIFEST).chmod(0o444)
        load(folder)
        if not target.exists():
            folder.rename(target)
        elif manifest.clean or not load(target).manifest.clean:
            # The same bytes, built from a later commit: their label may say so.
            (folder / MANIFEST).rename(target / MANIFEST)
    return load(target)


def load(folder: Path) -> Release:
    """The release in ``folder``, after its bytes were checked against its manifest.

    Raises:
        InputError: something is missing, truncated, altered, not executable, or lies.
    """
    try:
        text = (folder / MANIFEST).read_bytes()[: _MANIFEST_BYTES_AT_MOST + 1]
    except OSError as error:
        raise _bad(folder, f"there is no readable {MANIFEST}: {error.strerror}") from error
    if len(text) > _MANIFEST_BYTES_AT_MOST:
        raise _bad(folder, f"{MANIFEST} is larger than {_MANIFEST_BYTES_AT_MOST} bytes")
    try:
        manifest = Manifest.parse(text)
    except ValidationError as error:
        lines = (
            f"{folder / MANIFEST}: {'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise _bad(folder, f"{MANIFEST} is wrong", tuple(lines)) from error
    except ValueError as error:
        raise _bad(folder, f"{MANIFEST}: {error}") from error
    artifact = folder / manifest.name
    _check_artifact(folder, artifact, manifest)
    return Release(manifest, str(artifact))


def _check_artifact(folder: Path, artifact: Path, manifest: Manifest) -> None:
    try:
        facts = artifact.lstat()
    except OSError as error:
        raise _bad(folder, f"the artifact {artifact.name} is missing: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise _bad(folder, f"the artifact {artifact.name} is not a plain file")
    if facts.st_size != manifest.size:
        raise _bad(
            folder, f"the artifact has {facts.st_size} bytes, its manifest says {manifest.size}"
        )
    if not facts.st_mode & stat.S_IXUSR:
        raise _bad(folder, f"the artifact {artifact.name} is not executable")
    found = file_digest(artifact)
    if found != manifest.sha256:
        raise _bad(
            folder, f"the artifact's SHA-256 is {found}, its manifest says {manifest.sha256}"
        )


def _bad(folder: Path, what: str, details: tuple[str, ...] = ()) -> InputError:
    return InputError(
        f"{folder} is not a release: {what}.",
        "Nothing was touched.",
        "Build it again: deploytool release build NAME, or deploytool release describe FILE",
        details,
    )


def all_releases(store: Path) -> tuple[Release, ...]:
    """Every release in the store, by version and digest.

    Raises:
        InputError: one of them is damaged.
        EnvironmentProblem: the store can't be read.
    """
    with _usable(store):
        if not store.is_dir():
            return ()
        folders = sorted(path for path in store.iterdir() if not path.name.startswith("."))
        found = [load(folder) for folder in folders]
    for folder, release in zip(folders, found, strict=True):
        if folder.name != release.digest:
            raise _bad(folder, f"it holds {release.label}, not what its name says")
    return tuple(sorted(found, key=lambda item: (item.manifest.version, item.digest)))


def known_releases(store: Path) -> tuple[KnownRelease, ...]:
    """By what each release of the store is found on a host, the newest first.

    Their bytes are not read, and one whose manifest can't be read is left out: it is not deployed.
    """
    found: list[tuple[float, KnownRelease]] = []
    try:
        folders = [path for path in store.iterdir() if is_digest(path.name)]
    except OSError:
        return ()
    for folder in folders:
        try:
            manifest = Manifest.parse((folder / MANIFEST).read_bytes()[:_MANIFEST_BYTES_AT_MOST])
            known = KnownRelease(sha=manifest.sha256, size=manifest.size)
            found.append((folder.stat().st_mtime, known))
        except (OSError, ValueError):
            continue
    found.sort(key=lambda item: (-item[0], item[1].sha))
    return tuple(known for _, known in found[:KNOWN_AT_MOST])


def find(store: Path, word: str) -> Release:
    """The release that ``word`` means: a folder, a SHA-256 or the beginning of one, or a version.

    Raises:
        InputError: none, or more than one.
        EnvironmentProblem: the store can't be read.
    """
    with _usable(store):
        return _find(store, word)


def _find(store: Path, word: str) -> Release:
    if os.sep in word or Path(word).is_dir():
        return load(Path(word))
    folders = sorted(path.name for path in store.iterdir()) if store.is_dir() else []
    by_digest = [
        name for name in folders if name.startswith(word) and len(word) >= _PREFIX_AT_LEAST
    ]
    if len(by_digest) == 1:
        found = load(store / by_digest[0])
        if found.digest != by_digest[0]:
            raise _bad(store / by_digest[0], f"it holds {found.label}, not what its name says")
        return found
    matching = [item for item in all_releases(store) if item.manifest.version == word]
    if len(matching) == 1 and not by_digest:
        return matching[0]
    candidates = [item.label for item in matching or all_releases(store)]
    many = bool(matching or by_digest)
    what = "means more than one release" if many else "is no release"
    make = f"deploytool release build {quote(word) if candidates else '2026.1'}"
    one = f"Name one that is there, or make it: {make}" if candidates else make
    raise InputError(
        f"{word!r} {what} in the store {store}.",
        "Nothing was touched.",
        "Name one by its SHA-256: deploytool release list" if many else one,
        tuple(f"in the store: {label}" for label in candidates),
    )
