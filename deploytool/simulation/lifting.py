"""What a person with hands does on a simulated host before a rollout is finished or undone."""

from __future__ import annotations

from deploytool.simulation.host import SimulatedHost

_ROOM_BYTES = 1 << 30


def lift(host: SimulatedHost, files: dict[str, bytes]) -> None:
    """Takes back whatever a fault has left, as far as it is not deploytool's to mend.

    ``files``: the configuration and the helper as they have to be. Releases that were damaged,
    links that were switched and locks that others took stay as they are: mending those is what
    ``resume`` and ``rollback`` are for.
    """
    helper = host.helper
    machine, service = helper.machine, helper.service
    host.reconnect()
    machine.disk.room, machine.disk.read_only = _ROOM_BYTES, False
    machine.skew_s = 0.0
    service.quirks.clear()
    for path, content in files.items():
        if machine.disk.files[path].content != content:
            machine.disk.files[path].write(content)
            machine.disk.files[path].sync()
    if helper.text("fenced") is not None:
        # What "deploytool start" does, which a second person signs.
        helper.remove("fenced", "halted", "meant", "service/halted")
        service.unfence()
        if helper.linked() != "none":
            service.start()
    if service.unit is not None:
        service.unit.drop_ins.clear()
        service.unit.override = None
    main = service.main_pid
    for pid, process in list(machine.processes.items()):
        if pid != main or process.stubborn:
            machine.kill(pid)
