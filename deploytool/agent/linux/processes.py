"""Every process of this host: looked at all at once, read one by one, signalled, and killed."""

from __future__ import annotations

import errno
import os
import time

from deploytool.agent.linux.hashing import digest_descriptor
from deploytool.agent.linux.opening import fail, open_regular
from deploytool.agent.linux.proc import (
    open_process,
    process_of,
    read_all,
    read_group,
    read_once,
    shown,
    start_of,
)
from deploytool.agent.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploytool.agent.model import Process
    from deploytool.agent.port import HeldFile, Interest, View

ENVIRONMENT_AT_MOST = 65536
MEMBERS_AT_MOST = 4 * 1024 * 1024
"""Bytes of one list of a control group's processes."""
GROUPS_AT_MOST = 4096
"""Control groups below one are looked at up to this number."""
KILL_S = 5.0
"""How long a control group is killed again and again, where that takes more than one write."""
_KILL = 9
_SLICE = "/system.slice"
_HIERARCHIES = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
"""Where systemd's groups are: version 2, version 1, and both at once."""


class LinuxProcesses:
    """The processes. ``agent``: where the agent's own file is."""

    def __init__(self, agent: str) -> None:
        self._agent = agent

    def survey(self, interest: Interest) -> tuple[View, ...]:
        """One look at all of them but the agent's own process, init and the kernel's."""
        from deploytool.agent.linux.survey import ProcSurvey

        return ProcSurvey(interest, self._agent).views()

    def process(self, pid: int) -> Process | None:
        """One process; None where there is none."""
        return process_of(pid)

    def digest(self, held: HeldFile) -> str | None:
        """SHA-256 of a file by way of the process that holds it; None where it can't be read.

        Also where that process has ended meanwhile, and its number leads to another file.
        """
        try:
            descriptor = open_regular(held.handle)
        except OSError:
            return None
        try:
            found = os.fstat(descriptor)
            same = (found.st_dev, found.st_ino) == (held.device, held.number)
            return digest_descriptor(descriptor) if same else None
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def environment(self, process: Process) -> tuple[str, ...]:
        """The variables that it was started with, at most 64 KiB of them."""
        folder = _open_same(process)
        try:
            found = read_once("environ", folder, ENVIRONMENT_AT_MOST)
        finally:
            os.close(folder)
        return tuple(shown(part) for part in found.rstrip(b"\0").split(b"\0")) if found else ()

    def mapped(self, process: Process) -> tuple[HeldFile, ...]:
        """Every file that it maps executable, its program included."""
        from deploytool.agent.linux.survey import mapped_files

        folder = _open_same(process)
        try:
            return tuple(mapped_files(process.pid, folder))
        finally:
            os.close(folder)

    def system_slice(self) -> str:
        """The control group of systemd's services: beside init's own, maybe below a container's."""
        try:
            folder = open_process(1)
        except OSError:
            return _SLICE
        try:
            above, scope, _ = read_group(folder).rpartition("/init.scope")
        except OSError:
            return _SLICE
        finally:
            os.close(folder)
        return f"{above}{_SLICE}" if scope else _SLICE

    def group(self, name: str) -> tuple[int, ...]:
        """The processes of a control group and of those below; none where there is none."""
        members: set[int] = set()
        for folder in _groups(name):
            members.update(_members(folder))
        return tuple(sorted(members))

    def kill_group(self, name: str) -> int:
        """Sends SIGKILL to all of a control group, also those that are born meanwhile."""
        folders = list(_groups(name))
        if not folders:
            return 0
        killed = len(self.group(name))
        if not _write(f"{folders[0]}/cgroup.kill", b"1"):
            killed = self._kill_each(name, folders[0])
        return killed

    def _kill_each(self, name: str, folder: str) -> int:
        """Without ``cgroup.kill``: frozen where that is possible, until a look finds no new one."""
        frozen = _write(f"{folder}/cgroup.freeze", b"1")
        killed: set[tuple[int, int | None]] = set()
        until = time.monotonic() + KILL_S
        try:
            while time.monotonic() < until:
                found = {(pid, start_of(pid)) for pid in self.group(name)}
                for pid, start in found - killed:
                    if start is not None:
                        self.signal(pid, start, _KILL)
                if found <= killed:
                    break
                killed |= found
        finally:
            if frozen:
                _write(f"{folder}/cgroup.freeze", b"0")
        return len(killed)

    def signal(self, pid: int, start: int, number: int) -> bool:
        """Sends a signal to that very process; False where it has ended.

        Raises:
            OSError: it may not be signalled, or its number would mean more than one process.
        """
        if pid <= 1:
            raise fail(errno.EINVAL, str(pid))
        try:
            held = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        except OSError:
            return _signal_by_number(pid, start, number)
        try:
            # The descriptor is of the process that has this start time now, and of no later one.
            if start_of(pid) != start:
                return False
            signal.pidfd_send_signal(held, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(held)
        return True

    def listening(self, ports: Sequence[int]) -> frozenset[int]:
        """Those of the ports on which a process listens, in this network namespace."""
        from deploytool.agent.linux.sockets import Wanted, tables

        wanted = Wanted(ports, ())
        found: set[int] = set()
        for table in tables(None, "/proc/self/net") if wanted.some else ():
            found.update(socket.port for _, socket in wanted.match(table))
            if found.issuperset(ports):
                break  # each table costs the kernel 4 ms, however few sockets there are
        return frozenset(found)


def _signal_by_number(pid: int, start: int, number: int) -> bool:
    """On kernels without pidfd_open(2): a number can be given anew between two looks."""
    if start_of(pid) != start:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _open_same(process: Process) -> int:
    """The folder of this very process; raises ``OSError`` where it has ended."""
    folder = open_process(process.pid)
    if start_of(process.pid) != process.start:
        os.close(folder)
        raise fail(errno.ESRCH, str(process.pid))
    return folder


def _groups(name: str) -> Iterator[str]:
    """The folder of a control group, and those below it; none where there is no such group."""
    if not name.startswith("/") or name == "/" or ".." in name.split("/"):
        return
    for hierarchy in _HIERARCHIES:
        if os.path.exists(f"{hierarchy}{name}/cgroup.procs"):
            break
    else:
        return
    left = [f"{hierarchy}{name}"]
    for _ in range(GROUPS_AT_MOST):
        if not left:
            return
        folder = left.pop()
        yield folder
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        left += [
            f"{folder}/{entry}"
            for entry in names
            if os.path.isdir(f"{folder}/{entry}") and not os.path.islink(f"{folder}/{entry}")
        ]


def _members(folder: str) -> list[int]:
    try:
        return [
            int(line) for line in read_all(f"{folder}/cgroup.procs", None, MEMBERS_AT_MOST).split()
        ]
    except OSError:
        return []  # it went away meanwhile


def _write(path: str, text: bytes) -> bool:
    """Writes to a file of the kernel's; whether it took it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, text)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
