"""The supervisor as the agent asks it."""

from __future__ import annotations

from typing import Literal

from deploytool.agent.model import Property
from deploytool.agent.port import UnitState
from deploytool.simulation.memory.run import Run
from deploytool.simulation.memory.service import MemoryService, MemorySystemd, Plain

COMMAND_S = 0.02
"""What a call of systemctl takes."""


class MemorySupervisor:
    """systemd, or the agent itself where the service has none."""

    def __init__(self, run: Run, service: MemoryService) -> None:
        self._run, self._service = run, service

    def _takes(self, what: str) -> None:
        self._run.point(what)
        self._run.computer.time.tick(COMMAND_S)

    def state(self) -> UnitState:
        """What it says of the service now."""
        self._takes("state of the unit")
        service = self._service
        if isinstance(service, Plain):
            main = service.found()
            if main is None:
                return UnitState(active="inactive", sub="dead")
            return UnitState(main=main.pid, active="active", sub="running")
        assert isinstance(service, MemorySystemd)  # noqa: S101 there is no third
        properties = service.properties()
        if service.shown is not None and service.shown[0] == properties:
            return service.shown[1]
        found = dict(properties)
        state = UnitState(
            main=int(found["MainPID"]),
            active=found["ActiveState"],
            sub=found["SubState"],
            group=found["ControlGroup"],
            properties=tuple(Property(name=name, value=text) for name, text in found.items()),
        )
        service.shown = properties, state
        return state

    def unit_files(self) -> tuple[str, ...]:
        """Every file that makes the unit."""
        self._run.point("files of the unit")
        return self._service.files() if isinstance(self._service, MemorySystemd) else ()

    def restart(self, _deadline_s: float) -> str:
        """Restarts the service."""
        self._takes("restart")
        if isinstance(self._service, MemorySystemd):
            self._service.reset()
            if self._service.masked:
                return self._service.start()
        if failed := self._service.stop():
            return failed
        self._takes("restart, between stop and start")
        return self._service.start()

    def stop(self, _deadline_s: float) -> str:
        """Ends the service."""
        self._takes("stop")
        failed = self._service.stop()
        self._run.point("stop, done")
        return failed

    def mask(self) -> Literal["yes", "runtime", "no"]:
        """Keeps it from being started."""
        self._takes("mask")
        return self._service.mask() if isinstance(self._service, MemorySystemd) else "yes"

    def unmask(self) -> None:
        """Lets it be started again."""
        self._takes("unmask")
        if isinstance(self._service, MemorySystemd):
            self._service.unmask()

    def masked(self) -> bool:
        """Whether it is kept from being started."""
        self._run.point("masked")
        return isinstance(self._service, MemorySystemd) and bool(self._service.masked)

    def set_timer(self, seconds: int, token: int) -> None:
        """Has ``expire`` asked of this host in so many seconds."""
        self._takes("set_timer")
        self._service.set_timer(seconds, token)

    def clear_timer(self) -> None:
        """Takes that back."""
        self._takes("clear_timer")
        self._service.clear_timer()

    def log(self, _lines: int, *, own: bool) -> tuple[str, ...]:
        """Nothing: no service of this machine prints a word."""
        del own
        self._takes("log of the service")
        return ()

    def environment(self) -> tuple[str, ...]:
        """The variables that it gives every service it starts from now on."""
        self._takes("environment of the manager")
        return self._run.computer.manager if isinstance(self._service, MemorySystemd) else ()
