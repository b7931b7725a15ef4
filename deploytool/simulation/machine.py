"""A computer in memory: disk and page cache, links, processes, ports, boots."""

from __future__ import annotations

import functools
import hashlib
import itertools
import time
from dataclasses import dataclass, field

_PAGE = 4096


@functools.lru_cache(maxsize=1024)
def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal, worked out once for the same bytes: a matrix asks it endlessly."""
    return hashlib.sha256(content).hexdigest()


class DiskError(Exception):
    """The disk did not do it; the text is the kernel's."""


@dataclass(eq=False)
class File:
    """One inode. Programs read the page cache; what a reboot leaves is ``on_disk``."""

    inode: int
    on_disk: bytes | None
    cached: bytes | None
    mode: int
    owner: str
    deleted: bool = False

    @property
    def content(self) -> bytes:
        """What a program that reads it now gets."""
        return self.cached if self.cached is not None else (self.on_disk or b"")

    def write(self, content: bytes) -> None:
        """Puts bytes where programs see them; not yet where a reboot leaves them."""
        self.cached = content

    def sync(self) -> None:
        """Puts what programs see on the disk."""
        self.on_disk = self.content

    def rot(self, content: bytes) -> None:
        """The disk gives other bytes from now on; the page cache still has the good ones."""
        self.cached = self.content
        self.on_disk = content


@dataclass(eq=False)
class Disk:
    """Files by path, and symbolic links. ``room`` is what is free, in bytes."""

    room: int = 1 << 30
    read_only: bool = False
    direct: bool = True
    """Whether it lets a reader past the page cache."""
    files: dict[str, File] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    inodes: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))

    def put(self, path: str, content: bytes, mode: int = 0o644, owner: str = "0:0") -> File:
        """Writes a file atomically: a new inode takes the name, synced.

        Raises:
            DiskError: no room, or read-only.
        """
        self.writable()
        need = -(-len(content) // _PAGE) * _PAGE
        if need > self.room:
            raise DiskError("No space left on device")
        self.room -= need
        if path in self.files:
            self.remove(path)
        made = File(next(self.inodes), content, content, mode, owner)
        self.files[path] = made
        return made

    def writable(self) -> None:
        """Makes sure that something can be changed.

        Raises:
            DiskError: it is read-only.
        """
        if self.read_only:
            raise DiskError("Read-only file system")

    def remove(self, path: str) -> None:
        """Takes a name away; a process that has the file open keeps its inode.

        Raises:
            DiskError: it is read-only.
        """
        self.writable()
        gone = self.files.pop(path, None)
        if gone is not None:
            gone.deleted = True
            self.room += -(-len(gone.content) // _PAGE) * _PAGE

    def below(self, folder: str) -> list[str]:
        """The files in a folder."""
        return [path for path in self.files if path.startswith(folder + "/")]

    def remove_folder(self, folder: str) -> None:
        """Takes a folder away with all that is in it."""
        self.writable()
        for path in self.below(folder):
            self.remove(path)

    def rename_folder(self, old: str, new: str) -> None:
        """Gives a folder another name in one step."""
        self.writable()
        for path in self.below(old):
            self.files[new + path.removeprefix(old)] = self.files.pop(path)

    def link(self, path: str, target: str) -> None:
        """Switches a symbolic link by one atomic rename."""
        self.writable()
        self.links[path] = target

    def lose_power(self) -> None:
        """Only what was synced is left."""
        for file in self.files.values():
            file.cached = None


@dataclass(eq=False)
class SimulatedProcess:
    """One process. ``loaded`` are the bytes it runs, read once when it started."""

    pid: int
    parent: int
    start: int
    command: str
    file: File | None
    path: str
    loaded: bytes
    in_group: bool = True
    """Whether the supervisor counts it as the service's."""
    stubborn: bool = False
    """Whether it goes on whatever signal it gets."""
    ports: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Machine:
    """One computer. Nothing in here knows of deploytool."""

    machine_id: str
    disk: Disk = field(default_factory=Disk)
    skew_s: float = 0.0
    passed_s: float = 0.0
    """How much longer it has been up than this machine's own clock says."""
    boots: int = 0
    processes: dict[int, SimulatedProcess] = field(default_factory=dict)
    programs: frozenset[str] = frozenset({"sh", "python3"})
    _pids: itertools.count[int] = field(default_factory=lambda: itertools.count(400))
    _ticks: itertools.count[int] = field(default_factory=lambda: itertools.count(5000, 7))

    @property
    def boot_id(self) -> str:
        """Differs from boot to boot, and from machine to machine."""
        digest = hashlib.sha256(f"{self.machine_id} {self.boots}".encode()).hexdigest()
        parts = digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]
        return "-".join(parts)

    @property
    def counters(self) -> str:
        """The next process, start time and inode: all that it will ever number."""
        return f"{self._pids} {self._ticks} {self.disk.inodes}"

    @property
    def clock(self) -> float:
        """Seconds since the epoch, as this machine believes."""
        return time.time() + self.skew_s

    @property
    def uptime_s(self) -> float:
        """Seconds on a clock that nobody sets."""
        return time.monotonic() + self.passed_s

    def spawn(self, command: str, path: str = "", *, parent: int = 1) -> SimulatedProcess:
        """Starts a process; with a path it loads that file and keeps it open."""
        file = self.disk.files.get(path)
        loaded = file.content if file else b""
        made = SimulatedProcess(
            next(self._pids), parent, next(self._ticks), command, file, path, loaded
        )
        self.processes[made.pid] = made
        return made

    def kill(self, pid: int) -> None:
        """Ends a process at once; its ports are free again."""
        self.processes.pop(pid, None)

    def bind(self, process: SimulatedProcess, port: int) -> bool:
        """Gives a process a port; False when another listens there already."""
        if self.owner(port) not in {None, process.pid}:
            return False
        process.ports.add(port)
        return True

    def owner(self, port: int) -> int | None:
        """Who listens on a port."""
        return next((p.pid for p in self.processes.values() if port in p.ports), None)

    def reboot(self) -> None:
        """Every process is gone, and whatever was not synced."""
        self.processes.clear()
        self.disk.lose_power()
        self.boots += 1
