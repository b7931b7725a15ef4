"""The table of a benchmark, and the machine that it is from."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from contest import Contest
from page import sections, write
from tools import FLOOR, OURS

_HEAD = """\
# A verified deploy beside stock tools

Written by `make bench`. Wall seconds, medians; the tools took turns in one run, each time with
bytes that no host had seen. All of them copy one executable to every host, check its SHA-256
there, switch a link, restart the service and read its version. deploytool also locks the fleet,
stages on all hosts before any is switched, verifies each host by its
*running process*, proves parity in one round over all, and could have gone back at any point.
"All at once" is one wave and no soak, as the others do it; "deploytool" is the default: three
waves, and three seconds in which what was switched could die young.
"""

_RIVAL = "pyinfra"
_AIMS = {1: 1.5, 64: 1.3}
"""By MiB: how many times the floor a whole verified deploy may take."""
_OURS = tuple(f"## {word}" for word in (*map(str, range(10)), "Where"))
"""How the headings of this benchmark's own sections begin."""

_BUSY = """\
**The machine was busy with other work.** Believe the order and roughly the ratios; measure again on
a quiet one before you believe the seconds.
"""


def _said(*argv: str) -> str:
    try:
        told = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "not installed"
    return (told.stdout or told.stderr).strip().splitlines()[0]


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.partition(":" if ":" in line else "=")[2].strip().strip('"')
    return "unknown"


def _machine(load_before: float) -> str:
    memory = int(_first("/proc/meminfo", "MemTotal").split()[0]) / 1024 / 1024
    bench = ".deploytool/bench-venv/bin"
    rows = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": f"{_first('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{_first('/etc/os-release', 'PRETTY_NAME')}, Linux {platform.release()}",
        "load before the start": f"{load_before:.1f}",
        "Python": platform.python_version(),
        "ssh": _said("ssh", "-V"),
        "podman": _said("podman", "--version"),
        "pyinfra": _said(f"{bench}/pyinfra", "--version"),
        "Ansible": _said(f"{bench}/ansible", "--version"),
    }
    return "\n".join(["| machine | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


def _size(one: Contest) -> str:
    lines = [
        f"## {one.size_mib} MiB to {one.hosts} containers with systemd",
        "| tool | seconds | of the floor | fastest to slowest | runs |",
        "|---|---|---|---|---|",
    ]
    floor = one.median(FLOOR) if FLOOR in one.seconds else None
    for tool in sorted(one.seconds, key=one.median):
        took = one.seconds[tool]
        ratio = f"{one.median(tool) / floor:.2f}x" if floor else ""
        spread = f"{min(took):.2f} to {max(took):.2f}"
        name = f"**{tool}**" if tool.startswith("deploytool") else tool
        lines.append(f"| {name} | {one.median(tool):.2f} | {ratio} | {spread} | {len(took)} |")
    return "\n".join([*lines, "", _held_against(one)])


def _held_against(one: Contest) -> str:
    """What was aimed at, all at once, and whether it was reached."""
    aim = _AIMS.get(one.size_mib)
    if aim is None or not {FLOOR, OURS, _RIVAL} <= set(one.seconds):
        return ""
    ratio, rival = one.median(OURS) / one.median(FLOOR), one.median(_RIVAL)
    return (
        f"Aimed at, all at once: within {aim:g}x of the floor ({ratio:.2f}x, "
        f"{'met' if ratio <= aim else 'MISSED'}) and ahead of {_RIVAL} "
        f"({one.median(OURS):.2f} s beside {rival:.2f} s, "
        f"{'met' if one.median(OURS) < rival else 'MISSED'})."
    )


def _growth(contests: list[Contest]) -> str:
    if not contests:
        return ""
    lines = [
        "## 1 MiB, from one host to many",
        "Loopback hosts on this one machine, an `sshd` and a service each, no systemd.",
        "",
        "| hosts | deploytool | a host | floor | of the floor |",
        "|---|---|---|---|---|",
    ]
    for one in contests:
        ours, floor = one.median(OURS), one.median(FLOOR)
        each = f"{ours / one.hosts:.2f}"
        lines.append(f"| {one.hosts} | {ours:.2f} | {each} | {floor:.2f} | {ours / floor:.2f}x |")
    return "\n".join(lines) + "\n"


def write_report(sizes: list[Contest], growth: list[Contest], load_before: float) -> None:
    """Writes the page anew, but for what other benchmarks measured."""
    others = [part for part in sections()[1:] if not part.startswith(_OURS)]
    head = _HEAD + ("\n" + _BUSY if load_before > (os.cpu_count() or 1) else "")
    where = "## Where\n" + _machine(load_before)
    write([head, *map(_size, sizes), _growth(growth), where, *others])
