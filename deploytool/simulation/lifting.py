"""What a person with hands does on a simulated host before a rollout is finished or undone."""

from __future__ import annotations

from deploytool.simulation.events import linked, with_ours
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.memory.service import MemorySystemd

_ROOM_BYTES = 1 << 30


def lift(host: SimulatedHost, files: dict[str, bytes]) -> None:
    """Takes back whatever a fault has left, as far as it is not deploytool's to mend.

    ``files``: the configuration and the agent as they have to be. Releases that were damaged,
    links that were switched and locks that others took stay as they are: mending those is what
    ``resume`` and ``rollback`` are for.
    """
    host.strikes = {}
    host.befall(_lift, tuple(sorted(files.items())))


def _lift(host: SimulatedHost, files: tuple[tuple[str, bytes], ...]) -> None:
    computer, service = host.computer, host.service
    host.reconnect()
    computer.disk.room, computer.disk.read_only = _ROOM_BYTES, False
    host.skew_s = 0.0
    service.quirks.clear()
    for path, content in files:
        if computer.read(path) != content:
            with_ours(host, path, content)
    _let_in(host)
    _undo_drop_ins(host)
    main = service.main
    for task in list(computer.tasks.values()):
        if task is not main or task.stubborn:
            computer.end(task)


def _let_in(host: SimulatedHost) -> None:
    service = host.service
    if host.mark("fenced") is not None:
        # What "deploytool start" does, which a second person signs.
        host.remove_mark("fenced", "halted", "meant", "service/halted")
        if isinstance(service, MemorySystemd):
            service.unmask()
        if linked(host) is not None:
            service.start()


def _undo_drop_ins(host: SimulatedHost) -> None:
    if isinstance(host.service, MemorySystemd):
        for path in host.service.files():
            if path.endswith(".conf"):
                host.computer.remove(path)
        host.computer.sync()
