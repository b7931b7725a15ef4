"""What arming a flag costs beyond one evidence round: `python benchmarks/flags.py [--runs N]`.

The hosts are loopback ones: `sshd`, agent, router and its command-line client of all of them share
this machine's cores. One host alone shows what each host of a real fleet does at the same time.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

from page import put_section

from deploytool.arming.table import Purpose
from deploytool.operations.proving import status
from deploytool.operations.workspace import Workspace
from deploytool.parity.model import Parity
from deploytool.rehearsal.arming import change, inventory_with_senders
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent
from deploytool.rehearsal.stage import Stage
from deploytool.release.build import build

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(".deploytool/bench")
FLAG = "RETAIL_LIQUIDITY"
HEADING = "## Arming a flag"
AIM_S = 1.0


def one_round(inventory_path: Path) -> float:
    """Seconds of a round that proves parity, connections included, as a command takes it."""
    began = time.monotonic()
    taken = status(Workspace.open(inventory_path, store=FOLDER / "no-store"))
    took = time.monotonic() - began
    if taken.parity is not Parity.PARITY:
        raise RuntimeError("the fleet is not in parity")
    return took


def one_arming(inventory_path: Path) -> tuple[float, float]:
    """Seconds of a whole arming, and of the part in which not all hosts were alike."""
    began = time.monotonic()
    armed = change(inventory_path, FLAG, Purpose.ARM)
    took = time.monotonic() - began
    if armed.exit_code != 0 or armed.report.window_s is None:
        raise RuntimeError(f"not armed: {armed}")
    off = change(inventory_path, FLAG, Purpose.DISARM)
    if off.exit_code != 0:
        raise RuntimeError(f"not disarmed: {off}")
    return took, armed.report.window_s


def measure(count: int, runs: int) -> dict[str, float]:
    """Rounds and armings taking turns on so many hosts; medians."""
    fleet = LocalFleet(FOLDER / f"flags-{count}")
    fleet.down(silent)
    store = FOLDER / "store"
    release = build(store, ROOT / "router_binary", "2026.1")
    stage = Stage(fleet, release, release, print)
    try:
        fleet.up(count, silent)
        if (ended := stage.deploy(release)).exit_code != 0:
            raise RuntimeError(ended.text)
        with stage.trading() as trading:
            control = trading.flow.gateway.control.resolve()
            inventory = inventory_with_senders(fleet, control, "senders.yaml")
            if trouble := trading.ready((release,)):
                raise RuntimeError(trouble)
            rounds, armings, windows = [], [], []
            for turn in range(runs):
                rounds.append(one_round(inventory))
                took, window = one_arming(inventory)
                armings.append(took)
                windows.append(window)
                print(f"{count} hosts, run {turn + 1}: {rounds[-1]:.2f} s, {took:.2f} s")
    finally:
        fleet.down(silent)
    return {
        "round": statistics.median(rounds),
        "arming": statistics.median(armings),
        "beyond": statistics.median(a - r for a, r in zip(armings, rounds, strict=True)),
        "window": statistics.median(windows),
    }


def section(found: dict[int, dict[str, float]], load_before: float) -> str:
    """The table, as RESULTS.md has it."""
    lines = [
        HEADING,
        "Seconds, medians: one evidence round; a whole `flags arm` (round, census, certificate,",
        "two phases, senders, all observed); what that is more; how long hosts may differ.",
        f"Aimed at: under {AIM_S:g} s beyond the round. All hosts are on this one machine",
        f"({os.cpu_count()} cores, load before the start {load_before:.1f}); on machines of their",
        "own they work at the same time, as one alone does here.",
        "",
        "| hosts | round | arming | beyond | aim | hosts may differ for |",
        "|---|---|---|---|---|---|",
        *(
            f"| {count} | {s['round']:.2f} | {s['arming']:.2f} | {s['beyond']:.2f} "
            f"| {'met' if s['beyond'] < AIM_S else 'missed'} | {s['window']:.2f} |"
            for count, s in found.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 8])
    given = parser.parse_args()
    load_before = os.getloadavg()[0]
    found = {count: measure(count, given.runs) for count in given.hosts}
    text = section(found, load_before)
    print(text)
    put_section(text)


if __name__ == "__main__":
    main()
