"""A held file is read by its name only where the name leads to that very file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from deploytool.agent.held import digest_held
from deploytool.agent.linux.files import LinuxFiles
from deploytool.agent.port import HeldFile

if TYPE_CHECKING:
    from deploytool.agent.port import System

BYTES = b"a library"


class Closed:
    """A kernel that keeps ``map_files`` from this account."""

    @staticmethod
    def digest(_held: HeldFile) -> str | None:
        return None


class Meanwhile(LinuxFiles):
    """Files to which something is done just before one is read."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def digest(self, path: str) -> str | None:
        self.act()
        return super().digest(path)


def read(held: HeldFile, files: LinuxFiles) -> str | None:
    class Host:
        processes = Closed()

    host = Host()
    host.files = files  # type: ignore[attr-defined]
    return digest_held(cast("System", host), held)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "lib.so"
    path.write_bytes(BYTES)
    return path


def held(path: Path, how: str = "map", *, deleted: bool = False) -> HeldFile:
    found = path.stat()
    return HeldFile(
        how=how,
        handle="/proc/1/map_files/0-1",
        device=found.st_dev,
        number=found.st_ino,
        size=found.st_size,
        path=str(path),
        deleted=deleted,
        changed=str(found.st_ctime_ns),
    )


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(BYTES)
    other.rename(path)


def alter(path: Path) -> None:
    path.write_bytes(b"a.library")
    path.touch()


def test_by_its_name(library: Path) -> None:
    assert read(held(library), LinuxFiles()) == hashlib.sha256(BYTES).hexdigest()


@pytest.mark.parametrize("act", [replace, alter, Path.unlink, lambda path: path.chmod(0o600)])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_another_file_of_that_name_is_not_it(
    library: Path, act: Callable[[Path], object], *, meanwhile: bool
) -> None:
    seen = held(library)
    if meanwhile:
        assert read(seen, Meanwhile(lambda: act(library))) is None
    else:
        act(library)
        assert read(seen, LinuxFiles()) is None


def test_a_name_that_is_no_longer_or_never_was_its_own(library: Path) -> None:
    assert read(held(library, deleted=True), LinuxFiles()) is None
    assert read(held(library, "argument"), LinuxFiles()) is None
