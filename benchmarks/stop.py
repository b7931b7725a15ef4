"""How fast a stop is, under load: from Enter to the last child order, as the market saw it.

Eight containers with systemd on this one machine trade while they are stopped, again and again:
cold, warm (a watch has the lines open), and by eight parallel ``ssh`` clients that send one signal,
which is the floor. The market is the witness: each stop has to end with 0. Between two stops the
routers are put back by hand, past the tool.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from page import put_section

from deploytool.market.load import MAX_PARENTS, Load
from deploytool.rehearsal.fleets.container import ContainerFleet
from deploytool.rehearsal.fleets.files import (
    ADMIN_IDENTITY,
    KNOWN_HOSTS,
    LIMITS,
    ROUTER_CONFIG,
    router_config,
)
from deploytool.rehearsal.fleets.model import silent
from deploytool.rehearsal.stage import Stage, Trading
from deploytool.release.store import find

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".deploytool" / "bench" / "stop"
TOOL = str(Path(sys.executable).parent / "deploytool")
HOSTS = 8
PARENTS_PER_S = 500.0
_READY_S = 90.0
_AFTER_S = 1.5
_BACK = """\
rm -f /opt/router/state/halted /opt/router/state/fenced /opt/router/state/service/latch.json
systemctl unmask --quiet router; systemctl reset-failed router; systemctl restart router
"""


@dataclass
class Measured:
    """One way to stop: seconds from Enter to each host's last order, and to the command's end."""

    name: str
    silent_s: list[float] = field(default_factory=list)
    worst_s: list[float] = field(default_factory=list)
    command_s: list[float] = field(default_factory=list)


class StopBench:
    """The fleet under load, and the ways to stop it."""

    def __init__(self, fleet: ContainerFleet, trading: Trading) -> None:
        self.fleet, self.trading = fleet, trading
        record = fleet.record()
        if record is None:
            raise RuntimeError("the fleet was taken down meanwhile")
        self.record = record
        self.inventory = fleet.folder / "witnessed.yaml"
        (fleet.folder / ROUTER_CONFIG).write_text(router_config(record))
        said = yaml.safe_load(fleet.inventory.read_text())
        witness = [sys.executable, "-m", "deploytool.market.witness", "--hosts"]
        witness += [ROUTER_CONFIG, "--control", str(trading.flow.market.control)]
        said["silence"] = {"command": witness, "timeout_s": 20}
        self.inventory.write_text(yaml.safe_dump(said, sort_keys=False))

    def put_back(self) -> None:
        """Has every router trade again, past the tool."""
        names = [host.name for host in self.record.hosts]
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda n: self.fleet.inside(n, ("sh",), _BACK, 60), names))
        if not self.trading.flow.wait_for_routers(HOSTS, _READY_S):
            raise RuntimeError(f"not all trade again: {self.trading.flow.members()}")
        since, ends = time.time(), time.monotonic() + _READY_S
        while min(self.last().values()) < since:  # every one of them sends again
            if time.monotonic() > ends:
                raise RuntimeError("not all send orders again")
            time.sleep(0.1)

    def last(self) -> dict[str, float]:
        """The last child order of each host, by the market's clock, which is ours."""
        seen = self.trading.flow.silence()["hosts"]
        return {h.name: (seen.get(h.name) or {}).get("wall") or 0.0 for h in self.record.hosts}

    def measure(self, result: Measured, press: Callable[[], None]) -> None:
        """Stops all, and asks the market when the last orders came."""
        self.put_back()
        pressed = time.time()
        press()
        result.command_s.append(time.time() - pressed)
        time.sleep(_AFTER_S)
        last = [seen - pressed for seen in self.last().values()]
        if time.time() - pressed - max(last) < _AFTER_S / 2:
            raise RuntimeError(f"{result.name}: they are not silent: {last}")
        result.silent_s += last
        result.worst_s.append(max(last))
        print(f"{result.name:<24} silent after {max(last):.3f} s, "
              f"command {result.command_s[-1]:.3f} s")  # fmt: skip

    def stop(self) -> None:
        """``deploytool stop --all``."""
        words = [TOOL, "stop", "-i", str(self.inventory), "--all", "--json"]
        done = subprocess.run(words, capture_output=True, timeout=120, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode())

    def floor(self) -> None:
        """Eight stock clients at once, and one signal each."""
        options = (
            *("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"),
            f"UserKnownHostsFile={self.fleet.folder / KNOWN_HOSTS}",
            f"IdentityFile={self.fleet.folder / ADMIN_IDENTITY}",
        )
        words = ["ssh", "-F", "none", *(w for option in options for w in ("-o", option))]
        signal = "systemctl kill --signal=USR1 router"
        clients = [
            subprocess.Popen([*words, f"root@{host.address}", signal]) for host in self.record.hosts
        ]
        if any(client.wait(timeout=60) for client in clients):
            raise RuntimeError("a client failed")


