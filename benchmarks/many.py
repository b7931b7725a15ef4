"""The operator's side at many hosts: `python benchmarks/many.py [--hosts 1 256 1000]`.

What one process of deploytool costs this machine: a round of ``status``, and a ``deploy`` of the
release that the hosts run already. Their own work is done here too, so seconds say little.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from addresses import ManyHosts
from page import put_section

HEADING = "## Many hosts"
FOLDER = Path(".deploytool/bench/many")
TOOL = str(Path(sys.executable).with_name("deploytool"))
AIM_CPU_MS, AIM_MB = 20, 0.3
VERSION = "1.0"
SERVICE = Path(__file__).resolve().parents[1] / "tests" / "contract" / "artifact.sh"
"""The smallest service that satisfies docs/contract.md: a thousand of it fit on one machine."""


@dataclass(frozen=True)
class Cost:
    """One run of a command: wall seconds, its own CPU seconds, the most memory that it held."""

    seconds: float
    cpu_s: float
    memory_mb: float


def run(words: list[str], within_s: float) -> Cost:
    """Runs deploytool, and has it proven on all hosts."""
    began = time.monotonic()
    with (FOLDER / "out.json").open("w+b") as output, (FOLDER / "errors").open("w+b") as errors:
        process = subprocess.Popen([TOOL, *words, "--json"], stdout=output, stderr=errors)
        signal.setitimer(signal.ITIMER_REAL, within_s)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - began
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise RuntimeError(f"{words}: {process.returncode}\n{errors.read()[-3000:].decode()}")
        if json.load(output)["verdict"] != "PARITY":
            raise RuntimeError(f"{words}: not proven")
    return Cost(took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def measure(count: int, within_s: float) -> dict[str, Cost]:
    """The first deploy to so many bare hosts, a round, and the same deploy again."""
    fleet = ManyHosts(FOLDER / str(count), count)
    store = FOLDER / "store"
    describe = ["release", "describe", str(FOLDER / "router"), "--name", "router"]
    describe += ["--version", VERSION, "--requires", "sh", "--store", str(store)]
    (FOLDER / "router").write_bytes(SERVICE.read_bytes())
    (FOLDER / "router").chmod(0o755)
    found = {}
    try:
        fleet.up()
        subprocess.run([TOOL, *describe], check=True, capture_output=True)
        journal = ["--store", str(store), "--journal", str(FOLDER / f"journal-{count}")]
        deploy = ["deploy", "-i", str(fleet.inventory), VERSION, *journal]
        status = ["status", "-i", str(fleet.inventory)]
        for name, words in {"first deploy": deploy, "status": status, "deploy": deploy}.items():
            found[name] = run(words, within_s)
            print(f"{count:>5} hosts, {name:<13} {found[name]}")
    finally:
        fleet.down()
    return found


def section(found: dict[int, dict[str, Cost]], load: float) -> str:
    """The table, as RESULTS.md has it."""
    one = found[min(found)]
    lines = [
        HEADING,
        f"What the operator's process costs, one run each ({os.cpu_count()} cores, load before",
        f"the start {load:.1f}). A host is an address of loopback and a release root: the hosts",
        "share one machine, account, host key and `sshd` configuration, and the service is a shell",
        "script of one kilobyte. **Seconds and the hosts' part are distorted**: logins, agents and",
        "services of all hosts share these cores with the operator; each host's look sees the",
        "processes of all hosts; there is no network. CPU and memory are the operator's own, and",
        'not distorted so. "A further host" is what each one adds to a fleet of one. Aimed at:',
        f"{AIM_CPU_MS} ms of CPU and {AIM_MB:g} MB a host.",
        "",
        "| hosts | command | seconds | CPU | a further host | memory | a further host |",
        "|---|---|---|---|---|---|---|",
    ]
    for count, commands in found.items():
        for name, cost in commands.items():
            more = max(1, count - min(found))
            cpu = f"{(cost.cpu_s - one[name].cpu_s) / more * 1000:.1f} ms"
            memory = f"{(cost.memory_mb - one[name].memory_mb) / more:.2f} MB"
            first = count == min(found)
            lines.append(
                f"| {count:,} | {NAMES[name]} | {cost.seconds:.1f} | {cost.cpu_s:.2f} s "
                f"| {'' if first else cpu} | {cost.memory_mb:.0f} MB | {'' if first else memory} |"
            )
    return "\n".join(lines) + "\n"


NAMES = {
    "first deploy": "deploy to bare hosts",
    "status": "`status`",
    "deploy": "deploy to hosts that are current",
}


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 256, 1000])
    parser.add_argument("--within", type=float, default=900, help="seconds that a command may take")
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    load = os.getloadavg()[0]
    FOLDER.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGALRM, _late)
    found = {count: measure(count, given.within) for count in sorted(given.hosts)}
    text = section(found, load)
    print(text)
    put_section(text)


def _late(*_: object) -> None:
    raise TimeoutError("a command did not end in time")


if __name__ == "__main__":
    main()
