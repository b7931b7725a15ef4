"""A strike at any point of a step: a SIGKILL of the agent, or a loss of power.

What is on the host afterwards is read from its files, and a second deployer undoes or finishes what
the first left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deploytool.agent import marks
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import MemoryHost, Points, killed, loses_power
from deploytool.simulation.memory.programs import Build
from deploytool.simulation.memory.run import Run, RunEnded

from .deploying import (
    DEADMAN_S,
    NEW,
    OLD,
    STEPS,
    Deployer,
    No,
    linked,
    points_of,
    prepared,
    running,
    state_of,
)

REORDERED = "in any order"
"""In the name of a strike after which names may have come to the disk in any order."""


def strikes(point: int, seeds: int) -> Iterator[tuple[str, Callable[[Run], None]]]:
    """Every strike, and so many losses of power of either kind that keep what a seed says."""
    yield "killed", killed
    for keeps in (0.0, 1.0):
        yield f"power lost, {keeps:g} kept", _loses(0, keeps, ordered=True)
    for number in range(seeds):
        seed = number * 7919 + point
        yield f"power lost, seed {seed}", _loses(seed, 0.5, ordered=True)
        yield f"power lost, {REORDERED}, seed {seed}", _loses(seed, 0.5, ordered=False)


def _loses(seed: int, keeps: float, *, ordered: bool) -> Callable[[Run], None]:
    return loses_power(Fate(seed, keeps, ordered=ordered))


def files_of(host: MemoryHost) -> Iterator[str]:
    """Marks, link, and releases: whole, each of them."""
    found = marks.read_all(state_of(host))
    if found.unreadable:
        yield f"marks can't be read: {found.unreadable}"
    if found.lock is not None and found.token < found.lock.token:
        yield f"the lock has token {found.lock.token}, and the newest is {found.token}"
    if linked(host) not in {OLD.release, NEW.release}:
        yield f"current leads to {linked(host)}"
    for made in (OLD, NEW):
        yield from _release(host, made)


def _release(host: MemoryHost, made: Build) -> Iterator[str]:
    folder = f"{host.service.root}/releases/{made.release}"
    if host.computer.find(folder) is None:
        if made is OLD or linked(host) == made.release:
            yield f"release {made.program.version} is gone"
        return
    for name, content in (("router", made.artifact), ("release.json", made.manifest)):
        node = host.computer.find(f"{folder}/{name}")
        if node is None or node.content != content or node.on_disk != content:
            yield f"{name} of {made.program.version} is not whole"
    artifact = host.computer.find(f"{folder}/router")
    if artifact is not None and artifact.mode != 0o555:
        yield f"the artifact of {made.program.version} has mode {artifact.mode:o}"


def way_back(host: MemoryHost, plan: str) -> Iterator[str]:
    """Whoever comes next can tell what was here before."""
    found = marks.read_all(state_of(host))
    if linked(host) != NEW.release:
        return
    told = [mark.before for mark in (found.rollout, found.finished) if mark is not None]
    if not told or told[0] != OLD.release:
        yield f"{plan} switched here, and no mark names the release before"


def _no_mark_alone(host: MemoryHost) -> Iterator[str]:
    """A mark without a lock would be taken for that of whoever takes the lock next."""
    found = marks.read_all(state_of(host))
    if found.rollout is not None and found.lock is None:
        yield "a rollout is marked, and the host is not locked"


def kept(host: MemoryHost, done: list[str], current: str) -> Iterator[str]:
    """What was answered is still so, unless the step that was struck takes it back."""
    found = marks.read_all(state_of(host))
    if "lock" in done and found.lock is None and current != "unlock":
        yield "the lock was given, and is gone"
    if "lock" in done and found.rollout is None and current != "unlock":
        yield "the rollout was marked, and the mark is gone"
    staged = host.computer.find(f"{host.service.root}/releases/{NEW.release}")
    if "stage" in done and staged is None:
        yield "the release was staged, and is gone"
    if "activate" in done and linked(host) != NEW.release:
        yield "it was switched, and leads elsewhere"
    if "activate" in done and current == "activate" and found.deadman is None:
        yield "the dead-man was armed, and is gone"
    if "confirm" in done and (found.verified is None or found.verified.release != NEW.release):
        yield "it was confirmed, and is not"
    if "confirm" in done and found.deadman is not None:
        yield "it was confirmed, and its dead-man is back"
    if "unlock" in done and found.lock is not None:
        yield "the lock was released, and is back"
    if "unlock" in done and (found.finished is None or found.finished.before != OLD.release):
        yield "the rollout was finished, and that is not told"


def _serves(host: MemoryHost, done: list[str], current: str) -> Iterator[str]:
    """After a reboot nothing serves that was switched to and never confirmed."""
    runs = running(host)
    if runs is not None and runs != linked(host):
        yield f"{runs[:8]} runs, and current leads to {str(linked(host))[:8]}"
    if runs == NEW.release and "confirm" not in done and current != "confirm":
        yield "a release that was never confirmed serves after a reboot"
    if runs is None and "confirm" in done:
        yield "a release that was confirmed does not serve after a reboot"
    if runs is None and not done:
        yield "nothing was switched, and the service did not come back"


@dataclass(frozen=True)
class Case:
    """A strike at one point of one step; ``point`` 0: after the step was answered."""

    supervisor: str
    step: str
    point: int
    strike: str

    def __str__(self) -> str:
        return f"{self.supervisor}, {self.step}, point {self.point}, {self.strike}"


def _fingerprint(host: MemoryHost) -> tuple[object, ...]:
    """All of a host that what comes after may depend on."""
    tree = host.computer.disk.tree()
    files = tuple((p, n.kind, n.mode, n.content, n.on_disk) for p, n in sorted(tree.items()))
    timer = host.service.timer is not None and not host.service.timer.cleared
    return files, running(host), timer, host.computer.boots, getattr(host.service, "active", "")


def crash(case: Case, strike: Callable[[Run], None], seen: set[object]) -> Iterator[str]:
    """Strikes, opens the host again, and has a second deployer undo or finish it.

    ``seen``: what was found on hosts before, which is not looked at again.
    """
    host, first = _struck(case, strike)
    lost_power = not host.computer.on
    if lost_power:
        host.reboot()
    found = tuple(first.done), _fingerprint(host)
    if found in seen:
        return
    seen.add(found)
    yield from files_of(host)
    if REORDERED not in case.strike:
        yield from _no_mark_alone(host)
    yield from way_back(host, first.plan)
    yield from kept(host, first.done, case.step)
    if lost_power and case.supervisor == "systemd":
        yield from _serves(host, first.done, case.step)
    for name, ends in (("undone", undo), ("finished", finish)):
        host, first = _struck(case, strike)
        if not host.computer.on:
            host.reboot()
        try:
            yield from (f"{name}: {text}" for text in ends(host, first))
        except No as no:
            yield f"it can't be {name}: {no}"


def _struck(case: Case, strike: Callable[[Run], None]) -> tuple[MemoryHost, Deployer]:
    host = prepared(case.supervisor)
    deployer = Deployer(host, "first")
    for name in STEPS[: STEPS.index(case.step)]:
        deployer.step(name)
    deployer.hook = Points(case.point, strike) if case.point else None
    try:
        deployer.step(case.step)
    except RunEnded:
        return host, deployer
    if case.point == 0:
        strike(MemoryAgent(host.service).run)
    return host, deployer


def undo(host: MemoryHost, first: Deployer) -> Iterator[str]:
    """Another deployer brings the old release back, as ``rollback`` does."""
    second = Deployer(host, "second", build=OLD, purpose="rollback", deadman=0)
    yield from _by(host, first, second, OLD)


def finish(host: MemoryHost, first: Deployer) -> Iterator[str]:
    """Another deployer brings the new release to its end, as ``resume`` does."""
    second = Deployer(host, "second", build=NEW, purpose="resume")
    yield from _by(host, first, second, NEW)


def _by(host: MemoryHost, first: Deployer, second: Deployer, wanted: Build) -> Iterator[str]:
    found = marks.read_all(state_of(host))
    newest = max(found.token, found.lock.token if found.lock is not None else 0, first.token)
    second.lock(found.lock.token if found.lock is not None else None)
    if second.token <= newest:
        yield f"token {second.token} was given out again, after {newest}"
    for name in STEPS[1:]:
        second.step(name)
    host.pass_time(2.0 * DEADMAN_S)  # a timer that the first one set rings meanwhile
    yield from files_of(host)
    if linked(host) != wanted.release or running(host) != wanted.release:
        yield f"{wanted.program.version} was asked for, and does not run"
    left = marks.read_all(state_of(host))
    if left.lock is not None or left.rollout is not None or left.deadman is not None:
        yield f"marks are left: {left}"
    names = host.computer.find(f"{host.service.root}/releases")
    if names is not None and any(name.startswith(".") for name in names.entries):
        yield f"drafts are left: {sorted(names.entries)}"


def crashes(
    step: str, supervisor: str = "systemd", *, seeds: int = 2
) -> Iterator[tuple[Case, Callable[[Run], None]]]:
    """Every strike after a step, and at every point of it."""
    for point in (0, *points_of(step, supervisor)):
        for name, strike in strikes(point, seeds):
            yield Case(supervisor, step, point, name), strike


def crash_violations(step: str, supervisor: str = "systemd", *, seeds: int = 2) -> Iterator[str]:
    """What is wrong after any strike at any point of a step."""
    seen: set[object] = set()
    try:
        for case, strike in crashes(step, supervisor, seeds=seeds):
            yield from (f"{case}: {text}" for text in crash(case, strike, seen))
    except No as no:
        yield f"{step}: where nothing strikes, it is refused: {no}"
