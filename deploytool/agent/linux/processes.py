"""Every process of this host: looked at all at once, read one by one, signalled, and killed."""

from __future__ import annotations

import errno
import os

from deploytool.agent.linux.hashing import digest_descriptor
from deploytool.agent.linux.killing import (
    group_members,
    kill_group,
    signal_process,
    system_slice,
)
from deploytool.agent.linux.opening import fail, open_regular
from deploytool.agent.linux.proc import (
    open_process,
    process_of,
    read_once,
    read_stat,
    running_thread,
    shown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploytool.agent.model import Process
    from deploytool.agent.port import HeldFile, Interest, View

ENVIRONMENT_AT_MOST = 65536


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
        _, folder = _open_same(process)
        try:
            found = read_once("environ", folder, ENVIRONMENT_AT_MOST)
        finally:
            os.close(folder)
        return tuple(shown(part) for part in found.rstrip(b"\0").split(b"\0")) if found else ()

    def mapped(self, process: Process) -> tuple[HeldFile, ...]:
        """Every file that it maps executable, its program included."""
        from deploytool.agent.linux.survey import mapped_files

        number, folder = _open_same(process)
        try:
            return tuple(mapped_files(number, folder))
        finally:
            os.close(folder)

    def system_slice(self) -> str:
        """The control group of systemd's services: beside init's own, maybe below a container's."""
        return system_slice()

    def group(self, name: str) -> tuple[int, ...]:
        """The processes of a control group and of those below; none where there is none."""
        return group_members(name)

    def kill_group(self, name: str) -> None:
        """Sends SIGKILL to all of a control group, also those that are born meanwhile."""
        kill_group(name)

    def signal(self, pid: int, start: int, number: int) -> bool:
        """Sends a signal to that very process; False where it has ended.

        Raises:
            OSError: it may not be signalled, or its number would mean more than one process.
        """
        return signal_process(pid, start, number)

    def listening(self, ports: Sequence[int]) -> frozenset[int]:
        """Those of the ports on which a process listens, in this network namespace."""
        from deploytool.agent.linux.sockets import Wanted

        wanted = Wanted(ports, ())
        return frozenset(socket.port for _, socket in wanted.here()) if wanted.some else frozenset()


def _open_same(process: Process) -> tuple[int, int]:
    """The number and the folder by which this very process can be read: its own, or a thread's.

    Raises:
        OSError: it has ended.
    """
    folder = open_process(process.pid)
    try:
        stat = read_stat(folder)
        thread = running_thread(folder) if stat.leaderless else process.pid
        if stat.start != process.start or thread is None:
            raise fail(errno.ESRCH, str(process.pid))
        if thread == process.pid:
            return thread, os.dup(folder)
        return thread, open_process(thread)
    finally:
        os.close(folder)
