"""What the journal costs a deploy: written to a disk, beside written to memory.

Run from the project's folder: `python benchmarks/journal.py [DEPLOYS]`. Deploys to eight local
hosts, the two kinds by turns; and the journal alone, as a deploy writes it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml
from page import put_section

from deploytool.rehearsal.faults.deployer import Operator
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent
from deploytool.release.build import build
from deploytool.rollout.journal import Journal, journal_path
from deploytool.rollout.model import Effect, Event, State

HEADING = "## The journal"
DISK, IN_MEMORY = "synced to a disk", "in memory"
AIM = 0.05
HOSTS = 8
WRITES = 8
"""Effects of a deploy in three waves: each has a record before it and one after it."""
MEMORY = Path("/dev/shm")  # noqa: S108 a folder of ours is made in it


def alone(folder: Path, hosts: tuple[str, ...]) -> float:
    """Seconds that the journal of one deploy takes by itself."""
    began = time.monotonic()
    with Journal(journal_path(folder, "bench")) as journal:
        journal.begin("plan", "deploy", "bench", "0" * 64, "me@here")
        for _ in range(WRITES):
            journal.intent(State.SWITCHING, Effect.SWITCH_WAVE, hosts)
            journal.outcome(State.SWITCHING, Event.WAVE_PROVEN)
        journal.end(State.DONE)
    return time.monotonic() - began


def deploys(
    fleet: LocalFleet, scratch: Path, folders: dict[str, Path], count: int
) -> dict[str, list[float]]:
    """Deploys by turns; gives the seconds of each."""
    store = scratch / "store"
    releases = [build(store, Path("router_binary"), name).digest for name in ("2026.0", "2026.1")]
    said = yaml.safe_load(fleet.inventory.read_text(encoding="utf-8"))
    said["service"]["soak_s"] = 0
    inventory = fleet.inventory.with_name("bench.yaml")
    inventory.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    seconds: dict[str, list[float]] = {kind: [] for kind in folders}
    for number in range(2 * count + 1):
        kind = list(folders)[number % 2]
        operator = Operator(inventory, store, folders[kind])
        ended = operator.run("deploy", releases[number % 2])
        if ended.code != 0:
            sys.exit(f"deploy {number} ended with {ended.code}: {ended.errors}")
        if number:  # the first finds bare hosts
            seconds[kind].append(ended.seconds)
    return seconds


def section(alone_s: dict[str, float], deploy_s: dict[str, list[float]], load: float) -> str:
    """The table, as RESULTS.md has it."""
    disk, memory = (statistics.median(deploy_s[kind]) for kind in (DISK, IN_MEMORY))
    cost = alone_s[DISK] / disk
    lines = [
        HEADING,
        f"Deploys to {HOSTS} loopback hosts in three waves without a soak, by turns, the journal",
        "synced to a disk and in memory; and the same records alone. Medians; load before the",
        f"start {load:.1f}.",
        "",
        "| journal | alone | a whole deploy | runs |",
        "|---|---|---|---|",
        *(
            f"| {kind} | {alone_s[kind] * 1000:.1f} ms | {statistics.median(taken):.3f} s "
            f"| {len(taken)} |"
            for kind, taken in deploy_s.items()
        ),
        "",
        f"Aimed at: under {AIM:.0%} of a deploy. The records alone are {cost:.1%} of one",
        f"({'met' if cost < AIM else 'MISSED'}); the deploys differ by {disk / memory - 1:+.1%}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Brings a fleet up, measures, and takes it away."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    load = os.getloadavg()[0]
    hosts = tuple(f"router{number}" for number in range(1, HOSTS + 1))
    with (
        tempfile.TemporaryDirectory(dir=".") as disk,
        tempfile.TemporaryDirectory(dir=MEMORY) as memory,
        tempfile.TemporaryDirectory() as scratch,
    ):
        folders = {DISK: Path(disk), IN_MEMORY: Path(memory)}
        alone_s = {
            kind: statistics.median(alone(folder, hosts) for _ in range(25))
            for kind, folder in folders.items()
        }
        fleet = LocalFleet(Path(scratch) / "fleet")
        try:
            fleet.up(HOSTS, silent)
            deploy_s = deploys(fleet, Path(scratch), folders, count)
        finally:
            fleet.down(silent)
    text = section(alone_s, deploy_s, load)
    print(text)
    put_section(text)


if __name__ == "__main__":
    main()
