"""A deployer that is killed, at any of its records or calls, and whoever ends what it left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploytool.agent.requests import Answer, Request
from deploytool.errors import DeploytoolError
from deploytool.fleet.host import Payload
from deploytool.release.model import Release
from deploytool.rollout.model import Effect, Event, Purpose, State
from deploytool.rollout.outcome import conclude
from deploytool.rollout.report import Report
from deploytool.rollout.runner import Runner
from deploytool.simulation import fleet
from deploytool.simulation.faults import AFTER, BEFORE
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.lifting import lift
from deploytool.simulation.oracle import locked_by, truth
from deploytool.simulation.photograph import photograph
from deploytool.simulation.remembered import RememberedFleets

from .cases import NEW, OLD, Case, Silent

Photo = tuple[int, ...]
"""What eight hosts are at one moment."""


class Killed(BaseException):
    """SIGKILL: nothing that the deployer wrote can catch it."""


@dataclass(frozen=True)
class Crash:
    """When the deployer is killed: at a record of its journal, or at a call to one host.

    A call that was sent is carried out to its end: the helper outlives who asked it.
    """

    record: int = 0
    host: str = ""
    call: int = 0
    part: str = BEFORE

    def __str__(self) -> str:
        if self.record:
            return f"killed at record {self.record}"
        return f"killed {self.part} call {self.call} of {self.host}"


class Mortal:
    """A journal that ends its deployer at one record, before it is on disk and its effect done.

    It remembers what the fleet was at each of them.
    """

    def __init__(self, crash: Crash | None, hosts: Mapping[str, SimulatedHost]) -> None:
        self._at = crash.record if crash else 0
        self._hosts = hosts
        self.photos: list[Photo] = []

    def _write(self) -> None:
        self.photos.append(tuple(map(photograph, self._hosts.values())))
        if len(self.photos) == self._at:
            raise Killed

    def intent(self, _state: State, _effect: Effect, _hosts: tuple[str, ...]) -> None:
        self._write()

    def outcome(self, _state: State, _event: Event) -> None:
        self._write()

    def end(self, _state: State) -> None:
        self._write()


class Watched:
    """A host whose calls are counted, and whose deployer dies at one of them."""

    def __init__(self, host: SimulatedHost, crash: Crash | None) -> None:
        self.host = host
        self.calls = 0
        self._crash = crash if crash and crash.host == host.name else None

    @property
    def name(self) -> str:
        return self.host.name

    def close(self) -> None:
        pass

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        self.calls += 1
        here = self._crash is not None and self._crash.call == self.calls
        if here and self._crash is not None and self._crash.part == BEFORE:
            raise Killed
        try:
            return self.host.call(request, deadline_s=deadline_s, payload=payload, insist=insist)
        finally:
            if here:
                raise Killed


@dataclass
class Fleet:
    """Eight machines, and the deployers that come to them one after the other."""

    rendered: fleet.Rendered
    artifact: Path
    hosts: dict[str, SimulatedHost]
    deployers: int = 0

    @staticmethod
    def on(fleets: RememberedFleets, artifact: Path) -> Fleet:
        return Fleet(fleets.rendered, artifact, fleets.fleet())

    def run(
        self, purpose: Purpose, crash: Crash | None = None, *, forward: bool = False
    ) -> tuple[Report, DeploytoolError | None, dict[str, int], list[Photo]]:
        """One deployer, from a machine that knows nothing of the others.

        Gives its report, its end, the calls to each host, and what was at each of its records.
        """
        self.deployers += 1
        watched = {name: Watched(host, crash) for name, host in self.hosts.items()}
        recorder = Mortal(crash, self.hosts)
        report = Runner(
            self.rendered.inventory,
            Release(NEW[0], str(self.artifact)),
            watched,
            f"operator{self.deployers}@here",
            Silent(),
            recorder,
            plan_id=f"plan{self.deployers}",
            purpose=purpose,
            forward=forward,
        ).run()
        calls = {name: host.calls for name, host in watched.items()}
        return report, conclude(report, "inventory.yaml"), calls, recorder.photos

    def killed(self, purpose: Purpose, crash: Crash) -> bool:
        """Whether a deployer was killed there; it may have ended before."""
        try:
            self.run(purpose, crash)
        except Killed:
            return True
        return False

    def strike(self, cases: tuple[Case, ...]) -> None:
        for case in cases:
            self.hosts[case.host].strikes = {case.moment: case.fault}

    def lift(self) -> None:
        """Every fault is over; only what deploytool itself has to mend is left."""
        inventory = self.rendered.inventory
        for name, host in self.hosts.items():
            settings = self.rendered.files[name].settings
            files = dict.fromkeys(settings.configs, b"{}\n")
            files[settings.agent] = self.rendered.agents[name]
            assert host.look(_has, tuple(files))
            assert len(settings.configs) == len(inventory.config_files)
            lift(host, files)

    def before(self) -> str:
        """The release that undoing has to lead to: where nothing was begun, what is there."""
        marked = any(host.mark("rollout") for host in self.hosts.values())
        runs = {truth(host).linked for host in self.hosts.values()}
        return OLD[0].sha256 if marked or len(runs) > 1 else str(runs.pop())

    def not_on(self, release: str) -> Iterator[str]:
        """Machines that don't truly run it, alone, or on which a lock or a mark is left."""
        for name, host in self.hosts.items():
            seen = truth(host)
            if not seen.runs(release):
                yield f"{name} does not run {release[:8]}: {seen}"
            if locked_by(host) is not None:
                yield f"{name} is locked by {locked_by(host)}"
            for mark in ("rollout", "held"):
                if host.mark(mark) is not None:
                    yield f"{name} has the mark {mark!r}"


def _has(host: SimulatedHost, paths: tuple[str, ...]) -> bool:
    return all(host.computer.find(path) is not None for path in paths)


def crashes(calls: dict[str, int], records: int) -> list[Crash]:
    """Every point at which a deployer that made these calls and records can be killed."""
    found = [Crash(record=number) for number in range(1, records + 1)]
    for host, count in calls.items():
        for number in range(1, count + 1):
            found += [Crash(host=host, call=number, part=part) for part in (BEFORE, AFTER)]
    return found


def recover(found: Fleet, purpose: Purpose) -> Iterator[str]:
    """Ends what was left as a person is told to; what does not come to one release is told.

    What was on the way back is finished by ``rollback``; where the old release can't be restored
    any more, by going forward all the same. Every fault was lifted.
    """
    told: list[str] = []
    for asked, forward in ((purpose, False), (Purpose.ROLLBACK, False), (Purpose.RESUME, True)):
        undone = found.before() if asked is Purpose.ROLLBACK else NEW[0].sha256
        _, error, _, _ = found.run(asked, forward=forward)
        if error is None:
            yield from found.not_on(undone)
            return
        told.append(f"{asked.value}: exit {error.exit_code}: {error.what} {error.details}")
        if "NOTHING_INTERRUPTED" in error.what:
            yield from _afresh(found, told)
            return
    yield f"it does not converge: {told}"


def _afresh(found: Fleet, told: list[str]) -> Iterator[str]:
    """No mark and no lock is left: then any deployment can begin, and ends."""
    report, error, _, _ = found.run(Purpose.DEPLOY)
    if error is not None:
        yield f"nothing was interrupted, and a deployment ends with {error.what} {error.details}"
        yield f"after {told}, by way of {[state.value for state in report.path]}"
        return
    yield from found.not_on(NEW[0].sha256)
