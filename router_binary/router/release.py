"""What this process is: release, process, boot."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Release:
    """The file that this process was loaded from, as it was when it was read."""

    sha256: str
    path: str
    descriptor: int
    info: dict[str, Any]

    @property
    def version(self) -> str:
        """Human version, as in the manifest."""
        return str(self.info["version"])

    @property
    def flags(self) -> dict[str, Any]:
        """The flag table that was built in."""
        table: dict[str, Any] = self.info["flags"]
        return table


@dataclass(frozen=True, slots=True)
class Process:
    """What tells this process from the one before it, and this boot from the last."""

    pid: int
    start_ticks: int
    boot_id: str
    started_s: float

    @classmethod
    def read(cls) -> "Process":
        """Ask the kernel."""
        # The name of the program may hold blanks and brackets: fields count from the last ")".
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return cls(os.getpid(), int(fields[19]), boot_id, time.monotonic())
