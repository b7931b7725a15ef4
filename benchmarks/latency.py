"""A verified deploy over a link with a round-trip time: `python benchmarks/latency.py`.

Eight loopback hosts, each behind a relay that delays every byte; the stock clients go through the
same relays. What goes over a link is counted there: connections, and round trips at least.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from artifact import make
from deploy import FOLDER, MIB, check
from fleet import BenchFleet, loopback
from link import SlowLink, slow_links
from page import put_section
from tools import FLOOR, OURS, TOOLS, digest

HEADING = "## Over a link with a delay"
HOSTS = 8
AIM = 1.5
PINS = "behind-known_hosts"


@contextmanager
def delayed(bench: BenchFleet, delay_s: float) -> Iterator[tuple[BenchFleet, list[SlowLink]]]:
    """The same fleet behind links, each of which delays what goes over it."""
    with slow_links([(host.address, host.port) for host in bench.hosts], delay_s) as links:
        ports = {str(h.port): str(link.port) for h, link in zip(bench.hosts, links, strict=True)}

        def behind(path: Path) -> Path:
            text = re.sub(
                r"\b\d{4,5}\b", lambda found: ports.get(found[0], found[0]), path.read_text()
            )
            made = path.with_name(f"behind-{path.name}")
            made.write_text(
                text.replace("known_hosts: known_hosts", "known_hosts: behind-known_hosts")
            )
            return made

        hosts = tuple(
            replace(host, port=link.port) for host, link in zip(bench.hosts, links, strict=True)
        )
        yield (
            replace(
                bench,
                hosts=hosts,
                inventory=behind(bench.inventory),
                known_hosts=behind(bench.known_hosts),
            ),
            links,
        )


def measure(round_trip_s: float, runs: int) -> dict[str, dict[str, float]]:
    """Medians for the floor and for deploytool: seconds, connections, round trips and bytes."""
    found: dict[str, list[dict[str, float]]] = {FLOOR: [], OURS: []}
    scratch = FOLDER / "scratch"
    with (
        loopback(FOLDER / "latency", HOSTS) as near,
        delayed(near, round_trip_s / 2) as (bench, links),
    ):
        for turn in range(runs + 1):
            for tool, figures in found.items():
                shutil.rmtree(scratch, ignore_errors=True)
                artifact = make(scratch / "made", f"far.{turn}.{time.monotonic_ns()}", MIB)
                run = TOOLS[tool](bench, artifact, scratch)
                bench.sweep()
                for link in links:
                    link.reset()
                began = time.monotonic()
                run()
                took = time.monotonic() - began
                check(bench, tool, digest(artifact))
                if turn:  # the first finds bare hosts
                    counted = [link.counted for link in links]
                    figures.append(
                        {
                            "seconds": took,
                            "connections": statistics.median(c.connections for c in counted),
                            "turns": statistics.median(c.turns for c in counted),
                            "down": statistics.median(c.down for c in counted),
                        }
                    )
                print(f"{round_trip_s * 1000:.0f} ms, {tool:<26} {took:6.2f} s")
    return {
        tool: {key: statistics.median(one[key] for one in figures) for key in figures[0]}
        for tool, figures in found.items()
    }


def section(found: dict[float, dict[str, dict[str, float]]], runs: int, load: float) -> str:
    """The table, as RESULTS.md has it."""
    lines = [
        HEADING,
        f"1 MiB to {HOSTS} loopback hosts, each behind a relay on this machine ({os.cpu_count()}",
        f"cores, load before the start {load:.1f}) that delays every byte by half the round-trip",
        "time, and TCP's handshake by one of it. No loss, no limit of the rate. Medians of",
        f"{runs} runs. Round trips are times that the deployer sent after it had heard, on one",
        f"host's connections: at least so many. Aimed at: {AIM:g}x the floor at 50 ms.",
        "",
        "| round-trip time | | seconds | of the floor | connections a host | round trips | heard |",
        "|---|---|---|---|---|---|---|",
    ]
    for round_trip_s, tools in found.items():
        for tool, one in tools.items():
            ratio = one["seconds"] / tools[FLOOR]["seconds"]
            lines.append(
                f"| {round_trip_s * 1000:.0f} ms | {tool} | {one['seconds']:.2f} | {ratio:.2f}x "
                f"| {one['connections']:.0f} | {one['turns']:.0f} | {one['down'] / 1000:.0f} KB |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ms", type=float, nargs="+", default=[0, 50], help="round-trip times")
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    load = os.getloadavg()[0]
    found = {ms / 1000: measure(ms / 1000, given.runs) for ms in given.ms}
    text = section(found, given.runs, load)
    print(text)
    put_section(text)


if __name__ == "__main__":
    main()
