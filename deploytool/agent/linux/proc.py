"""One process in ``/proc``: an open folder of it can't come to mean a later process of its number.

Every reading has a bound: what a process says of itself may be as long as it likes.
"""

from __future__ import annotations

import errno
import os

from deploytool.agent.linux.opening import fail
from deploytool.agent.model import Process

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC
_KERNEL_THREAD, _EXITING = 0x00200000, 0x00000004
"""PF_KTHREAD and PF_EXITING of the kernel's sched.h, in field 9 of proc_pid_stat(5)."""
STAT_AT_MOST = 4096
ARGUMENTS_AT_MOST = 4096
COMMAND_AT_MOST = 200
GROUP_AT_MOST = 65536
THREADS_AT_MOST = 4096
"""So many threads of a process are looked at for one that runs."""
_RUNNING = "R"
_UID_OF_STATUS = b"\nUid:"
_PROCESS_OF_STATUS = b"\nTgid:"
GONE = frozenset({errno.ENOENT, errno.ESRCH})


class Stat:
    """What decides of proc_pid_stat(5).

    The line is of the first thread. Where that has ended before the others (pthread_exit(3)), the
    kernel says "zombie" of a process that goes on working: it has ended when no thread is left.
    """

    __slots__ = ("exiting", "kernel", "leaderless", "parent", "start", "state")

    def __init__(self, line: bytes) -> None:
        # A command may hold blanks and brackets: the fields are those after the last one.
        fields = line[line.rindex(b")") + 2 :].split(None, 20)
        flags = int(fields[6])
        state = fields[0].decode("ascii")
        ended = state in "ZX"
        self.leaderless = ended and int(fields[17]) > 1
        self.state = _RUNNING if self.leaderless else state
        self.parent = int(fields[1])
        self.start = int(fields[19])
        self.kernel = bool(flags & _KERNEL_THREAD)
        self.exiting = ended or bool(flags & _EXITING)


def open_process(pid: int) -> int:
    """Its folder; the caller closes it.

    Raises:
        OSError: there is none, or it may not be inspected.
    """
    if pid <= 0:
        raise fail(errno.ESRCH, str(pid))
    return os.open(f"/proc/{pid}", _FOLDER)


def read_once(name: str, folder: int, at_most: int) -> bytes:
    """The beginning of a file that the kernel writes in one piece."""
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        return os.read(descriptor, at_most)
    finally:
        os.close(descriptor)


def read_all(name: str, folder: int | None, at_most: int) -> bytes:
    """All of a file that the kernel writes piece by piece; a larger one raises ``OSError``."""
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        parts: list[bytes] = []
        left = at_most
        while left > 0:
            part = os.read(descriptor, min(left, 65536))
            if not part:
                return b"".join(parts)
            parts.append(part)
            left -= len(part)
        raise fail(errno.EFBIG, name)
    finally:
        os.close(descriptor)


def read_stat(folder: int) -> Stat:
    """Its state; raises ``OSError`` where it is gone."""
    line = read_once("stat", folder, STAT_AT_MOST)
    if not line:
        raise fail(errno.ESRCH, "stat")
    return Stat(line)


def running_thread(folder: int) -> int | None:
    """The number of a thread of this process that has not begun to end; None where there is none.

    By that number ``/proc`` shows what the process has open and mapped, also without its first
    thread.

    Raises:
        OSError: it is gone, or has more threads than are looked at.
    """
    threads = os.open("task", _FOLDER, dir_fd=folder)
    try:
        names = os.listdir(threads)
        for name in names[:THREADS_AT_MOST]:
            try:
                stat = Stat(read_once(f"{name}/stat", threads, STAT_AT_MOST))
            except (OSError, ValueError):
                continue  # it has ended meanwhile
            if not stat.exiting:
                return int(name)
    finally:
        os.close(threads)
    if len(names) > THREADS_AT_MOST:
        raise fail(errno.E2BIG, "task")
    return None


def read_accounts(folder: int) -> tuple[int, ...]:
    """The users that it acts as: real, effective, saved, of the file system."""
    status = read_once("status", folder, STAT_AT_MOST)
    at = status.index(_UID_OF_STATUS) + len(_UID_OF_STATUS)
    return tuple(map(int, status[at : status.index(b"\n", at)].split()))


def read_process_of_thread(folder: int) -> int:
    """The number of the process that a thread belongs to (proc_pid_status(5), ``Tgid``)."""
    status = read_once("status", folder, STAT_AT_MOST)
    at = status.index(_PROCESS_OF_STATUS) + len(_PROCESS_OF_STATUS)
    return int(status[at : status.index(b"\n", at)])


def read_group(folder: int) -> str:
    """Its control group as systemd names it: version 2, or version 1's hierarchy of that name."""
    found = b""
    for line in read_once("cgroup", folder, GROUP_AT_MOST).split(b"\n"):
        _, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if controllers == b"name=systemd" and path not in (b"", b"/"):
            return shown(path)
        if not controllers and path:
            found = path
    return shown(found)


def shown(text: bytes, at_most: int = 4096) -> str:
    """What a process says of itself, as it can be shown: shortened, and always valid text."""
    return text[:at_most].decode("utf-8", "backslashreplace")[:at_most]


def command_of(arguments: bytes) -> str:
    """Its arguments in one short line."""
    return shown(arguments.rstrip(b"\0").replace(b"\0", b" "), COMMAND_AT_MOST)


def start_of(pid: int) -> int | None:
    """Its start time in clock ticks since boot; None where there is no such process."""
    try:
        folder = open_process(pid)
    except OSError:
        return None
    try:
        return read_stat(folder).start
    except OSError:
        return None
    finally:
        os.close(folder)


def process_of(pid: int) -> Process | None:
    """One process; None where there is none."""
    try:
        folder = open_process(pid)
    except OSError:
        return None
    try:
        stat = read_stat(folder)
        accounts = read_accounts(folder)
        arguments = read_once("cmdline", folder, ARGUMENTS_AT_MOST)
    except OSError:
        return None
    finally:
        os.close(folder)
    return Process(
        pid=pid,
        parent=stat.parent,
        start=stat.start,
        state=stat.state,
        account=accounts[1],
        command=command_of(arguments),
    )
