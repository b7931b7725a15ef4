"""Where a watch on this machine can be found, and what it wrote down: per user, per inventory.

Only what is this user's own, and nobody else may write to, is believed. Nothing here needs a home
folder, and it imports next to nothing: the warm way of a stop goes through it.
"""

from __future__ import annotations

import os
import stat
from binascii import crc32

_RUNTIME = "/run/user"
_COMMON = "/tmp"  # noqa: S108 the owner is checked


def folders() -> tuple[str, str]:
    """Where a watch of this user may be: its runtime folder, and where that was not there yet.

    A user's runtime folder comes with the first login and goes with the last: a watch that a
    machine started by itself may be older than the one that whoever stops looks at.
    """
    user = os.getuid()
    return f"{_RUNTIME}/{user}/deploytool", f"{_COMMON}/deploytool-{user}"


def folder() -> str:
    """This user's folder for a watch that begins now (it may not be there yet)."""
    runtime, common = folders()
    return runtime if os.path.isdir(os.path.dirname(runtime)) else common  # noqa: PTH112, PTH120 pathlib is slow to import


def stem(inventory: str) -> str:
    """How the files of a watch of this inventory are named: its socket and its record.

    The *place* of the inventory says it: a file that was replaced there, as editors do, or taken
    away has a watch all the same, which has to be told.

    Raises:
        OSError: there is no such folder.
    """
    place = os.path.realpath(inventory)
    found = os.stat(os.path.dirname(place))  # noqa: PTH116, PTH120
    name = crc32(os.fsencode(os.path.basename(place)))  # noqa: PTH119
    return f"{found.st_dev:x}-{found.st_ino:x}-{name:08x}"


def candidates(inventory: str, suffix: str) -> tuple[str, ...]:
    """Every path under which such a file may stand, the likeliest first.

    Raises:
        OSError: there is no such folder.
    """
    name = f"{stem(inventory)}{suffix}"
    return tuple(f"{place}/{name}" for place in folders())


def owned(path: str) -> bool:
    """Whether only this user can have put there what is there."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return (
        found.st_uid == os.getuid()
        and not stat.S_ISLNK(found.st_mode)
        and (found.st_mode & 0o022 == 0)
    )


def make_folder() -> str:
    """Makes the folder, for this user alone.

    Raises:
        OSError: it can't be made, or somebody else made it.
    """
    path = folder()
    os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103
    if not owned(path):
        raise PermissionError(f"{path} is not this user's alone")
    return path
