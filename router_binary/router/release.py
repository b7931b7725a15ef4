"""What this process is: release, process, boot."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # a client is gone sooner than `typing` is imported
if TYPE_CHECKING:
    from typing import Any


class Release:
    """The file that this process was loaded from, as it was when it was read.

    Only what serves knows its SHA-256.
    """

    __slots__ = ("descriptor", "info", "path", "sha256")

    def __init__(self, sha256: str, path: str, descriptor: int, info: dict[str, Any]) -> None:
        self.sha256 = sha256
        self.path = path
        self.descriptor = descriptor
        self.info = info

    @property
    def version(self) -> str:
        """Human version, as in the manifest."""
        return str(self.info["version"])

    @property
    def flags(self) -> dict[str, Any]:
        """The flag table that was built in."""
        table: dict[str, Any] = self.info["flags"]
        return table


class Process:
    """What tells this process from the one before it, and this boot from the last."""

    __slots__ = ("boot_id", "pid", "start_ticks", "started_s")

    def __init__(self, pid: int, start_ticks: int, boot_id: str, started_s: float) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self.boot_id = boot_id
        self.started_s = started_s

    @classmethod
    def read(cls) -> Process:
        """Ask the kernel."""
        from pathlib import Path

        # The name of the program may hold blanks and brackets: fields count from the last ")".
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return cls(os.getpid(), int(fields[19]), boot_id, time.monotonic())
