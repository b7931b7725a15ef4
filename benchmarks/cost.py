"""What a command costs a host: CPU and processes started: `python benchmarks/cost.py [--runs N]`.

Eight containers with systemd. CPU is the control group's of the whole container, so that logins,
systemd and the service count too; processes are counted by the numbers that the container's own
kernel namespace gave out. A round without any command is taken off.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artifact import make
from deploy import FOLDER, MIB
from fleet import BenchFleet, containers
from page import put_section
from tools import FLOOR, OURS, TOOLS

from deploytool.rehearsal.fleets.model import HostRecord

HEADING = "## What a host pays"
HOSTS = 8
AIM_MS = 90
TOOL = str(Path(sys.executable).with_name("deploytool"))
_RUN_S = 300
_ASK = """\
cut -d ' ' -f 5 /proc/loadavg
cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null ||
    sed -n 's/^usage_usec \\(.*\\)/\\1000/p' /sys/fs/cgroup/cpu.stat
"""
"""The last process number that was given out here, and the container's CPU in nanoseconds, by
version 1 of control groups or by version 2."""
NOTHING, LOGIN, RESTART, STATUS = "nothing", "ssh HOST true", "systemctl restart", "status"


@dataclass(frozen=True)
class Used:
    """What a host has used so far, or for one command: CPU in milliseconds, and processes."""

    cpu_ms: float
    processes: float

    def since(self, before: Used) -> Used:
        """What was used between two moments."""
        return Used(self.cpu_ms - before.cpu_ms, self.processes - before.processes)


def used(bench: BenchFleet) -> list[Used]:
    """What each host has used so far."""

    def one(host: HostRecord) -> str:
        return bench.ask(host, _ASK)

    found = []
    for text in bench.each(one):
        last, nanoseconds = text.split()
        found.append(Used(int(nanoseconds) / 1e6, int(last)))
    return found


def measure(bench: BenchFleet, job: Callable[[], object]) -> Used:
    """What a command cost one host: the median of all."""
    before = used(bench)
    job()
    after = used(bench)
    each = [now.since(then) for now, then in zip(after, before, strict=True)]
    return Used(
        statistics.median(one.cpu_ms for one in each),
        statistics.median(one.processes for one in each),
    )


def contest(bench: BenchFleet, runs: int) -> dict[str, Used]:
    """Each command by turns; medians of what it cost beyond a round without any."""
    scratch = FOLDER / "scratch"
    found: dict[str, list[Used]] = {}

    def ssh(command: str) -> Callable[[], None]:
        def run() -> None:
            clients = [subprocess.Popen([*bench.ssh(host), command]) for host in bench.hosts]
            if any(client.wait(timeout=_RUN_S) for client in clients):
                raise RuntimeError(f"{command}: a client failed")

        return run

    def status() -> None:
        argv = [TOOL, "status", "-i", str(bench.inventory)]
        subprocess.run(argv, check=True, capture_output=True, timeout=_RUN_S)

    for turn in range(runs + 1):
        jobs: dict[str, Callable[[], object]] = {}
        for tool in (FLOOR, OURS):
            shutil.rmtree(scratch / tool, ignore_errors=True)
            artifact = make(scratch / tool / "made", f"cost.{turn}.{time.monotonic_ns()}", MIB)
            jobs[tool] = TOOLS[tool](bench, artifact, scratch / tool)
        jobs |= {NOTHING: lambda: None, LOGIN: ssh("true"), STATUS: status}
        jobs[RESTART] = ssh("systemctl restart router")
        bench.sweep()
        for name, job in jobs.items():
            cost = measure(bench, job)
            time.sleep(
                1.0
            )  # what a command left behind ends on its own account, not the next one's
            if turn:  # the first finds bare hosts
                found.setdefault(name, []).append(cost)
            print(f"{name:<28} {cost.cpu_ms:7.1f} ms {cost.processes:5.0f} processes")
    middle = {
        name: Used(
            statistics.median(one.cpu_ms for one in all_),
            statistics.median(one.processes for one in all_),
        )
        for name, all_ in found.items()
    }
    return {name: one.since(middle[NOTHING]) for name, one in middle.items() if name != NOTHING}


def section(found: dict[str, Used], runs: int, load: float) -> str:
    """The table, as RESULTS.md has it."""
    own = found[OURS].cpu_ms - found[RESTART].cpu_ms
    lines = [
        HEADING,
        f"{HOSTS} containers with systemd on {os.cpu_count()} cores, load before the start",
        f"{load:.1f}; medians of the hosts and of {runs} runs. CPU of the whole container: login,",
        "`sudo`, systemd and the service's own start count too. Processes: all that were started",
        "there, threads too.",
        "",
        "| command | CPU a host | processes a host |",
        "|---|---|---|",
        *(
            f"| {NAMES.get(name, name)} | {one.cpu_ms:.0f} ms | {one.processes:.0f} |"
            for name, one in sorted(found.items(), key=lambda item: item[1].cpu_ms)
        ),
        "",
        f"Aimed at: {AIM_MS} ms for a deployment beyond login and restart: {own:.0f} ms",
        f"({'met' if own <= AIM_MS else 'MISSED'}).",
    ]
    return "\n".join(lines) + "\n"


NAMES = {
    LOGIN: "login: `ssh HOST true`",
    RESTART: "login and restart: `ssh HOST systemctl restart`",
    STATUS: "`deploytool status`",
    FLOOR: "the floor's deployment, 1 MiB",
    OURS: "deploytool's deployment, 1 MiB, all at once",
}


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    load = os.getloadavg()[0]
    with containers(FOLDER / "cost", HOSTS) as bench:
        found = contest(bench, given.runs)
    text = section(found, given.runs, load)
    print(text)
    put_section(text)


if __name__ == "__main__":
    main()
