"""The supervisor of the one service, systemd or a file with a process number, and its quirks."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from deploytool.agent.port import UnitState
from deploytool.agent.settings import Settings
from deploytool.simulation.memory.computer import Computer, OpenFile, Task
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.memory.programs import Flags, Program
from deploytool.simulation.memory.time import Alarm

UNITS = "/usr/local/lib/systemd/system"
CONTROL = "/etc/systemd/system"
WANTS = f"{CONTROL}/multi-user.target.wants"
LIMIT_S, LIMIT = 10.0, 5
"""systemd's own start limit (systemd-system.conf(5), DefaultStartLimitIntervalSec)."""
_FOLDERS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    CONTROL,
    "/run/systemd/system",
    "/run/systemd/generator",
    UNITS,
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)
"""Where systemd.unit(5) looks, the first found wins."""


class Quirk(Enum):
    """What a service does that it should not; it lasts until it is taken back."""

    WONT_START = "it ends as soon as it is started"
    OLD_SURVIVES = "the old process does not end, and is out of the supervisor's sight"
    STATUS_STALE = "the first process that ran here answers for every later one"
    VERSION_LIES = "it names a version that is not its own"
    SILENT = "it runs and does not answer"


@dataclass(eq=False)
class Mind:
    """What a process of the service knows, and forgets when it ends."""

    program: Program
    release: str
    halted: bool = False
    nonce: str = ""
    leases: int = 0
    flags: Flags | None = None


