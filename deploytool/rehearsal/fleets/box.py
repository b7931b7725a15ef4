"""The box of the rehearsal's machines: built once, kept by its recipe's digest, and checked."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.model import Progress
from deploytool.rehearsal.fleets.run import find, run

_BUILD_S = 1800.0
_SUMS = "SHA256SUMS"
CHECKOUT = Path(__file__).resolve().parents[3]
"""Where the Vagrantfile and the recipe lie: this is run from a checkout."""

_HERE = Path(__file__).parent
_RECIPE = (
    CHECKOUT / "vagrant/build-box",
    CHECKOUT / "vagrant/machine.sh",
    CHECKOUT / "vagrant/machine.packages",
    CHECKOUT / "vagrant/insecure.pub",
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
        EnvironmentProblem: this is no checkout.
    """
    lacking = [str(path) for path in _RECIPE if not path.is_file()]
    if lacking:
        raise EnvironmentProblem(
            f"The recipe of the machines' box is not here: {', '.join(lacking)}.",
            "Nothing was started.",
            "Run deploytool from a checkout of its repository: make rehearse-vagrant",
        )
    whole = hashlib.sha256()
    for path in _RECIPE:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def ensure_box(progress: Progress, store: Path | None = None) -> Box:
    """The box of this recipe, built where it is missing, and held against its digests.

    Raises:
        EnvironmentProblem: it can't be built, or what lies there is not what was built.
    """
    store = store or default_store()
    folder = store / recipe_digest()
    if not (folder / _SUMS).is_file():
        for program, package in (
            ("mmdebstrap", "mmdebstrap"),
            ("mkfs.ext4", "e2fsprogs"),
            ("qemu-img", "qemu-utils"),
        ):
            find(program, package)
        progress("building the machines' box: once on this machine, two minutes or more")
        store.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        run([str(CHECKOUT / "vagrant/build-box"), str(folder)], _BUILD_S)
    _check(folder)
    return Box(folder.name, folder / "machine.box", folder / "vmlinuz", folder / "initrd.img")


def _check(folder: Path) -> None:
    """Holds what lies there against what was written down when it was built.

    Raises:
        EnvironmentProblem: a file is missing or altered; names it.
    """
    wrong = []
    for line in (folder / _SUMS).read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif (found := digest(path)) != expected:
            wrong.append(f"{name}: expected {expected[:12]}, found {found[:12]}")
    if wrong:
        raise EnvironmentProblem(
            f"The box in {folder} does not match its digests: {'; '.join(wrong)}.",
            "No machine was started from it.",
            f"rm -r {folder}, and again: it is built anew.",
        )


def digest(path: Path) -> str:
    """SHA-256 of a file that need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
