"""Signals one very process, and kills control groups whole."""

from __future__ import annotations

import errno
import os
import time

from deploytool.agent.linux.opening import fail
from deploytool.agent.linux.proc import open_process, read_all, read_group, start_of
from deploytool.agent.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERS_AT_MOST = 4 * 1024 * 1024
"""Bytes of one list of a control group's processes."""
GROUPS_AT_MOST = 4096
"""Control groups below one are looked at up to this number."""
KILL_S = 5.0
"""How long a control group is killed again and again, where that takes more than one write."""
_EMPTY_S, _PAUSE_S = 5.0, 0.002
_KILL = 9
_SLICE = "/system.slice"
_HIERARCHIES = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
"""Where systemd's groups are: version 2, version 1, and both at once."""


def signal_process(pid: int, start: int, number: int) -> bool:
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


def _signal_by_number(pid: int, start: int, number: int) -> bool:
    """On kernels without pidfd_open(2): a number can change hands between looks."""
    if start_of(pid) != start:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def system_slice() -> str:
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


def group_members(name: str) -> tuple[int, ...]:
    """The processes of a control group and of those below; none where there is none."""
    members: set[int] = set()
    for folder in _groups(name):
        members.update(_members(folder))
    return tuple(sorted(members))


def kill_group(name: str) -> None:
    """Sends SIGKILL to all of a control group, also those that are born meanwhile.

    Where the kernel does that by itself, it is told before anything is listed.
    """
    folder = _folder(name)
    if folder is not None and not _write(f"{folder}/cgroup.kill", b"1"):
        _kill_each(name, folder)


def _kill_each(name: str, folder: str) -> None:
    """Without ``cgroup.kill``: frozen where that is possible, until a look finds no new one."""
    frozen = _write(f"{folder}/cgroup.freeze", b"1")
    killed: set[tuple[int, int | None]] = set()
    until = time.monotonic() + KILL_S
    try:
        while time.monotonic() < until:
            found = {(pid, start_of(pid)) for pid in group_members(name)}
            for pid, start in found - killed:
                if start is not None:
                    signal_process(pid, start, _KILL)
            if found <= killed:
                break
            killed |= found
    finally:
        if frozen:
            _write(f"{folder}/cgroup.freeze", b"0")


class OwnGroup:
    """A control group for one program; what is in it at the end of a block is killed.

    A block gets its folder: a process that writes to the ``cgroup.procs`` there is in it.

    Raises:
        OSError: there can be none here, or something in it does not end.
    """

    def __init__(self, name: str) -> None:
        self._group = f"{system_slice()}/{name}-{os.getpid()}.scope"
        self._folder = ""

    def __enter__(self) -> str:
        found: OSError = fail(errno.ENOENT, self._group)
        # Version 2 first: there one write kills a whole group.
        for hierarchy in reversed(_HIERARCHIES):
            self._folder = f"{hierarchy}{self._group}"
            try:
                if os.path.exists(f"{hierarchy}/cgroup.procs"):
                    os.mkdir(self._folder)
                    return self._folder
            except OSError as error:
                found = error
        raise found

    def __exit__(self, *_: object) -> None:
        kill_group(self._group)
        until = time.monotonic() + _EMPTY_S
        while True:
            try:
                return os.rmdir(self._folder)
            except OSError as error:
                # What was killed is there until its parent has heard of it.
                if error.errno != errno.EBUSY or time.monotonic() > until:
                    raise
            time.sleep(_PAUSE_S)


def _folder(name: str) -> str | None:
    """The folder of a control group; None where there is no such group."""
    if not name.startswith("/") or name == "/" or ".." in name.split("/"):
        return None
    found = (f"{hierarchy}{name}" for hierarchy in _HIERARCHIES)
    return next((folder for folder in found if os.path.exists(f"{folder}/cgroup.procs")), None)


def _groups(name: str) -> Iterator[str]:
    """The folder of a control group, and those below it; none where there is no such group."""
    top = _folder(name)
    left = [] if top is None else [top]
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