@dataclass(eq=False)
class MemoryService:
    """One service of one release root; ``Systemd`` and ``Plain`` say who starts and stops it."""

    computer: Computer
    settings: Settings
    quirks: set[Quirk] = field(default_factory=set)
    ready_after_s: float = 0.0
    """How long it takes until it listens and answers."""
    dies_after_s: float | None = None
    """How long each process of it lives."""
    main: Task | None = None
    answering: Task | None = None
    minds: dict[Task, Mind] = field(default_factory=dict)
    due: list[int] = field(default_factory=list)
    """Tokens of timers that rang: for each, ``expire`` is to be asked of this host."""
    timer: Alarm | None = None
    flags_of: Callable[[Program, str], Flags | None] = lambda _program, _release: None
    """What a process that starts has of flags."""

    @property
    def root(self) -> str:
        """The release root."""
        return self.settings.root

    @property
    def group(self) -> str:
        """The control group of its processes; empty where the supervisor has none."""
        return ""

    @property
    def current(self) -> str:
        """The link to the active release."""
        return f"{self.root}/current"

    @property
    def account(self) -> int:
        """The number of the account that it runs as."""
        return self.computer.accounts.get(self.settings.account or "root", 0)

    def has_mark(self, name: str) -> bool:
        """Whether there is such a file in STATE."""
        return self.computer.find(f"{self.root}/state/{name}", follow=False) is not None

    def of_this_root(self) -> list[Task]:
        """Every process that runs a release of this root and shows its file."""
        prefix = f"{self.root}/releases/"
        path_of = self.computer.disk.path_of
        return [
            task
            for task in self.computer.tasks.values()
            if not task.of_agent and any(path_of(h.node).startswith(prefix) for h in task.held)
        ]

    def argv(self) -> tuple[str, ...]:
        """What it is started with."""
        argv: tuple[str, ...] = self.settings.start.filled(current=self.current)
        return argv

    def launch(self, parent: int = 1) -> Task | None:
        """Starts its process; None where that ended at once."""
        argv = self.argv()
        path = next((word for word in argv if word.startswith("/")), "")
        content = self.computer.read(path)
        program = Program.load(content) if content is not None else None
        how = program.how if program else "fd"
        task = self.computer.spawn(
            argv,
            parent=parent,
            account=self.account,
            group=self.group or "/",
            opens=path,
            how="exe" if how == "exe" else "fd",
        )
        if how == "read":
            self.let_go(task, next(h for h in task.held if h.how == "fd"))
        if program is None or content is None or Quirk.WONT_START in self.quirks:
            self.computer.end(task)
            return None
        halted = self.computer.find(self.latch_path) is not None
        release = sha256(content)
        flags = self.flags_of(program, release)
        mind = self.minds[task] = Mind(program, release, halted, flags=flags)
        if self.settings.halt_signal is not None:
            number = int(signal.Signals[f"SIG{self.settings.halt_signal}"])
            task.handles[number] = lambda: self.halt(mind)
        if self.ready_after_s:
            self.computer.time.after(self.ready_after_s, lambda: self._ready(task))
        else:
            self._ready(task)
        if self.dies_after_s is not None:
            self.computer.time.after(self.dies_after_s, lambda: self.computer.end(task))
        return task

    def let_go(self, task: Task, held: OpenFile) -> None:
        """Has a process close a file."""
        task.held.remove(held)
        self.computer.disk.close(held.node)

    def _ready(self, task: Task) -> None:
        if not self.computer.alive(task):
            return
        for port in self.settings.ports:
            if not self.computer.listen(task, port):
                # A program that goes on without its port is worse than one that ends.
                self.computer.end(task)
                return
        if Quirk.STATUS_STALE not in self.quirks or self.answering is None:
            self.answering = task

    def speaker(self) -> Mind | None:
        """The memory of the process behind the control socket; None where none answers."""
        task = self.answering
        if task is None or Quirk.SILENT in self.quirks:
            return None
        if not self.computer.alive(task) and Quirk.STATUS_STALE not in self.quirks:
            return None
        return self.minds.get(task)

    # --- its halt, by a command or a signal -----------------------------------------------------

    @property
    def latch_path(self) -> str:
        """Where the artifact keeps its own latch."""
        return f"{self.root}/state/service/halted"

    def own_latch(self) -> str:
        """What the artifact calls its own latch; empty without one."""
        return (self.computer.read(self.latch_path) or b"").decode().strip()

    def halt(self, mind: Mind | None) -> bool:
        """Halts a process, and latches that on the disk; whether it could be written there."""
        if mind is not None:
            mind.halted = True
        computer = self.computer
        if computer.find(self.latch_path) is not None:
            return True  # a second halt keeps the first latch
        text = f"latch-{computer.number}-{int(computer.clock)}\n"
        try:
            computer.disk.sync(computer.put(self.latch_path, text.encode()))
            computer.disk.sync(computer.make_folders(f"{self.root}/state/service"))
        except OSError:
            return False
        return True

    def _survives(self) -> bool:
        """Whether the old processes stay; then they are out of sight, and stubborn."""
        if Quirk.OLD_SURVIVES not in self.quirks:
            return False
        self.quirks.discard(Quirk.OLD_SURVIVES)
        for task in self.of_this_root():
            task.group, task.stubborn = "/", True
        return True

    # --- what a supervisor does -----------------------------------------------------------------

    def start(self) -> str:
        """Starts it; gives what the supervisor complains of."""
        raise NotImplementedError

    def stop(self) -> str:
        """Ends it; gives why it could not."""
        raise NotImplementedError

    def boot(self) -> None:
        """What happens when the computer comes up."""
        self.main = self.answering = self.timer = None
        self.minds.clear()
        self.due.clear()

    def crash(self) -> None:
        """Its main process ends by itself."""
        if self.main is not None:
            self.computer.end(self.main)

    def set_timer(self, seconds: int, token: int) -> None:
        """Has ``expire`` asked of this host in so many seconds; a reboot takes that back.

        Without a supervisor an earlier one goes off all the same.
        """
        boot = self.computer.boots

        def ring() -> None:
            if self.computer.on and self.computer.boots == boot:
                self.due.append(token)

        self.timer = self.computer.time.after(seconds, ring)

    def clear_timer(self) -> None:
        """Takes that back, where there is a supervisor that can."""


