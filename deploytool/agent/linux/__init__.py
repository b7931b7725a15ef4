"""The port for real: Linux by system calls, ``/proc`` and a few of the system's own programs.

Each module is one part of ``port``, and is imported when a verb first needs that part.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.port import Commands, Files, Machine, Processes, Supervisor
    from deploytool.agent.settings import Settings


class Linux:
    """This host, for one service on it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.libraries: dict[str, str] = {}
        self._files: Files | None = None
        self._processes: Processes | None = None
        self._supervisor: Supervisor | None = None
        self._commands: Commands | None = None
        self._machine: Machine | None = None

    @property
    def files(self) -> Files:
        """Its files."""
        if self._files is None:
            from deploytool.agent.linux.files import LinuxFiles

            self._files = LinuxFiles()
        return self._files

    @property
    def processes(self) -> Processes:
        """Its processes."""
        if self._processes is None:
            from deploytool.agent.linux.processes import LinuxProcesses

            self._processes = LinuxProcesses(self.settings.agent)
        return self._processes

    @property
    def supervisor(self) -> Supervisor:
        """Systemd, or the agent itself."""
        if self._supervisor is None:
            if self.settings.supervisor == "systemd":
                from deploytool.agent.linux.systemd import Systemd

                self._supervisor = Systemd(self.settings)
            else:
                from deploytool.agent.linux.unsupervised import Unsupervised

                self._supervisor = Unsupervised(self.settings, self.processes)
        return self._supervisor

    @property
    def commands(self) -> Commands:
        """The service's commands."""
        if self._commands is None:
            from deploytool.agent.linux.commands import LinuxCommands

            self._commands = LinuxCommands(self.settings)
        return self._commands

    @property
    def machine(self) -> Machine:
        """Itself and its clocks."""
        if self._machine is None:
            from deploytool.agent.linux.machine import LinuxMachine

            self._machine = LinuxMachine()
        return self._machine
