"""The box of the rehearsal's machines: built once, kept by its recipe's digest, and checked."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.model import Progress
from deploytool.rehearsal.fleets.processes import MARK
from deploytool.rehearsal.fleets.run import run
from deploytool.shipped import ROOT

_BUILD_S = 1800.0
_CLEAR_S = 120.0
_POLL_S = 1.0
_SUMS = "SHA256SUMS"
_FILES = ("machine.box", "disk.qcow2", "vmlinuz", "initrd.img")
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")

_HERE = Path(__file__).parent
_RECIPE = (
    ROOT / "vagrant/build-box",
    ROOT / "vagrant/machine.sh",
    ROOT / "vagrant/machine.packages",
    ROOT / "vagrant/insecure.pub",
    _HERE / "bare.sh",
    _HERE / "bare.packages",
)


@dataclass(frozen=True)
class Box:
    """A box that was checked. ``kernel`` and ``initrd``: what starts its machines directly."""

    name: str
    file: Path
    kernel: Path
    initrd: Path


def default_store() -> Path:
    """Where boxes are kept: libvirt's own account must be able to read there."""
    if os.geteuid() == 0:
        return Path("/var/cache/deploytool/boxes")
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "deploytool/boxes"


def recipe_digest() -> str:
    """Changes whenever anything does that a box is made from.

    Raises:
        EnvironmentProblem: a file of the recipe is missing.
    """
    lacking = [str(path) for path in _RECIPE if not path.is_file()]
    if lacking:
        raise EnvironmentProblem(
            f"The recipe of the machines' box is not here: {', '.join(lacking)}.",
            "Nothing was started.",
            "Install deploytool again, or run it from a checkout of its repository.",
        )
    whole = hashlib.sha256()
    for path in _RECIPE:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def is_built(store: Path | None = None) -> bool:
    """Whether the box of this recipe is there, checked or not.

    Raises:
        EnvironmentProblem: a file of the recipe is missing.
    """
    return ((store or default_store()) / recipe_digest() / _SUMS).is_file()


def ensure_box(progress: Progress, fleet: str, store: Path | None = None) -> Box:
    """The box of this recipe, built where it is missing, and checked against its digests.

    What builds it carries the mark of ``fleet``, so that its `down` ends a build whose `up` was
    killed, and holds the store's lock until then, so that no other build comes between.

    Raises:
        EnvironmentProblem: it can't be built, or what lies there is not what was built.
    """
    store = store or default_store()
    folder = store / recipe_digest()
    if not (folder / _SUMS).is_file():
        store.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _alone(store, progress) as lock:
            if not (folder / _SUMS).is_file():
                progress("building the machines' box: once on this machine, two minutes or more")
                _clear(store)
                build = [str(ROOT / "vagrant/build-box"), str(folder)]
                run(build, _BUILD_S, env={MARK: fleet}, keep=(lock,))
    _check(folder)
    return Box(folder.name, folder / "machine.box", folder / "vmlinuz", folder / "initrd.img")


@contextmanager
def _alone(store: Path, progress: Progress) -> Iterator[int]:
    """Two who need a box at the same time build one; gives the lock, which goes with its holders.

    Raises:
        EnvironmentProblem: another one has been at it for longer than a build may take.
    """
    deadline = time.monotonic() + _BUILD_S
    handle = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    try:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EnvironmentProblem(
                        f"Another process has been building a box in {store} for {_BUILD_S:g} s.",
                        "No machine was started.",
                        f"See who: fuser -v {store}",
                    ) from None
                if not told:
                    progress("another process is building the machines' box: waiting for it")
                told = True
                time.sleep(_POLL_S)
        yield handle
    finally:
        os.close(handle)


def _clear(store: Path) -> None:
    """Removes what builds that were killed have left. The lock is held."""
    for left in store.iterdir():
        if left.is_dir() and not (left / _SUMS).is_file():
            # Not shutil's: that goes on into whatever is mounted there.
            run(["rm", "-rf", "--one-file-system", str(left)], _CLEAR_S)


def _check(folder: Path) -> None:
    """Holds what lies there against what was written down when it was built: four files, no less.

    Raises:
        EnvironmentProblem: a file is missing or altered, or has no digest; names it.
    """
    lines = (folder / _SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {said[2]: said[1] for line in lines if (said := _SUM.fullmatch(line)) is not None}
    wrong = [f"{_SUMS} has no digest of {name}" for name in _FILES if name not in sums]
    if not wrong and len(lines) != len(_FILES):
        wrong = [f"{_SUMS} has {len(lines)} lines, not {len(_FILES)}"]
    for name in _FILES if not wrong else ():
        path, expected = folder / name, sums[name]
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif (found := digest(path)) != expected:
            wrong.append(f"{name}: expected {expected[:12]}, found {found[:12]}")
    if wrong:
        raise EnvironmentProblem(
            f"The box in {folder} does not match its digests: {'; '.join(wrong)}.",
            "No machine was started from it.",
            f"rm -r {folder}, and again: it is built again.",
        )


def digest(path: Path) -> str:
    """SHA-256 of a file that need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