@dataclass(eq=False)
class MemorySystemd(MemoryService):
    """systemd's unit. What its files say is read when it is asked, as after a ``daemon-reload``."""

    active: str = "inactive"
    sub: str = "dead"
    restarts: int = 0
    needs_reload: bool = False
    starts: list[float] = field(default_factory=list)
    stopping: bool = False
    shown: tuple[object, UnitState] | None = None
    """What was last told of it, as long as that holds."""
    _found: tuple[int, tuple[str, ...]] | None = None

    @property
    def group(self) -> str:
        """The control group of its processes."""
        return f"/system.slice/{self.settings.unit}"

    def install(self) -> None:
        """Puts the unit where ``host prepare`` puts it, and enables it."""
        name = self.settings.unit
        start = " ".join(self.argv())
        self.computer.put(f"{UNITS}/{name}", f"[Service]\nExecStart={start}\n".encode())
        self.computer.link(f"{WANTS}/{name}", f"{UNITS}/{name}")

    def files(self) -> tuple[str, ...]:
        """Every file that makes the unit, with its drop-ins."""
        if self._found is not None and self._found[0] == self.computer.disk.changes:
            return self._found[1]
        found: list[str] = []
        name = self.settings.unit
        for folder in _FOLDERS:
            within = self.computer.find(folder)
            if within is None:
                continue
            if name in within.entries:
                found.append(f"{folder}/{name}")
            for drops in (f"{name}.d", "service.d"):
                node = self.computer.find(f"{folder}/{drops}") if drops in within.entries else None
                entries = sorted(node.entries) if node is not None else []
                found += [f"{folder}/{drops}/{e}" for e in entries if e.endswith(".conf")]
        self._found = self.computer.disk.changes, tuple(found)
        return tuple(found)

    def argv(self) -> tuple[str, ...]:
        """What it is started with: the last drop-in that says so, or the unit."""
        for path in reversed([path for path in self.files() if path.endswith(".conf")]):
            for line in reversed((self.computer.read(path) or b"").decode().splitlines()):
                if line.startswith("ExecStart=/"):
                    return tuple(line.removeprefix("ExecStart=").split(" "))
        return super().argv()

    def _masked_in(self, folder: str) -> bool:
        node = self.computer.find(f"{folder}/{self.settings.unit}", follow=False)
        return node is not None and node.kind == "link" and node.content == b"/dev/null"

    @property
    def masked(self) -> str:
        """``masked``, ``masked-runtime``, or nothing."""
        if self._masked_in(CONTROL):
            return "masked"
        return "masked-runtime" if self._masked_in("/run/systemd/system") else ""

    @property
    def enabled(self) -> bool:
        """Whether a boot starts it."""
        return self.computer.find(f"{WANTS}/{self.settings.unit}", follow=False) is not None

    def mask(self) -> Literal["yes", "runtime", "no"]:
        """Links the unit to /dev/null; the link is not synced (systemctl(1), mask)."""
        folders: tuple[tuple[str, Literal["yes", "runtime"]], ...] = (
            (CONTROL, "yes"),
            ("/run/systemd/system", "runtime"),
        )
        for folder, how in folders:
            try:
                found = self.computer.find(f"{folder}/{self.settings.unit}", follow=False)
                if found is not None and found.kind == "file":
                    continue  # "File exists"
                self.computer.link(f"{folder}/{self.settings.unit}", "/dev/null")
            except OSError:
                continue
            return how
        return "no"

    def unmask(self) -> None:
        """Takes the links away."""
        for folder in (CONTROL, "/run/systemd/system"):
            if self._masked_in(folder):
                self.computer.remove(f"{folder}/{self.settings.unit}")

    def _may_start(self) -> bool:
        """The unit's ExecConditions: not fenced, and no confirmation awaited since another boot."""
        if self.has_mark("fenced"):
            return False
        lines = (self.computer.read(f"{self.root}/state/deadman") or b"").decode().splitlines()
        words = lines[0].split(" ") if lines else []
        return not words or words[-1] == self.computer.boot_id

    def start(self) -> str:
        """Starts it, where it is not masked and its conditions hold."""
        if self.masked:
            return f"Failed to start {self.settings.unit}: Unit {self.settings.unit} is masked."
        if not self._may_start():
            self.active, self.sub = "inactive", "dead"
            return ""
        now = self.computer.time.now
        self.starts = [at for at in self.starts if at > now - LIMIT_S]
        if len(self.starts) >= LIMIT:
            self.active, self.sub = "failed", "failed"
            return f"Job for {self.settings.unit} failed: it was started too often."
        self.starts.append(now)
        self.main = self.launch()
        if self.main is None or not self.computer.alive(self.main):
            self._ended()
            return ""
        task = self.main
        task.ended.append(lambda: self._main_ended(task))
        self.active, self.sub = "active", "running"
        return ""

    def _main_ended(self, task: Task) -> None:
        if self.main is task and not self.stopping:
            self._ended()

    def _ended(self) -> None:
        """Restart=on-failure, after RestartSec=1."""
        self.main = None
        self.active, self.sub = "activating", "auto-restart"

        def again() -> None:
            if self.sub == "auto-restart" and self.computer.boots == boot:
                self.restarts += 1
                if self.start():
                    self.active, self.sub = "failed", "failed"

        boot = self.computer.boots
        self.computer.time.after(1.0, again)

    def stop(self) -> str:
        """Ends every process of its control group."""
        self.stopping = True
        self._survives()
        for task in self.computer.members(self.group):
            self.computer.signal(task, signal.SIGTERM)
        if self.computer.members(self.group):
            self.computer.time.tick(self.settings.stop_s)
        self.stopping, self.main = False, None
        self.active, self.sub = "inactive", "dead"
        return ""

    def reset(self) -> None:
        """``systemctl reset-failed``."""
        self.starts.clear()
        self.restarts = 0

    def boot(self) -> None:
        """Starts it, where it is enabled."""
        super().boot()
        self.active, self.sub = "inactive", "dead"
        self.reset()
        run = self.computer.find("/run/systemd")
        if run is not None:
            run.entries.clear()
            run.disk_entries.clear()
        if self.enabled:
            self.start()

    def set_timer(self, seconds: int, token: int) -> None:
        """A transient timer; it takes the place of an earlier one (systemd-run(1))."""
        self.clear_timer()
        super().set_timer(seconds, token)

    def clear_timer(self) -> None:
        """Stops it."""
        if self.timer is not None:
            self.timer.cleared = True
        self.timer = None

    def properties(self) -> tuple[tuple[str, str], ...]:
        """What ``systemctl show`` prints."""
        files, masked = self.files(), self.masked
        units = [path for path in files if path.endswith(".service")]
        loaded = "loaded" if units else "not-found"
        state = masked or ("enabled" if self.enabled else "disabled")
        return (
            ("MainPID", str(self.main.pid if self.main else 0)),
            ("ControlGroup", self.group if self.computer.members(self.group) else ""),
            ("NRestarts", str(self.restarts)),
            ("LoadState", "masked" if masked else loaded),
            ("ActiveState", self.active),
            ("SubState", self.sub),
            ("FragmentPath", units[0] if units else ""),
            ("DropInPaths", " ".join(path for path in files if path.endswith(".conf"))),
            ("UnitFileState", state if units else ""),
            ("NeedDaemonReload", "yes" if self.needs_reload else "no"),
        )


