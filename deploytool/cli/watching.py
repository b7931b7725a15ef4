"""What ``deploytool watch`` wires together, and what its end means."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Any

from deploytool.cli.output import say
from deploytool.errors import DeploytoolError, NotProven
from deploytool.fleet.descriptors import make_room
from deploytool.fleet.inventory import load_inventory
from deploytool.release.store import find, known_releases
from deploytool.stop.targets import read_targets
from deploytool.watch.runner import Policy, Watch, WatchSummary
from deploytool.watch.server import StopServer


def _said(line: str) -> None:
    say(f"{datetime.now().astimezone():%H:%M:%S}  {line}")


def keep(
    path: Path,
    release: str | None,
    store: Path,
    *,
    by: str,
    every_s: float,
    lasting_s: float | None,
    stop_on_drift: bool,
    until_drift: bool,
    ended: Callable[[], bool],
) -> WatchSummary:
    """Watches a fleet until it is told to end.

    Raises:
        InputError: the inventory or the release is wrong, or a watch of it runs here already.
    """
    make_room()
    inventory = load_inventory(path)
    declared = find(store, release).manifest if release is not None else None
    until = None if lasting_s is None else time.monotonic() + lasting_s
    policy = Policy(every_s, stop_on_drift, until_drift, until, by)
    door = StopServer(path)
    try:
        lasting = "until Ctrl-C" if lasting_s is None else f"for {lasting_s:g} s"
        every = f"every {every_s:g} s, {lasting}"
        _said(f"watching {len(inventory.names)} hosts of {inventory.fleet} {every}")
        known = known_releases(store)
        return Watch(
            inventory, read_targets(path), declared, policy, door, _said, ended, known
        ).run()
    finally:
        door.close()


def conclude(seen: WatchSummary, inventory: str) -> tuple[dict[str, Any], DeploytoolError | None]:
    """The document of a watch that has ended, and its error where it saw anything but good."""
    document = {
        "drifted": seen.drifted,
        "unknown": seen.unknown,
        "rounds": seen.rounds,
        "took_s": [round(seconds, 4) for seconds in seen.took_s],
        "pictures": {
            host: {"verdict": p.verdict.value, "release": p.release, "text": p.text, "at": p.at}
            for host, p in sorted(seen.pictures.items())
        },
    }
    bad = {**seen.unknown, **seen.drifted}
    if not bad and seen.rounds:
        return document, None
    return document, NotProven(
        f"Hosts that drifted: {len(seen.drifted)}; that are not known: {len(seen.unknown)}.",
        "Leases that this watch renewed are renewed no longer.",
        f"deploytool status -i {quote(inventory)}",
        tuple(f"{host}: {text}" for host, text in sorted(bad.items())),
    )
