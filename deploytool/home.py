"""Where deploytool keeps what it writes on this machine: releases, journals, records, fleets.

The folder is found as git finds a repository, so that a command means the same from any folder:

1. ``DEPLOYTOOL_HOME``, where that is set;
2. the nearest ``.deploytool`` in the inventory's folder or above it;
3. the nearest one in the folder that one is in, or above it;
4. else a new ``.deploytool`` there.

A folder that belongs to another account than this one or root does not count: whoever can write to
``/tmp`` must not hand out releases.
"""

from __future__ import annotations

import os
from pathlib import Path

NAME = ".deploytool"


def home(inventory: Path | None = None) -> Path:
    """The folder; as a relative path where it is in the folder that one is in."""
    if named := os.environ.get("DEPLOYTOOL_HOME"):
        return Path(named).expanduser()
    here = Path.cwd()
    for start in (here if inventory is None else inventory.absolute().parent, here):
        for folder in (start, *start.parents):
            if _ours(folder / NAME):
                return Path(NAME) if folder == here else folder / NAME
    return Path(NAME)


def _ours(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return folder.is_dir() and found.st_uid in {0, os.geteuid()}
