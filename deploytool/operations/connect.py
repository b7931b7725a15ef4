"""The one place where a fleet is connected, and its connections are closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deploytool.fleet import remote
from deploytool.fleet.model import Inventory


@contextmanager
def connected(
    inventory: Inventory, *, early: bool = False, only: tuple[str, ...] | None = None
) -> Iterator[Mapping[str, remote.RemoteHost]]:
    """The hosts of a fleet, by name, for the length of a block; nothing is asked of any yet.

    ``early``: all are probed presently: sessions are opened, and agents get ready for that, while
    this machine does.
    ``only``: these hosts, where not all of them.
    """
    fleet = remote.connect_fleet(inventory, early=early)
    try:
        yield fleet if only is None else {name: fleet[name] for name in fleet if name in only}
    finally:
        for host in fleet.values():
            host.close()
