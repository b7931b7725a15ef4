"""How many files this process may hold open: each host takes a connection or three."""

from __future__ import annotations

import resource
from contextlib import suppress


def make_room() -> None:
    """Allows this process as many descriptors as its user may have at all.

    The usual limit of 1,024 is less than a large fleet takes.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
