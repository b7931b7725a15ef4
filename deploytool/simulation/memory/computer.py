"""A computer in memory: a disk, processes, boots and clocks. It knows nothing of deploytool."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from deploytool.simulation.memory.disk import Disk, Fate, Node
from deploytool.simulation.memory.time import Time

EPOCH = 1_800_000_000.0
"""What the clock of a computer shows when the simulation begins."""
BOOT_S = 30.0
UP_S = 5.0
"""How long it has been up when its supervisor starts services."""
STEP_S = 0.0001
"""What one step of a program takes."""
TICKS = 100
"""Clock ticks a second, in which start times count (sysconf(3))."""
FIRST_PID = 300
"""Where numbers begin again after they wrapped (RESERVED_PIDS of the kernel)."""
INTERPRETER = "/usr/bin/python3"
How = Literal["exe", "map", "fd"]


@dataclass(eq=False, slots=True)
class OpenFile:
    """An inode that a process executes, maps or holds open."""

    how: How
    node: Node
    path: str


@dataclass(eq=False, slots=True)
class Task:
    """One process. ``loaded`` are the bytes that it runs, read once when it started."""

    pid: int
    parent: int
    start: int
    account: int
    argv: tuple[str, ...]
    group: str
    held: list[OpenFile] = field(default_factory=list)
    loaded: bytes = b""
    ports: set[int] = field(default_factory=set)
    peers: set[str] = field(default_factory=set)
    stubborn: bool = False
    """Whether it goes on whatever signal it gets, SIGKILL too: it waits for a device."""
    hidden: str = ""
    """Why something of it can't be seen."""
    of_agent: bool = False
    """Whether an agent is it, or runs it."""
    handles: dict[int, Callable[[], object]] = field(default_factory=dict)
    """What it does on which signal, instead of ending."""
    ended: list[Callable[[], None]] = field(default_factory=list)
    """What happens once it ends."""
    state: str = "S"


def machine_id(number: int) -> str:
    """The machine-id(5) of the computer of this number."""
    return hashlib.sha256(f"machine {number}".encode()).hexdigest()[:32]


