"""What makes this host itself, and its clocks."""

from __future__ import annotations

import errno
import os
import time

from deploytool.agent.linux.opening import read_regular

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where this host's programs are looked for, whatever the environment says."""
_ID_AT_MOST = 4096


class LinuxMachine:
    """This host."""

    def machine_id(self) -> str:
        """machine-id(5)."""
        found = _line("/etc/machine-id")
        if not found:
            raise OSError(errno.ENODATA, "it names no machine", "/etc/machine-id")
        return found

    def boot_id(self) -> str:
        """Differs from boot to boot."""
        return _line("/proc/sys/kernel/random/boot_id")

    def now(self) -> float:
        """Seconds since the epoch, as this host believes."""
        return time.time()

    def uptime(self) -> float:
        """Seconds on a clock that is never set."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)

    def account(self, name: str | None) -> int | None:
        """An account's number, of None the agent's own; None: there is no such account."""
        if name is None:
            return os.geteuid()
        import pwd

        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            return None

    def has_program(self, name: str) -> bool:
        """Whether it can be run by this name."""
        return program(name) is not None

    def draft(self) -> str:
        """A word that no other run of the agent on this host has: for names of drafts."""
        return f"{os.getpid()}-{os.urandom(4).hex()}"


def program(name: str) -> str | None:
    """Where a program is; None where it is not on this host."""
    if "/" in name:
        return None
    for folder in PATH.split(":"):
        path = f"{folder}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _line(path: str) -> str:
    return read_regular(path, _ID_AT_MOST).decode("ascii", "replace").strip()
