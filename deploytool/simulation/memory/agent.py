"""The port in memory: one run of the agent on one computer, as its verbs see the system."""

from __future__ import annotations

from deploytool.agent.port import Printed
from deploytool.agent.settings import Settings
from deploytool.simulation.memory.commands import MemoryCommands
from deploytool.simulation.memory.computer import TICKS, Computer
from deploytool.simulation.memory.files import MemoryFiles
from deploytool.simulation.memory.processes import MemoryProcesses
from deploytool.simulation.memory.run import Hook, Run, Wait
from deploytool.simulation.memory.service import MemoryService
from deploytool.simulation.memory.supervisor import MemorySupervisor


class MemoryMachine:
    """What makes a computer itself, and its clocks."""

    def __init__(self, run: Run) -> None:
        self._run, self._drafts = run, 0

    @property
    def _computer(self) -> Computer:
        return self._run.computer

    def machine_id(self) -> str:
        """machine-id(5)."""
        self._run.point("machine_id")
        return (self._computer.read("/etc/machine-id") or b"").decode().strip()

    def boot_id(self) -> str:
        """Differs from boot to boot."""
        self._run.point("boot_id")
        return self._computer.boot_id

    def now(self) -> float:
        """Seconds since the epoch, as this computer believes."""
        self._run.point("now")
        return self._computer.clock

    def uptime(self) -> float:
        """Seconds since it was booted."""
        self._run.point("uptime")
        return self._computer.uptime

    def age(self, start: int) -> float:
        """How long ago that was."""
        self._run.point("age")
        return max(0.0, self._computer.uptime - start / TICKS)

    def sleep(self, seconds: float) -> None:
        """Waits."""
        self._run.point("sleep")
        self._run.wait(lambda: False, seconds)

    def account(self, name: str | None) -> int | None:
        """An account's number."""
        self._run.point("account")
        return self._run.task.account if name is None else self._computer.accounts.get(name)

    def has_program(self, name: str) -> bool:
        """Whether it can be run by this name."""
        self._run.point(f"has_program {name}")
        return name in self._computer.programs

    def packet_rules(self) -> tuple[Printed, ...]:
        """What each tool that lists packet rules prints."""
        self._run.point("packet rules")
        rules = self._computer.packet_rules
        return tuple(Printed(program=program, text=text) for program, text in rules)

    def draft(self) -> str:
        """A word that no other run of the agent on this computer has."""
        self._drafts += 1
        return f"{self._computer.boots}-{self._run.task.pid}-{self._drafts}"


class MemoryAgent:
    """The port's ``System``, for one process of the agent."""

    def __init__(
        self, service: MemoryService, *, hook: Hook | None = None, wait: Wait | None = None
    ) -> None:
        self.settings: Settings = service.settings
        self.libraries: dict[str, str] = {}
        self.run = Run(service.computer, service.settings.agent, hook=hook, wait=wait)
        self.files = MemoryFiles(self.run)
        self.processes = MemoryProcesses(self.run)
        self.supervisor = MemorySupervisor(self.run, service)
        self.commands = MemoryCommands(self.run, service)
        self.machine = MemoryMachine(self.run)
