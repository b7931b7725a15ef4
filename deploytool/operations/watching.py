"""Watching a fleet: evidence rounds, leases renewed, and the lines that make a stop quicker."""

from __future__ import annotations

import time
from collections.abc import Callable

from deploytool.core.observer import never
from deploytool.fleet.descriptors import make_room
from deploytool.operations.workspace import Workspace, holder
from deploytool.release.store import find, known_releases
from deploytool.stop.targets import read_targets
from deploytool.watch.runner import Policy, Watch, WatchSummary
from deploytool.watch.server import StopServer


def watch(
    space: Workspace,
    release: str | None = None,
    *,
    every_s: float = 5.0,
    lasting_s: float | None = None,
    stop_on_drift: bool = False,
    until_drift: bool = False,
    by: str | None = None,
    tell: Callable[[str], None] = lambda _line: None,
    interrupted: Callable[[], bool] = never,
) -> WatchSummary:
    """Watches a fleet until it is told to end.

    Args:
        space: the fleet.
        release: what is declared; else what the fleet is proven to run.
        every_s: seconds between two rounds.
        lasting_s: end after so many seconds.
        stop_on_drift: stop a host that drifts.
        until_drift: end at the first drift.
        by: who watches, as hosts write it down; else ``watch+user@machine``.
        tell: is given a line for each thing that changes.
        interrupted: asked between two rounds; True ends it.

    Raises:
        InputError: there is no such release, or a watch of this inventory runs here already.
    """
    make_room()
    inventory = space.inventory
    declared = find(space.store, release).manifest if release is not None else None
    until = None if lasting_s is None else time.monotonic() + lasting_s
    policy = Policy(every_s, stop_on_drift, until_drift, until, by or f"watch+{holder()}")
    door = StopServer(space.path)
    try:
        lasting = "until Ctrl-C" if lasting_s is None else f"for {lasting_s:g} s"
        every = f"every {every_s:g} s, {lasting}"
        tell(f"watching {len(inventory.names)} hosts of {inventory.fleet} {every}")
        known = known_releases(space.store)
        return Watch(
            inventory, read_targets(space.path), declared, policy, door, tell, interrupted, known
        ).run()
    finally:
        door.close()
