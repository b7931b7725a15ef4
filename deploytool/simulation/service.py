"""The supervisor of the one service (a pid file, or systemd's unit) and what breaks in it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum

from deploytool.fleet.model import Inventory
from deploytool.simulation.board import Board, BoardRefusal
from deploytool.simulation.machine import DiskError, Machine, SimulatedProcess, sha256
from deploytool.simulation.program import Program


class Quirk(Enum):
    """What a service does that it should not; it lasts until it is taken back."""

    WONT_START = "it ends as soon as it is started"
    OLD_SURVIVES = "the old process does not end, and is out of the supervisor's sight"
    STATUS_STALE = "the first process that ran here answers for every later one"
    VERSION_LIES = "it names a version that is not its own"
    SILENT = "it runs and does not answer"


@dataclass(eq=False)
class Unit:
    """systemd's view of the service."""

    path: str
    content: bytes
    enabled: bool = True
    masked: bool = False
    drop_ins: dict[str, bytes] = field(default_factory=dict)
    override: str | None = None
    """The release that a drop-in starts instead of ``current``."""
    active: str = "inactive"


@dataclass(eq=False)
class SimulatedService:
    """The service of one release root on one machine."""

    machine: Machine
    name: str
    root: str
    ports: tuple[int, ...]
    host: str = ""
    fleet: str = ""
    hosts: frozenset[str] = frozenset()
    unit: Unit | None = None
    halts: bool = False
    """Whether the inventory names a command that halts it."""
    resumes: bool = False
    """Whether it names one that lets it trade again: then it keeps its latch on its own disk."""
    quirks: set[Quirk] = field(default_factory=set)
    main: SimulatedProcess | None = None
    answering: SimulatedProcess | None = None
    _boards: dict[SimulatedProcess, Board] = field(default_factory=dict)

    @staticmethod
    def of(
        machine: Machine, inventory: Inventory, host: str, unit: Unit | None
    ) -> SimulatedService:
        """The service that an inventory describes."""
        listen = (inventory.expand(text, host) for text in inventory.service.listen)
        numbers = tuple(int(text.rpartition(":")[2]) for text in listen)
        named, root = inventory.service, inventory.root(host)
        halts, fleet, all_ = named.halt is not None, inventory.fleet, frozenset(inventory.names)
        resumes = named.resume is not None
        return SimulatedService(
            machine, named.name, root, numbers, host, fleet, all_, unit, halts, resumes
        )

    @property
    def main_pid(self) -> int:
        """The main process, as the supervisor knows it; 0 where there is none."""
        alive = self.main is not None and self.machine.processes.get(self.main.pid) is self.main
        return self.main.pid if alive and self.main else 0

    def release_file(self, release: str) -> str:
        """Where the artifact of a release stands."""
        return f"{self.root}/releases/{release}/{self.name}"

    def of_this_root(self) -> list[SimulatedProcess]:
        """Every process that runs any release of this root."""
        prefix = f"{self.root}/releases/"
        return [p for p in self.machine.processes.values() if p.path.startswith(prefix)]

    def start(self, *, orphaned: bool = False) -> str:
        """Starts what ``current`` names; gives what the supervisor complains of.

        ``orphaned``: systemd's condition on the unit does not hold, and it starts nothing.
        """
        if f"{self.root}/state/fenced" in self.machine.disk.files:
            return ""
        if self.unit is not None and (self.unit.masked or orphaned):
            return f"Unit {self.name}.service is masked." if self.unit.masked else ""
        target = self.machine.disk.links.get(f"{self.root}/current", "").removeprefix("releases/")
        release = self.unit.override if self.unit and self.unit.override else target
        path = self.release_file(release)
        self.main = self.machine.spawn(f"python3 {self.root}/current/{self.name} serve", path)
        runs = self.main.file is not None and Program.load(self.main.loaded) is not None
        if not runs or Quirk.WONT_START in self.quirks:
            self.machine.kill(self.main.pid)
            self._is("failed")
            return "" if self.unit is None else f"Job for {self.name}.service failed."
        self._is("active")
        for port in self.ports:
            # A program that goes on without its port is worse than one that ends: so this one does.
            self.machine.bind(self.main, port)
        if Quirk.STATUS_STALE not in self.quirks or not self._answers():
            self.answering = self.main
        return ""

    def stop(self) -> str:
        """Ends the service; gives why it could not."""
        ours = self.of_this_root()
        if Quirk.OLD_SURVIVES in self.quirks:
            self.quirks.discard(Quirk.OLD_SURVIVES)
            for process in ours:
                process.in_group, process.stubborn = False, True
        for process in ours:
            if not process.stubborn and (self.unit is None or process.in_group):
                self.machine.kill(process.pid)
        self._is("inactive")
        if self.unit is None and self.of_this_root():
            return "a process does not end, even when killed"
        return ""

    def crash(self) -> None:
        """The main process ends by itself."""
        if self.main_pid:
            self.machine.kill(self.main_pid)
        self._is("failed")

    def boot(self, *, orphaned: bool) -> None:
        """What the supervisor does after a reboot: only systemd starts anything."""
        self.main = self.answering = None
        self._is("inactive")
        if self.unit is not None and self.unit.enabled:
            self.start(orphaned=orphaned)

    def fence(self) -> None:
        """Stops it so that nothing revives it."""
        if self.unit is not None:
            self.unit.masked = True
        self.stop()

    def unfence(self) -> None:
        """Lets it be started again, where no stop forbids it."""
        if self.unit is not None and f"{self.root}/state/fenced" not in self.machine.disk.files:
            self.unit.masked = False

    def _is(self, active: str) -> None:
        if self.unit is not None:
            self.unit.active = active

    def _answers(self) -> bool:
        return self.answering is not None

    def _halted(self) -> bool:
        return f"{self.root}/state/service/halted" in self.machine.disk.files

    def board(self) -> Board | None:
        """The flags of the process that answers; None where nobody does."""
        process = self.answering
        program = Program.load(process.loaded) if process else None
        if process is None or program is None or Quirk.SILENT in self.quirks:
            return None
        if process.pid not in self.machine.processes:
            return None
        if process not in self._boards:
            file = self.machine.disk.files.get(f"{self.root}/state/service/epoch")
            epoch, sha = int(file.content) if file else 0, sha256(process.loaded)
            self._boards[process] = Board.of(program, self.host, self.fleet, self.hosts, sha, epoch)
            self._boards[process].remember = self._remember
        return self._boards[process]

    def _remember(self, epoch: int) -> None:
        """Writes the newest epoch down, for whatever process comes after."""
        try:
            self.machine.disk.put(f"{self.root}/state/service/epoch", f"{epoch}".encode())
        except DiskError as error:
            raise BoardRefusal("EPOCH_DISK", f"the epoch can't be written: {error}") from error

    def version_line(self, path: str) -> str:
        """What the artifact at ``path`` says of itself when it is asked without being started."""
        file = self.machine.disk.files.get(path)
        program = Program.load(file.content) if file else None
        if program is None:
            return "sh: not found"
        return f"{self.name} 0.0" if Quirk.VERSION_LIES in self.quirks else program.version_line

    def status(self) -> str:
        """What the process behind the control socket says of itself, or what the shell says."""
        process = self.answering
        program = Program.load(process.loaded) if process else None
        stale = Quirk.STATUS_STALE in self.quirks
        alive = process is not None and (stale or process.pid in self.machine.processes)
        if process is None or program is None or not alive or Quirk.SILENT in self.quirks:
            return f"{self.name}: nobody answers\n"
        board, lies = self.board(), Quirk.VERSION_LIES in self.quirks
        said = {
            "release": sha256(process.loaded),
            "version": "0.0" if lies else program.version,
            "pid": process.pid,
            "start_ticks": process.start,
            "boot_id": self.machine.boot_id,
            "flag_table": program.flags.table if program.flags else None,
            "wire": program.flags.wire if program.flags else None,
            "armed": board.armed(self.machine.uptime_s) if board else [],
            "epoch": board.epoch if board else 0,
            "trading_state": "HALTED" if self._halted() else "ACTIVE",
            "reason": "",
        }
        return json.dumps(said) + "\n"
