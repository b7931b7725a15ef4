"""GATE_REPRODUCIBLE: who builds it again gets the same bytes, and these are released.

One build is made in the checkout, two of copies of it, as far apart as one machine allows: in
other folders with other names, of files with other times, modes and order, under another umask,
time zone, locale, home and hash seed, and begun more than one tick of a zip file's clock later.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import InputError
from deploytool.gate.check_flags import Found
from deploytool.gate.model import Check, GateFinding
from deploytool.gate.subject import Subject
from deploytool.registry.artifact import NotReadable, members
from deploytool.release.build import BUILDER
from deploytool.release.store import file_digest

RULE = Check.REPRODUCIBLE.value
_DEADLINE_S = 120


@dataclass(frozen=True)
class _Place:
    """Where and how one of the two builds is made."""

    folder: str
    zone: str
    locale: str
    seed: str
    umask: int
    file_time: int
    file_mode: int
    backwards: bool


_PLACES = (
    _Place("one", "Pacific/Kiritimati", "C", "1", 0o077, 86_400, 0o600, backwards=False),
    _Place("a 2nd/place", "America/Lima", "C.UTF-8", "2", 0o002, 2**31 - 1, 0o755, backwards=True),
)


def reproducible(subject: Subject) -> Found:
    """Whether two builds give one digest, and the one that is to be released.

    Raises:
        InputError: there is no builder, or the source can't be built.
    """
    if not (subject.source / BUILDER).is_file():
        raise InputError(
            f"There is no {BUILDER} beside {subject.name(subject.request.registry)}.",
            "Nothing was built: whether another build gives the same bytes is not shown.",
            f"Name the registry of a source with a {BUILDER} (docs/gate.md).",
        )
    findings: list[GateFinding] = []
    evidence = []
    for release in subject.releases:
        version = release.manifest.version
        here = _made_here(subject, version)
        if here is None:
            findings.append(_finding(subject, f"no build of the source is called {version}"))
            continue
        again = _again(subject, version, release.manifest.name)
        digests = ", ".join(file_digest(path)[:12] for path in (here, *again))
        evidence.append(f"{version}: three builds, {digests}")
        odd = next((path for path in again if file_digest(path) != file_digest(here)), None)
        if odd is not None:
            text = f"two builds of {version} differ{_difference(here, odd)}"
            findings.append(_finding(subject, text))
        elif file_digest(here) != release.digest:
            text = (
                f"{version} builds to {file_digest(here)[:12]}, what is to be released is "
                f"{release.digest[:12]}{_difference(here, Path(release.artifact))}"
            )
            findings.append(_finding(subject, text))
    return tuple(evidence), tuple(findings)


def _made_here(subject: Subject, version: str) -> Path | None:
    """The build of this version that was made in the checkout itself."""
    if version in subject.made.failed:
        raise subject.made.failed[version]
    found = (item for item in subject.made.releases if item.manifest.version == version)
    return next((Path(item.artifact) for item in found), None)


def _finding(subject: Subject, text: str) -> GateFinding:
    return GateFinding(
        RULE, subject.name(subject.source / BUILDER), 1, text,
        "build from committed files only, with no time, path, order or chance in the result",
    )  # fmt: skip


def _difference(one: Path, two: Path) -> str:
    """Which files in the artifact differ, where it is one that can be opened."""
    try:
        first, second = members(one), members(two)
    except NotReadable:
        return ""
    names = sorted(n for n in {*first, *second} if first.get(n) != second.get(n))
    return f" in {', '.join(names[:5])}" if names else " in how they are packed"


def _again(subject: Subject, version: str, artifact: str) -> tuple[Path, ...]:
    """Two more builds, side by side, begun a while after the one that was made in the checkout."""
    time.sleep(max(0.0, subject.made_at_s + subject.request.gap_s - time.monotonic()))
    with ThreadPoolExecutor(len(_PLACES)) as pool:
        folders = pool.map(lambda place: _build(subject, place, version), _PLACES)
        return tuple(folder / artifact for folder in folders)


def _build(subject: Subject, place: _Place, version: str) -> Path:
    """Builds a copy of the source; gives the folder that the builder wrote to."""
    base = subject.scratch / "again" / version / place.folder
    source, out, home = base / "source", base / "out", base / "home"
    _copy(subject.source, source, place)
    for folder in (out, home):
        folder.mkdir()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TZ": place.zone,
        "LC_ALL": place.locale,
        "PYTHONHASHSEED": place.seed,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, str(source / BUILDER), version, "--out", str(out)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False,
            timeout=_DEADLINE_S, cwd=home, env=environment, umask=place.umask,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _cannot(subject, version, f"it did not end within {_DEADLINE_S} s", ()) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-10:]
        raise _cannot(subject, version, f"exit code {done.returncode}", tuple(said))
    return out


def _cannot(subject: Subject, version: str, why: str, said: tuple[str, ...]) -> InputError:
    return InputError(
        f"A copy of {subject.name(subject.source)} can't be built as {version}: {why}.",
        "Nothing was touched: whether another build gives the same bytes is not shown.",
        "Let the builder use nothing outside of its own folder, and fix what it names.",
        said,
    )


def _copy(source: Path, target: Path, place: _Place) -> None:
    """The source in another place: other times, other modes, and made in another order."""
    files = sorted(_files(source), reverse=place.backwards)
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            copy.symlink_to(path.readlink())
            continue
        shutil.copyfile(path, copy)
        copy.chmod(place.file_mode)
        os.utime(copy, (place.file_time, place.file_time))


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if "__pycache__" not in path.parts and (path.is_symlink() or path.is_file()):
            yield path
