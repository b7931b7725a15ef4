"""What one look at a whole host costs it: CPU and time, beside many processes and long arguments.

Run as root: ``.venv/bin/python benchmarks/look.py [NUMBER ...]``. The agent's own code is run under
the system's interpreter, as on a host.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 5
PYTHON = "/usr/bin/python3"
LOOK = """
import hashlib, json, os, sys, time
sys.path.insert(0, sys.argv[1])
from deploytool.agent.host import Host
from deploytool.agent.linux import Linux
from deploytool.agent.port import UnitState
from deploytool.agent.requests import Probe
from deploytool.agent.settings import Settings
from deploytool.agent.verbs.evidence import look
from deploytool.agent.verbs.sighting import sight

settings = Settings.from_json(json.loads(sys.argv[2]))
main = int(sys.argv[3])
system = Linux(settings)
unit = UnitState(main=main, group="/no.such.group", active="active", sub="running")
figures = {"survey": [], "whole": []}
for _ in range(int(sys.argv[4])):
    with Host.open(system, "0" * 64) as host:
        for name in figures:
            before = time.process_time(), time.perf_counter()
            if name == "survey":
                shown = sight(host, unit)
                processes = len(shown.views)
            else:
                shown = look(host, Probe(), seen=unit)
            after = time.process_time(), time.perf_counter()
            figures[name].append((after[0] - before[0], after[1] - before[1]))
print(json.dumps(figures))
"""


def prepare(root: Path) -> dict[str, object]:
    """A release root with one release; its settings."""
    for name in ("releases", "state/service"):
        (root / name).mkdir(parents=True)
    for name in ("mutex", "probe.lock"):
        (root / "state" / name).touch()
    artifact = Path("/usr/bin/sleep").read_bytes() + b"#" * 3_000_000
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


def measure(settings: dict[str, object], main: int) -> dict[str, tuple[float, float]]:
    """Medians of CPU and time, in milliseconds."""
    source = str(Path(__file__).resolve().parent.parent)
    argv = [PYTHON, "-I", "-S", "-c", LOOK, source, json.dumps(settings), str(main), str(ROUNDS)]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = {}
    for name, pairs in json.loads(output).items():
        cpu, wall = (sorted(column)[len(pairs) // 2] * 1000 for column in zip(*pairs, strict=True))
        found[name] = cpu, wall
    return found


def count() -> int:
    """Processes of this machine."""
    return sum(entry.name.isdigit() for entry in Path("/proc").iterdir())


def main() -> None:
    """Prints one line for each load."""
    numbers = [int(word) for word in sys.argv[1:]] or [100, 10_000]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "router"
        settings = prepare(root)
        others: list[subprocess.Popen[bytes]] = []
        service = subprocess.Popen([str(root / "current" / "router"), "3600"])
        try:
            print("| processes | beside | look: CPU ms | time ms | evidence: CPU ms | time ms |")
            print("|---|---|---|---|---|---|")

            def line(beside: str) -> None:
                found = measure(settings, service.pid)
                (a, b), (c, d) = found["survey"], found["whole"]
                print(f"| {count()} | {beside} | {a:.0f} | {b:.0f} | {c:.0f} | {d:.0f} |")
                sys.stdout.flush()

            for number in numbers:
                sleep = ["/usr/bin/sleep", "3600"]
                others += [subprocess.Popen(sleep) for _ in range(number - count())]
                line("")
            words = ["0" * 100_000] * 17
            others += [subprocess.Popen(["/usr/bin/sleep", "3600", *words]) for _ in range(12)]
            line("12 with 1.7 MB of arguments")
        finally:
            for process in [service, *others]:
                process.kill()
            for process in [service, *others]:
                process.wait()


if __name__ == "__main__":
    main()
