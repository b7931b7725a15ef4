"""``make bench``: a whole verified deploy beside stock tools that do the bare minimum.

All in one run, the tools taking turns, so that what else the machine does hits all alike; medians.
Each run deploys bytes that no host has seen, and is checked on the hosts past the tool itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from artifact import make
from contest import Contest
from fleet import BenchFleet, containers, loopback
from page import RESULTS
from report import write_report
from tools import FLOOR, OURS, TOOLS, digest

MIB = 1024 * 1024
FOLDER = Path(".deploytool/bench")


def check(bench: BenchFleet, tool: str, sha256: str) -> None:
    """Looks on each host, past the tool, that its ``current`` holds the right bytes."""
    ours = tool.startswith("deploytool")
    root, name = (bench.ours, "router") if ours else (bench.root, "plain")
    found = bench.each(
        lambda host: bench.ask(host, f"sha256sum < {root(host)}/current/{name}").split()[0]
    )
    if set(found) != {sha256}:
        raise RuntimeError(f"{tool} ended well, but the hosts have {found}, not {sha256}")


def contest(bench: BenchFleet, tools: list[str], size_mib: int, runs: int) -> Contest:
    """Has the tools take turns, each beginning as often as any other."""
    result = Contest(len(bench.hosts), size_mib, {tool: [] for tool in tools})
    scratch = FOLDER / "scratch"
    for turn in range(runs):
        for tool in tools[turn % len(tools) :] + tools[: turn % len(tools)]:
            shutil.rmtree(scratch, ignore_errors=True)
            version = f"{size_mib}.{turn}.{time.monotonic_ns()}"
            artifact = make(scratch / "made", version, size_mib * MIB)
            run = TOOLS[tool](bench, artifact, scratch)
            bench.sweep()
            began = time.monotonic()
            run()
            took = time.monotonic() - began
            result.seconds[tool].append(took)
            check(bench, tool, digest(artifact))
            print(f"{size_mib:>3} MiB, {len(bench.hosts)} hosts, {tool:<26} {took:7.2f} s")
    return result


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each tool at 1 MiB")
    parser.add_argument("--runs-large", type=int, default=3, help="runs of each at 64 MiB")
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--sizes", nargs="*", type=int, default=[1, 64], metavar="MIB")
    parser.add_argument("--growth", nargs="*", type=int, default=[1, 8, 64], metavar="HOSTS")
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    load_before = os.getloadavg()[0]
    sizes, growth = [], []
    if given.sizes:
        with containers(FOLDER / "containers", 8) as bench:
            for size in given.sizes:
                runs = given.runs if size < 16 else given.runs_large
                sizes.append(contest(bench, given.tools, size, runs))
    for count in given.growth:
        with loopback(FOLDER / "loopback", count) as bench:
            growth.append(contest(bench, [FLOOR, OURS], 1, given.runs))
    write_report(sizes, growth, load_before)
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
