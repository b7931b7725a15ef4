"""All that a simulated host is, as one value: two that are equal behave alike from now on."""

from __future__ import annotations

from deploytool.simulation.flags import board_of
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.memory.computer import Computer, Task
from deploytool.simulation.memory.disk import Node
from deploytool.simulation.memory.service import MemoryService, MemorySystemd


def photograph(host: SimulatedHost) -> int:
    """A number for what a host is: its disk, processes, service, faults, and its own counters.

    Numbers of one interpreter's run only. What struck a host before and what it was asked are
    not part of it: they don't change what it does next, once its faults are lifted.
    """
    return host.look(_photograph)


def _photograph(host: SimulatedHost) -> int:
    shown = (host.network, host.skew_s, _computer(host.computer), _service(host.service))
    return hash(shown)


def _node(node: Node) -> object:
    return node.kind, node.content, node.on_disk, node.mode, node.owner, node.names


def _task(task: Task) -> object:
    held = tuple((held.how, held.path, _node(held.node)) for held in task.held)
    return (
        *(task.pid, task.parent, task.start, task.argv, task.group, task.stubborn, task.loaded),
        *(frozenset(task.ports), held),
    )


def _computer(computer: Computer) -> object:
    disk = computer.disk
    return (
        *(computer.on, computer.boots, disk.room, disk.read_only, disk.direct),
        tuple((path, _node(node)) for path, node in sorted(disk.tree().items())),
        tuple(map(_task, computer.tasks.values())),
    )


def _service(service: MemoryService) -> object:
    timer = service.timer
    left_s = int(timer.at - service.computer.time.now) if timer and not timer.cleared else None
    return (
        frozenset(quirk.name for quirk in service.quirks),
        service.main and service.main.pid,
        service.answering and service.answering.pid,
        (service.active, service.sub) if isinstance(service, MemorySystemd) else None,
        (left_s, tuple(service.due)),
        repr(board_of(service)),
    )
