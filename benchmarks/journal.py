"""What the journal costs a deploy: written to a disk, beside written to memory.

Run from the project's folder: `python benchmarks/journal.py [DEPLOYS]`. Deploys to eight local
hosts, the two kinds by turns; and the journal alone, as a deploy writes it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml

from deploytool.rehearsal.faults.deployer import Operator
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent
from deploytool.release.build import build
from deploytool.rollout.journal import Journal, journal_path
from deploytool.rollout.model import Effect, Event, State

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


def deploys(fleet: LocalFleet, scratch: Path, folders: dict[str, Path], count: int) -> None:
    """Deploys by turns and prints the medians."""
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
    for kind, taken in seconds.items():
        print(f"deploy, journal {kind}: median {statistics.median(taken):.3f} s of {len(taken)}")


def main() -> None:
    """Brings a fleet up, measures, and takes it away."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    hosts = tuple(f"router{number}" for number in range(1, HOSTS + 1))
    with (
        tempfile.TemporaryDirectory(dir=".") as disk,
        tempfile.TemporaryDirectory(dir=MEMORY) as memory,
        tempfile.TemporaryDirectory() as scratch,
    ):
        folders = {"on disk": Path(disk), "in memory": Path(memory)}
        for kind, folder in folders.items():
            taken = [alone(folder, hosts) for _ in range(25)]
            print(f"journal alone, {kind}: median {statistics.median(taken) * 1000:.1f} ms")
        fleet = LocalFleet(Path(scratch) / "fleet")
        try:
            fleet.up(HOSTS, silent)
            deploys(fleet, Path(scratch), folders, count)
        finally:
            fleet.down(silent)


if __name__ == "__main__":
    main()