@dataclass(eq=False)
class Plain(MemoryService):
    """No supervisor but the agent: STATE/pid has the number and start time of the process."""

    def start(self) -> str:
        """Starts it, where it is not fenced."""
        self.computer.remove(f"{self.root}/state/pid")
        if self.has_mark("fenced"):
            return ""
        self.main = self.launch()
        if self.main is None:
            return ""
        line = f"{self.main.pid} {self.main.start}\n"
        try:
            self.computer.put(f"{self.root}/state/pid", line.encode())
        except OSError as error:
            self.computer.end(self.main)
            return f"{self.root}/state/pid can't be written: {errno.errorcode[error.errno or 0]}"
        return ""

    def found(self) -> Task | None:
        """The main process, as the file has it."""
        words = (self.computer.read(f"{self.root}/state/pid") or b"").split()
        if len(words) != 2 or not all(word.isdigit() for word in words):
            return None
        task = self.computer.tasks.get(int(words[0]))
        return task if task is not None and task.start == int(words[1]) else None

    def stop(self) -> str:
        """Ends every process that runs a release of this root."""
        self._survives()
        for task in self.of_this_root():
            self.computer.signal(task, signal.SIGTERM)
        self.main = None
        if not self.of_this_root():
            return ""
        self.computer.time.tick(2 * self.settings.stop_s)
        return "a process does not end, even when killed"
