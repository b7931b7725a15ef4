"""What one round costs a host: CPU and time, beside many processes and long arguments.

``.venv/bin/python benchmarks/look.py [--runs N] [NUMBER ...]``, as root. The agent's own code is
run under the system's interpreter, as on a host, in the kinds of round that there are. A supervisor
is not asked: what systemctl(1) takes comes on top.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

from page import put_section

HEADING = "## One round on a host"
NUMBERS = (100, 10_000)
LONG, LONG_BYTES = 12, 1_700_000
PYTHON = "/usr/bin/python3"
ROUNDS = {
    "stop": "a stop's look: who can send",
    "watch": "a watch's round",
    "proof": "`status`: with the disk, starters, packet rules and libraries as remembered",
    "whole": "`verify`, `flags arm`, a deployment's last round: libraries are read",
}
"""What is measured, from the least to the most."""
LOOK = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from deploytool.agent.host import AgentHost
from deploytool.agent.linux import Linux
from deploytool.agent.port import UnitState
from deploytool.agent.requests import Probe
from deploytool.agent.settings import Settings
from deploytool.agent.verbs.evidence import look
from deploytool.agent.verbs.sighting import sight

settings = Settings.from_json(json.loads(sys.argv[2]))
system = Linux(settings)
unit = UnitState(main=int(sys.argv[3]), group="/no.such.group", active="active", sub="running")
probes = {
    "watch": Probe(read_disk=False),
    "proof": Probe(surroundings=True),
    "whole": Probe(surroundings=True, whole=True),
}
figures = {name: [] for name in ("stop", *probes)}
for _ in range(int(sys.argv[4]) + 1):
    with AgentHost.open(system, "0" * 64) as host:
        for name, taken in figures.items():
            before = time.process_time(), time.perf_counter()
            if name == "stop":
                sight(host, unit)
            else:
                look(host, probes[name], seen=unit)
            taken.append((time.process_time() - before[0], time.perf_counter() - before[1]))
print(json.dumps({name: taken[1:] for name, taken in figures.items()}))
"""
SERVICE = b"""#!/usr/bin/python3
import time

own = open(__file__, "rb")
print("up", flush=True)
time.sleep(3600)
"""


def prepare(root: Path) -> dict[str, object]:
    """A release root with one interpreted release of 3 MB; its settings."""
    for name in ("releases", "state/service"):
        (root / name).mkdir(parents=True)
    for name in ("mutex", "probe.lock"):
        (root / "state" / name).touch()
    artifact = SERVICE + b"#" * 3_000_000
    folder = root / "releases" / hashlib.sha256(artifact).hexdigest()
    folder.mkdir()
    (folder / "router").write_bytes(artifact)
    (folder / "router").chmod(0o555)
    (folder / "release.json").write_text("{}\n")
    (root / "current").symlink_to(f"releases/{folder.name}")
    return {
        "agent": "/usr/local/libexec/deploytool/router",
        "fleet": "bench",
        "host": "here",
        "name": "router",
        "root": str(root),
        "account": "games",
        "supervisor": "systemd",
        "start": {"argv": ["{current}/router"]},
        "version": {"argv": ["{current}/router", "--version"]},
        "status": {"argv": ["/bin/true"]},
        "ports": [7001],
        "connects": ["192.0.2.1:4000"],
    }


Figures = dict[str, tuple[float, float]]
"""By kind of round: medians of CPU and of time, in milliseconds."""


def measure(settings: dict[str, object], main: int, runs: int) -> Figures:
    """One kind of round after the other, so many times; a first one warms up."""
    source = str(Path(__file__).resolve().parent.parent)
    argv = [PYTHON, "-I", "-S", "-c", LOOK, source, json.dumps(settings), str(main), str(runs)]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = {}
    for name, pairs in json.loads(output).items():
        cpu, wall = (sorted(column)[len(pairs) // 2] * 1000 for column in zip(*pairs, strict=True))
        found[name] = cpu, wall
    return found


def count() -> int:
    """Processes of this machine."""
    return sum(entry.name.isdigit() for entry in Path("/proc").iterdir())


def contest(numbers: list[int], runs: int) -> dict[str, Figures]:
    """What each kind of round costs, by what is beside the service."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "router"
        settings = prepare(root)
        others: list[subprocess.Popen[bytes]] = []
        service = subprocess.Popen([str(root / "current" / "router")], stdout=subprocess.PIPE)
        try:
            if service.stdout is not None:
                service.stdout.readline()  # it has executed its program by then
            sleep = ["/usr/bin/sleep", "3600"]

            def beside(number: int, *words: str) -> None:
                others.extend(subprocess.Popen([*sleep, *words]) for _ in range(number))

            for number in sorted(numbers):
                beside(number - count())
                found[f"{count()} processes"] = measure(settings, service.pid, runs)
            beside(LONG, *["0" * 100_000] * (LONG_BYTES // 100_000))
            name = f"{count()} processes, {LONG} of them with {LONG_BYTES / 1e6:g} MB of arguments"
            found[name] = measure(settings, service.pid, runs)
        finally:
            for process in [service, *others]:
                process.kill()
            for process in [service, *others]:
                process.wait()
    return found


def section(found: dict[str, Figures], runs: int, load: float) -> str:
    """The table, as RESULTS.md has it."""
    lines = [
        HEADING,
        f"The agent's code on {os.cpu_count()} cores, load before the start {load:.1f};",
        f"medians of {runs} rounds, CPU / time in ms. A router of 3 MB that Python runs. What",
        "systemctl(1) and the artifact's own `status` take comes on top.",
        "",
        "| round | " + " | ".join(found) + " |",
        "|---" * (len(found) + 1) + "|",
    ]
    for name, about in ROUNDS.items():
        cells = (f"{figures[name][0]:.0f} / {figures[name][1]:.0f}" for figures in found.values())
        lines.append(f"| {about} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--print", action="store_true", help="print the table and do not write it")
    parser.add_argument("numbers", type=int, nargs="*", metavar="NUMBER")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    text = section(contest(given.numbers or [*NUMBERS], given.runs), given.runs, load)
    print(text)
    if not given.print:
        put_section(text)


if __name__ == "__main__":
    main()