class Watching:
    """A watch beside it, and what it costs."""

    def __init__(self, inventory: Path, every_s: float) -> None:
        words = [TOOL, "watch", "-i", str(inventory), "--every", str(every_s), "--json"]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def cpu_s(self) -> float:
        """Processor seconds of the watch and its clients so far."""
        tick = os.sysconf("SC_CLK_TCK")
        total = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = stat.read_text().partition(" ")
            except OSError:
                continue
            fields = rest.rpartition(") ")[2].split()
            if int(pid) == self.process.pid or int(fields[1]) == self.process.pid:
                total += int(fields[11]) + int(fields[12])
        return total / tick

    def end(self) -> dict[str, list[float]]:
        """Ends it as a user would; what it has to say."""
        self.process.terminate()
        said: dict[str, list[float]] = json.loads(self.process.communicate(timeout=30)[0])
        return said


def percentile(values: list[float], share: float) -> float:
    """The value that so many are not above; with few values, the greatest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def section(ways: list[Measured], rounds: list[float], cpu: float, load: float) -> str:
    """The tables."""
    runs = len(ways[0].worst_s)
    floor = next(way for way in ways if way.name == FLOOR)
    cores = os.cpu_count()
    how = (
        f"{runs} stops each, taking turns; eight containers with systemd, {PARENTS_PER_S:.0f} "
        f"parent orders a second, client and market on this machine's {cores} cores too; load "
        f"{load:.1f} before the start. From Enter to the last child order that the market saw; the "
        "command ends once the market, as its witness, has confirmed the silence."
    )
    lines = [
        "## A stop of eight hosts under load",
        "",
        how,
        "",
        "| | p50 | p99 | all eight, median | of the floor | reach | the command ends after |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in ways:
        ratio = statistics.median(way.worst_s) / statistics.median(floor.worst_s)
        lines.append(
            f"| {way.name} | {percentile(way.silent_s, 0.5):.3f} s "
            f"| {percentile(way.silent_s, 0.99):.3f} s | {statistics.median(way.worst_s):.3f} s "
            f"| {ratio:.2f}x | {REACH[way.name]} | {statistics.median(way.command_s):.2f} s |"
        )
    middle, slow = statistics.median(rounds) * 1000, percentile(rounds, 0.99) * 1000
    lines += [
        "",
        "| watch on eight hosts | measured | reach |",
        "|---|---|---|",
        f"| evidence round over open lines, median of {len(rounds)} | {middle:.0f} ms | 150 ms |",
        f"| the same, p99 | {slow:.0f} ms | |",
        f"| processor, a round every 5 s, of one core | {cpu * 100:.1f} % | 3 % |",
        "",
    ]
    return "\n".join(lines)


FLOOR, COLD, WARM = (
    "eight ssh clients, one signal",
    "deploytool stop, cold",
    "deploytool stop, warm",
)
REACH = {FLOOR: "", COLD: "p99 2 s, 1.3x", WARM: "p99 0.1 s"}


def main() -> None:
    """Measures, prints, and puts its section into the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    load = os.getloadavg()[0]
    store = FOLDER / "store"
    shutil.rmtree(store, ignore_errors=True)
    subprocess.run(
        [TOOL, "release", "build", "2026.1", "--store", str(store)], cwd=ROOT, check=True
    )
    release = find(store, "2026.1")
    fleet = ContainerFleet(FOLDER / "fleet")
    fleet.down(silent)
    try:
        fleet.up(HOSTS, print)
        stage = Stage(fleet, release, release, print)
        deployed = stage.deploy(release)
        if deployed.exit_code != 0:
            raise RuntimeError(deployed.text)
        with stage.trading() as trading:
            trading.flow.trust([release.digest])
            trading.flow.wait_for_routers(HOSTS, _READY_S)
            trading.flow.send(Load(MAX_PARENTS, LIMITS, rate=PARENTS_PER_S, qty=(1, 900), seed=11))
            text = _contest(StopBench(fleet, trading), given.runs, load)
    finally:
        fleet.down(print)
    print(text)
    put_section(text)


def _contest(bench: StopBench, runs: int, load: float) -> str:
    ways = [Measured(FLOOR), Measured(COLD), Measured(WARM)]
    for _ in range(runs):
        bench.measure(ways[0], bench.floor)
        bench.measure(ways[1], bench.stop)
    watch = Watching(bench.inventory, 5.0)
    try:
        time.sleep(15.0)  # its lines are up, and it has looked more than once
        before, began = watch.cpu_s(), time.monotonic()
        time.sleep(30.0)
        cpu = (watch.cpu_s() - before) / (time.monotonic() - began)
        for _ in range(runs):
            bench.measure(ways[2], bench.stop)
    finally:
        rounds = watch.end()["took_s"]
    return section(ways, rounds, cpu, load)


if __name__ == "__main__":
    main()
