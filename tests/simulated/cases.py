"""One rollout on simulated hosts, and what the oracle has to say about how it ended."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from deploytool.errors import DeploytoolError, HostFault
from deploytool.fleet.model import Inventory
from deploytool.parity.judge import judge, shown_manifest
from deploytool.parity.model import Parity
from deploytool.parity.round import look, probe_request
from deploytool.release.model import Manifest, Release
from deploytool.rollout.model import Effect, Event, Purpose, State
from deploytool.rollout.outcome import conclude
from deploytool.rollout.report import Report
from deploytool.rollout.runner import Runner
from deploytool.simulation import fleet, program
from deploytool.simulation.faults import BEFORE, WIRE, CallPoint, Fault
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.oracle import SimulatedTruth, locked_by, truth
from deploytool.simulation.remembered import RememberedFleets

OLD = program.build("2026.1")
NEW = program.build("2026.2")
Remembering = Callable[[fleet.Rendered], RememberedFleets]
"""Gives fleets on OLD, whose hosts remember for each other."""


class Silent:
    """Nobody watches."""

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        pass

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        pass


class Forgetful:
    """A journal that nobody reads: what it holds is another test's business."""

    def intent(self, state: State, effect: Effect, hosts: tuple[str, ...]) -> None:
        pass

    def outcome(self, state: State, event: Event) -> None:
        pass

    def end(self, state: State) -> None:
        pass


def roll_out(
    inventory: Inventory,
    hosts: dict[str, SimulatedHost],
    artifact: Path,
    purpose: Purpose = Purpose.DEPLOY,
    *,
    halted: bool = False,
) -> Report:
    """One rollout of the new release, as it ships, that is neither printed nor kept."""
    return Runner(
        inventory,
        Release(NEW[0], str(artifact)),
        hosts,
        "me@here",
        Silent(),
        Forgetful(),
        plan_id=f"plan-{purpose.value}",
        purpose=purpose,
        halted=halted,
    ).run()


def inline(
    jobs: Mapping[str, Callable[[], Any]],
    *,
    deadline_s: float,
    done: Callable[[str, Any], None] = lambda _name, _outcome: None,
) -> dict[str, Any]:
    """``fanout`` without threads: the same order each time, and many cases a second."""
    del deadline_s
    outcomes: dict[str, Any] = {}
    for name, job in jobs.items():
        try:
            outcomes[name] = job()
        except HostFault as fault:
            outcomes[name] = fault
        done(name, outcomes[name])
    return outcomes


@dataclass(frozen=True)
class Case:
    """One fault on one host at one moment."""

    host: str
    moment: CallPoint
    fault: Fault

    def __str__(self) -> str:
        return f"{self.host}: {self.fault.name} at {self.moment}"


@dataclass
class Ended:
    """How a rollout ended, beside the hosts themselves."""

    hosts: dict[str, SimulatedHost]
    before: dict[str, SimulatedTruth]
    report: Report
    error: DeploytoolError | None

    @property
    def code(self) -> int:
        return 0 if self.error is None else self.error.exit_code


@functools.cache
def rendered(supervisor: str, count: int = 8) -> fleet.Rendered:
    return fleet.Rendered.of(fleet.inventory(count, supervisor))


def deploy(
    artifact: Path,
    inventory: fleet.Rendered,
    cases: tuple[Case, ...] = (),
    start: tuple[Manifest, bytes] | None = OLD,
    *,
    fleets: RememberedFleets | None = None,
) -> Ended:
    """Deploys NEW to eight hosts, and has each case strike its host. ``fleets``: which they are."""
    hosts = fleets.fleet() if fleets is not None else fleet.fleet_of(inventory, start)
    for case in cases:
        hosts[case.host].strikes = {**hosts[case.host].strikes, case.moment: case.fault}
    before = {name: truth(host) for name, host in hosts.items()}
    release = Release(NEW[0], str(artifact))
    runner = Runner(
        inventory.inventory, release, hosts, "me@here", Silent(), Forgetful(), plan_id="plan1"
    )
    report = runner.run()
    return Ended(hosts, before, report, conclude(report, "inventory.yaml"))


def lies(ended: Ended, inventory: Inventory, cases: tuple[Case, ...]) -> Iterator[str]:
    """Everything that the end claims and the machines contradict; nothing, where it is honest."""
    taken = ended.report.round
    if taken is not None and sorted(v.host for v in taken.hosts) != sorted(ended.hosts):
        yield f"P2: {len(taken.hosts)} verdicts for {len(ended.hosts)} hosts"
    now = {name: truth(host) for name, host in ended.hosts.items()}
    if ended.code in {0, 4}:
        yield from _false_proofs(ended, now, cases)
    elif ended.code == 3:
        yield from _not_untouched(ended, now, cases)
    elif ended.code == 5:
        yield from _unnamed(ended)
    else:
        yield f"exit {ended.code} is no end that a fault may lead to"
    if ended.code in {0, 3, 4}:
        for name, host in ended.hosts.items():
            if locked_by(host) not in {None, "other"}:
                yield f"exit {ended.code}, and {name} is still locked"
    yield from _revived(ended, cases)
    yield from _status_lies(ended, inventory, now)