class Computer:
    """One machine that programs run on. ``number`` tells it from others.

    ``pid_max`` is where process numbers wrap (proc_sys_kernel(5)).
    """

    def __init__(
        self, time: Time | None = None, *, number: int = 1, pid_max: int = 1 << 22
    ) -> None:
        self.time = time or Time()
        self.number = number
        self.skew_s = 0.0
        """How far its clock is ahead of the truth."""
        self.disk = Disk(self._nanoseconds)
        self.boots = 1
        self.on = True
        self.tasks: dict[int, Task] = {}
        self.programs = {"python3", "sh", "systemctl", "ssh-keygen"}
        self.manager: tuple[str, ...] = ("LANG=C", "PATH=/usr/bin:/bin")
        """The variables of its service manager."""
        self.packet_rules: tuple[tuple[str, str | None], ...] = (("iptables", "*nat\nCOMMIT\n"),)
        """What each tool that lists them prints; None: it fails."""
        self.accounts = {"root": 0, "deploy": 1000, "router": 999}
        self._pid_max, self._last_pid = pid_max, 400
        self._booted = self.time.now - UP_S
        self._set_up()

    def _set_up(self) -> None:
        for path in ("/etc", "/dev", "/run", "/usr/bin", "/opt"):
            self.make_folders(path)
        self.disk.make(self.disk.walk("/dev"), "null", "other", 0o666)
        self.put("/etc/machine-id", f"{self.machine_id}\n".encode())
        self.put(INTERPRETER, b"\x7fELF python3\n", 0o755)
        self.sync()

    # --- itself ---------------------------------------------------------------------------------

    @property
    def machine_id(self) -> str:
        """machine-id(5)."""
        return machine_id(self.number)

    @property
    def boot_id(self) -> str:
        """Differs from boot to boot, and from machine to machine."""
        digest = hashlib.sha256(f"{self.machine_id} {self.boots}".encode()).hexdigest()
        parts = digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]
        return "-".join(parts)

    @property
    def clock(self) -> float:
        """Seconds since the epoch, as it believes."""
        return EPOCH + self.time.now + self.skew_s

    @property
    def uptime(self) -> float:
        """Seconds since it was booted; no program can set this clock."""
        return self.time.now - self._booted

    def _nanoseconds(self) -> int:
        return int(self.clock * 1e9)

    # --- files, as whoever set it up or breaks it puts them there -------------------------------

    def make_folders(self, path: str, mode: int = 0o755) -> Node:
        """A folder with all folders above it."""
        at = self.disk.root
        for word in path.strip("/").split("/"):
            at = at.entries.get(word) or self.disk.make(at, word, "folder", mode)
        return at

    def put(self, path: str, content: bytes, mode: int = 0o644) -> Node:
        """A file that takes the place of whatever had that name; not synced."""
        above, name = self._above(path)
        if name in above.entries:
            self.disk.remove(above, name)
        node = self.disk.make(above, name, "file", mode)
        self.disk.write(node, content, name)
        return node

    def link(self, path: str, target: str) -> None:
        """A symbolic link that takes the place of whatever had that name; not synced."""
        above, name = self._above(path)
        if name in above.entries:
            self.disk.remove(above, name)
        self.disk.make(above, name, "link", 0o777, content=target.encode())

    def remove(self, path: str) -> None:
        """Takes a file or a link away, where it is there; not synced."""
        above, name = self._above(path)
        if name in above.entries:
            self.disk.remove(above, name)

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        """What a path stands for."""
        try:
            return self.disk.walk(path, follow=follow)
        except OSError:
            return None

    def read(self, path: str) -> bytes | None:
        """A file's bytes, as programs see them."""
        node = self.find(path)
        return node.content if node is not None and node.kind == "file" else None

    def _above(self, path: str) -> tuple[Node, str]:
        folder, _, name = path.rpartition("/")
        return self.make_folders(folder) if folder else self.disk.root, name

    def sync(self) -> None:
        """All that was written is on the disk (sync(2))."""
        for node in self.disk.tree().values():
            self.disk.sync(node)

    # --- processes ------------------------------------------------------------------------------

    def spawn(
        self,
        argv: tuple[str, ...],
        *,
        parent: int = 1,
        account: int = 0,
        group: str = "/",
        opens: str = "",
        how: How = "fd",
    ) -> Task:
        """Starts a process. It loads the file ``opens``, and keeps it open or executes it."""
        start = int(self.uptime * TICKS)
        task = Task(self._next_pid(), parent, start, account, argv, group)
        self.tasks[task.pid] = task
        program = self.find(INTERPRETER if how != "exe" else opens)
        if program is not None:
            self.hold(task, program, "exe")
        file = self.find(opens) if opens else None
        if file is not None:
            task.loaded = file.content
            if how != "exe":
                self.hold(task, file, how)
        return task

    def hold(self, task: Task, node: Node, how: How = "fd") -> OpenFile:
        """Has a process keep an inode open."""
        node.opened += 1
        held = OpenFile(how, node, self.disk.path_of(node))
        task.held.append(held)
        return held

    def end(self, task: Task) -> None:
        """A process ends at once: what it held is closed, its ports are free."""
        if self.tasks.get(task.pid) is not task:
            return
        del self.tasks[task.pid]
        for held in task.held:
            self.disk.close(held.node)
        for child in self.tasks.values():
            if child.parent == task.pid:
                child.parent = 1
        for what in task.ended:
            what()

    def alive(self, task: Task | None) -> bool:
        """Whether this very process has not ended."""
        return task is not None and self.tasks.get(task.pid) is task

    def signal(self, task: Task, number: int) -> None:
        """What a signal does to a process."""
        if number in task.handles:
            task.handles[number]()
        elif number != 0 and not task.stubborn:
            self.end(task)

    def listener(self, port: int) -> Task | None:
        """Who listens on a port."""
        return next((task for task in self.tasks.values() if port in task.ports), None)

    def listen(self, task: Task, port: int) -> bool:
        """Gives a process a port; False where another listens there already (EADDRINUSE)."""
        owner = self.listener(port)
        if owner is None:
            task.ports.add(port)
        return owner in {None, task}

    def members(self, group: str) -> list[Task]:
        """The processes of a control group and of those below it; the root of all is none."""
        if not group.strip("/"):
            return []
        below = group.rstrip("/") + "/"
        return [t for t in self.tasks.values() if t.group == group or t.group.startswith(below)]

    def parents(self, task: Task) -> Iterator[Task]:
        """Who started it, and who started that one."""
        at: Task | None = task
        while at is not None:
            yield at
            at = self.tasks.get(at.parent)

    def _next_pid(self) -> int:
        while True:
            self._last_pid += 1
            if self._last_pid >= self._pid_max:
                self._last_pid = FIRST_PID
            if self._last_pid not in self.tasks:
                return self._last_pid

    # --- power ----------------------------------------------------------------------------------

    def lose_power(self, fate: Fate | None = None) -> None:
        """Every process is gone, and of the disk what ``fate`` does not spare."""
        self.on = False
        for task in self.tasks.values():
            task.ended.clear()
        self.tasks.clear()
        self.disk.lose_power(fate or Fate())

    def boot(self) -> None:
        """Power comes back."""
        self.time.pass_to(self.time.now + BOOT_S)
        self.on, self.boots = True, self.boots + 1
        self._booted, self._last_pid = self.time.now - UP_S, 400
