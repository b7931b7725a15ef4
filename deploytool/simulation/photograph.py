"""All that a simulated host is, as one value: two that are equal behave alike from now on."""

from __future__ import annotations

from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.machine import File, Machine, SimulatedProcess
from deploytool.simulation.service import SimulatedService


def photograph(host: SimulatedHost) -> int:
    """A number for what a host is: its disk, processes, service, faults, and its own counters.

    Numbers of one interpreter's run only. What struck a host before and what it was asked are
    not part of it: they don't change what it does next, once its faults are lifted.
    """
    helper = host.helper
    return hash((host.network, helper.rights, _machine(helper.machine), _service(helper.service)))


def _file(file: File | None) -> object:
    if file is None:
        return None
    return file.inode, file.on_disk, file.cached, file.mode, file.owner, file.deleted


def _process(process: SimulatedProcess) -> object:
    return (
        *(process.pid, process.parent, process.start, process.command, process.path),
        *(process.loaded, process.in_group, process.stubborn, frozenset(process.ports)),
        _file(process.file),
    )


def _machine(machine: Machine) -> object:
    disk = machine.disk
    return (
        *(machine.skew_s, machine.passed_s, machine.boots, machine.programs, machine.counters),
        *(disk.room, disk.read_only, disk.direct, tuple(sorted(disk.links.items()))),
        tuple((path, _file(file)) for path, file in sorted(disk.files.items())),
        tuple(map(_process, machine.processes.values())),
    )


def _service(service: SimulatedService) -> object:
    unit = service.unit
    return (
        frozenset(service.quirks),
        service.main_pid,
        service.answering and service.answering.pid,
        unit and (unit.content, unit.enabled, unit.masked, unit.override, unit.active),
        unit and tuple(sorted(unit.drop_ins.items())),
        repr(service.board()),
    )