def _revived(ended: Ended, cases: tuple[Case, ...]) -> Iterator[str]:
    """P6: a host that was stopped stays stopped, and a proof that comes later is none."""
    for case in cases:
        host = ended.hosts[case.host]
        if case.fault is not Fault.STOPPED or host.computer.disk.read_only:
            continue
        if case.moment not in ended.hosts[case.host].struck:
            continue  # another fault led elsewhere before it came to that
        if any(not process.stubborn for process in host.service.of_this_root()):
            yield f"P6: {case.host} was stopped, and something runs there again"
        # When a round was begun: what a stop itself does after the last one comes after the proof.
        moments = ended.hosts[case.host].moments
        probes = [m for m in moments if (m.verb, m.part) == ("probe", BEFORE)]
        at = ended.hosts[case.host].struck
        if ended.code == 0 and at and moments.index(at[0]) < moments.index(probes[-1]):
            yield f"P6: {case.host} was stopped before the proof, and the rollout ended with 0"


def _false_proofs(
    ended: Ended, now: Mapping[str, SimulatedTruth], cases: tuple[Case, ...]
) -> Iterator[str]:
    for name, seen in _proven(ended, now, cases):
        if ended.code == 0 and not seen.runs(NEW[0].sha256):
            yield f"P1: exit 0, and {name} does not run the release: {seen}"
        then = ended.hosts[name].seen[0]
        # One that had died before the rollout, and serves what it had again, is brought back too.
        back = then.linked is not None and then.main is None and seen.runs(then.linked)
        if ended.code == 4 and seen != then and not back:
            yield f"P1: exit 4, and {name} is not what it was: {seen}"


def _proven(
    ended: Ended, now: Mapping[str, SimulatedTruth], cases: tuple[Case, ...]
) -> Iterator[tuple[str, SimulatedTruth]]:
    """What each host was when the last round saw it, and what it is now.

    What happens to a host after it was proven is for the next round to find.
    """
    for name, host in ended.hosts.items():
        if host.seen:
            yield name, host.seen[-1]
        looks = (i for i, m in enumerate(host.moments) if (m.verb, m.part) == ("probe", BEFORE))
        last = max(looks, default=0)
        if all(host.moments.index(moment) <= last for moment in host.struck) or all(
            case.fault in WIRE for case in cases
        ):
            yield name, now[name]


def _not_untouched(
    ended: Ended, now: Mapping[str, SimulatedTruth], cases: tuple[Case, ...]
) -> Iterator[str]:
    shaken = {case.host for case in cases if case.fault not in WIRE}
    for name, seen in now.items():
        if name not in shaken and seen != ended.before[name]:
            yield f"exit 3, and {name} was changed: {seen}"


def _unnamed(ended: Ended) -> Iterator[str]:
    """What each host was when it was last looked at: what came later, no end can speak of."""
    assert ended.error is not None
    text = f"{ended.error.what} {ended.error.means}"
    looked = [host.seen for host in ended.hosts.values() if host.seen]
    alike_then, alike_now = (len({seen[at] for seen in looked}) == 1 for at in (0, -1))
    if "MIXED" not in text and "UNKNOWN" not in text and not alike_now:
        yield f"exit 5 on a fleet that is not one, and it is not called MIXED or UNKNOWN: {text}"
    if not ended.error.details:
        yield "exit 5, and no host is named"
    locked = any(locked_by(host) for host in ended.hosts.values())
    releases = {(seen[-1].linked, seen[-1].main) for seen in looked}
    if alike_then and len(releases) > 1 and not locked:
        yield "exit 5 on a fleet that this rollout left mixed, and its locks are given back"


def _status_lies(
    ended: Ended, inventory: Inventory, now: Mapping[str, SimulatedTruth]
) -> Iterator[str]:
    """A round taken afterwards, as ``status`` does, must not be fooled either."""
    seen: dict[str, Any] = {}
    for name, host in ended.hosts.items():
        host.strikes = {}
        try:
            seen[name] = look(host, probe_request(), 5)
        except HostFault as fault:
            seen[name] = fault
    taken = judge(inventory, seen, shown_manifest(seen))
    if taken.parity is Parity.PARITY:
        for name, is_now in now.items():
            if taken.release is None or not is_now.runs(taken.release):
                yield f"P1: status says PARITY, and {name} does not run the release: {is_now}"
