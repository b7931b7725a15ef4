"""How slow hosts are, measured on them, and what that makes of deadlines.

Deadlines are written for hosts that do a small piece of work, login and all, within
``USUAL_S``, while all of them do it at the same time. Emulated machines take longer, and every
deadline of their fleet is stretched by as much. A fast machine waits for no slow default: the
factor is never below one, and no deadline is a wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

USUAL_S = 2.5
FACTOR_AT_MOST = 20.0

WORK = """\
set -eu
i=0
while [ "$i" -lt 30 ]; do sha256sum /bin/sh >/dev/null; i=$((i + 1)); done
python3 -I -c 'import asyncio, json'
while read -r key kib _; do
    case $key in MemTotal:|MemAvailable:) echo "$key $kib" ;; esac
done </proc/meminfo
"""
"""About what one look at a host costs it: some small programs, and Python's start."""


@dataclass(frozen=True)
class Figures:
    """One host. Seconds from the first command until it let Vagrant in, and for the work; MiB."""

    host: str
    booted_s: float | None
    work_s: float
    used_mib: int
    total_mib: int

    def __str__(self) -> str:
        booted = "" if self.booted_s is None else f"up after {self.booted_s:.0f} s, "
        return (
            f"{self.host}: {booted}the trial work took {self.work_s:.1f} s, "
            f"{self.used_mib} of {self.total_mib} MiB in use"
        )


def read(host: str, booted_s: float | None, work_s: float, said: str) -> Figures:
    """The figures of one host from what ``WORK`` printed there.

    Raises:
        KeyError: it did not print them.
    """
    rows = (line.split() for line in said.splitlines())
    kib = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
    total, available = kib["MemTotal:"], kib["MemAvailable:"]
    return Figures(host, booted_s, work_s, (total - available) // 1024, total // 1024)


def factor(figures: Sequence[Figures]) -> float:
    """By how much deadlines are stretched: what the slowest host needs."""
    slowest = max(item.work_s for item in figures)
    return round(min(max(1.0, slowest / USUAL_S), FACTOR_AT_MOST), 1)
