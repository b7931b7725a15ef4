"""Makes releases: from the router's source, or from any executable file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.release.model import FlagTable, Manifest, Release
from deploytool.release.store import add, file_digest

BUILDER = "build.py"
_BUILD_DEADLINE_S = 120
_VERSION_DEADLINE_S = 10


def build(store: Path, source: Path, name: str) -> Release:
    """Builds ``name`` with the source tree's own ``build.py`` and puts the result into the store.

    The builder is known by its files only: it writes the artifact and ``buildinfo.json``.

    Raises:
        InputError: there is no such build, or its source is wrong.
        EnvironmentProblem: the builder did not end in time.
    """
    builder = source / BUILDER
    if not builder.is_file():
        raise InputError(
            f"There is no {builder}.",
            "Nothing was built.",
            "Run it in the project's folder, or name the source with --source DIR.",
        )
    with tempfile.TemporaryDirectory(prefix="deploytool-build-") as out:
        command = [sys.executable, str(builder), name, "--out", out]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_BUILD_DEADLINE_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentProblem(
                f"The build of {name} did not end within {_BUILD_DEADLINE_S} s.",
                "Nothing was built.",
                f"Try it by hand: {' '.join(command)}",
            ) from error
        if done.returncode != 0:
            raise InputError(
                f"{name} can't be built.",
                "Nothing was put into the store.",
                f"Fix what the builder names, then: deploytool release build {name}",
                tuple((done.stderr.strip() or done.stdout.strip()).splitlines()[-20:]),
            )
        manifest = _from_buildinfo(Path(out) / "buildinfo.json")
        return add(store, Path(out) / manifest.name, manifest)


def _from_buildinfo(path: Path) -> Manifest:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        known = {key: value for key, value in said.items() if key in Manifest.model_fields}
        return Manifest.model_validate_json(json.dumps(known))
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise InputError(
            f"The builder's {path.name} is wrong: {error}",
            "Nothing was put into the store.",
            "See docs/contract.md, section 2.",
        ) from error


def describe(
    store: Path,
    file: Path,
    *,
    name: str,
    version: str,
    requires: tuple[str, ...],
    version_line: str | None,
    flags: FlagTable | None = None,
) -> Release:
    """Makes any executable file a release, which carries out ``flags``.

    Where ``version_line`` is not given, the file is run with ``--version`` here to learn it.

    Raises:
        InputError: no such file, not executable, or a value that a manifest can't have.
    """
    if not file.is_file() or not os.access(file, os.X_OK):
        raise InputError(
            f"{file} is not an executable file.",
            "Nothing was put into the store.",
            f"chmod +x {file}, or name another file.",
        )
    line = version_line if version_line is not None else _ask_version(file)
    try:
        manifest = Manifest(
            name=name,
            version=version,
            sha256=file_digest(file),
            size=file.stat().st_size,
            version_line=line,
            requires=requires,
            flags=flags,
        )
    except ValidationError as error:
        lines = (
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)
        )
        raise InputError(
            f"{file} can't be described so.",
            "Nothing was put into the store.",
            "See docs/contract.md, section 2.",
            tuple(lines),
        ) from error
    return add(store, file, manifest)


def _ask_version(file: Path) -> str:
    way_out = f'deploytool release describe {file} --version-line "WHAT IT PRINTS" ...'
    try:
        done = subprocess.run(
            [str(file.resolve()), "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_DEADLINE_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} --version gives no version here: {error}",
            "Nothing was put into the store.",
            way_out,
        ) from error
    first = done.stdout.partition("\n")[0]
    if not first:
        raise InputError(
            f"{file} --version prints nothing.", "Nothing was put into the store.", way_out
        )
    return first


def check_version(release: Release) -> None:
    """Holds what the artifact says of itself against its manifest.

    Raises:
        InputError: it says something else, or nothing.
    """
    said = _ask_version(Path(release.artifact))
    if said != release.manifest.version_line:
        raise InputError(
            f"{release.artifact} says it is {said!r}, its manifest says "
            f"{release.manifest.version_line!r}.",
            "Nothing was touched.",
            "Describe or build it again; do not deploy it.",
        )
