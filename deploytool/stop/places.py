"""Where a watch on this machine can be found, and what it wrote down: per user, per inventory.

Only what is this user's own, and nobody else may write to, is believed. Nothing here needs a home
folder, and it imports next to nothing: the warm way of a stop goes through it.
"""

from __future__ import annotations

import os
import stat


def folder() -> str:
    """This user's runtime folder for watches (it may not be there yet)."""
    runtime = f"/run/user/{os.getuid()}"
    return f"{runtime}/deploytool" if os.path.isdir(runtime) else f"/tmp/deploytool-{os.getuid()}"  # noqa: PTH112, S108 pathlib is slow to import; the owner is checked


def stem(inventory: str) -> str:
    """The path that a watch of this inventory file begins with: its socket and its record.

    A file that was replaced, as editors do, is another inventory: who watches the old one does not
    know what is in the new one.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(inventory)  # noqa: PTH116
    return f"{folder()}/{found.st_dev:x}-{found.st_ino:x}"


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
