"""Deployers come one after the other, or two at once, and are struck at any point; one ends it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from deploytool.agent import marks
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import MemoryHost, Points, killed, loses_power
from deploytool.simulation.memory.programs import Build
from deploytool.simulation.memory.run import Hook, Run, RunEnded, Wait
from deploytool.simulation.memory.schedule import Job, Schedule, at_random

from .deploying import (
    DEADMAN_S,
    NEW,
    OLD,
    OTHER,
    STEPS,
    Deployer,
    No,
    linked,
    prepared,
    running,
    state_of,
)

BUILDS = (OLD, NEW, OTHER)
POINTS = 320
"""A whole rollout has about so many."""


class _Tokens:
    """Every token that was ever given out, which only grow."""

    def __init__(self) -> None:
        self.newest = 0

    def given(self, token: int, *, again: bool) -> Iterator[str]:
        if token < self.newest or (token == self.newest and not again):
            yield f"token {token} was given out after {self.newest}"
        self.newest = max(self.newest, token)


def _whole(host: MemoryHost) -> Iterator[str]:
    """Marks can be read, and each release is what its name says."""
    found = marks.read_all(state_of(host))
    if found.unreadable:
        yield f"marks can't be read: {found.unreadable}"
    if found.lock is not None and found.token < found.lock.token:
        yield f"the lock has token {found.lock.token}, and the newest is {found.token}"
    releases = host.computer.find(f"{host.service.root}/releases")
    names = [] if releases is None else [n for n in releases.entries if not n.startswith(".")]
    known = {build.release: build for build in BUILDS}
    for name in names:
        artifact = host.computer.find(f"{host.service.root}/releases/{name}/router")
        if artifact is None or artifact.on_disk != known[name].artifact:
            yield f"release {known[name].program.version} is not whole"
    if linked(host) not in names:
        yield f"current leads to {linked(host)}, which is not here"


def _takes(host: MemoryHost, deployer: Deployer) -> bool:
    """Takes the lock, from whoever has it; whether it was the deployer's own already."""
    for left in (2, 1, 0):
        found = marks.read_all(state_of(host))
        try:
            deployer.lock(found.lock.token if found.lock is not None else None)
        except No:
            if left == 0:
                raise
        else:
            return found.lock is not None and found.lock.plan == deployer.plan
    raise AssertionError("it is taken or refused")


def _comes(
    host: MemoryHost, drawn: random.Random, plan: str, build: Build, tokens: _Tokens
) -> tuple[Deployer, Iterator[str]]:
    """A deployer that takes the lock over where it is held."""
    deployer = Deployer(host, plan, build=build, deadman=drawn.choice((0, DEADMAN_S)))

    def rollout() -> Iterator[str]:
        again = _takes(host, deployer)
        deployer.done.append("lock")
        yield from tokens.given(deployer.token, again=again)
        for name in STEPS[1:]:
            deployer.step(name)

    return deployer, rollout()


def marathon_violations(seed: int, supervisor: str = "systemd") -> Iterator[str]:
    """Some deployers that are all struck, and one that is not."""
    drawn = random.Random(seed)  # noqa: S311 it draws cases
    host, tokens = prepared(supervisor), _Tokens()
    for number in range(drawn.randint(1, 4)):
        deployer, rollout = _comes(host, drawn, f"plan{number}", drawn.choice(BUILDS), tokens)
        deployer.hook = Points(drawn.randint(1, POINTS), _strike(drawn))
        try:
            yield from rollout
        except RunEnded:
            pass
        except No as no:
            yield f"plan{number} was refused: {no}"
        if not host.computer.on:
            host.reboot()
        host.pass_time(drawn.choice((0.0, 10.0, 2.0 * DEADMAN_S)))
        yield from (f"after plan{number}: {text}" for text in _whole(host))
    yield from _ended(host, drawn, tokens)


def _strike(drawn: random.Random) -> Callable[[Run], None]:
    if drawn.random() < 0.4:
        return killed
    return loses_power(Fate(drawn.randrange(1 << 30), drawn.choice((0.0, 0.5, 0.9)), ordered=True))


def _ended(host: MemoryHost, drawn: random.Random, tokens: _Tokens) -> Iterator[str]:
    build = drawn.choice(BUILDS)
    _, rollout = _comes(host, drawn, "last", build, tokens)
    try:
        yield from rollout
    except No as no:
        yield f"the last one was refused: {no}"
        return
    host.pass_time(2.0 * DEADMAN_S)
    yield from (f"in the end: {text}" for text in _whole(host))
    if (linked(host), running(host)) != (build.release, build.release):
        yield f"in the end: {build.program.version} does not run"
    found = marks.read_all(state_of(host))
    if found.lock or found.rollout or found.deadman or found.expired:
        yield f"in the end: {found}"
    if found.verified is None or found.verified.release != build.release:
        yield f"in the end: verified is {found.verified}"


def contest_violations(seed: int, supervisor: str = "systemd") -> Iterator[str]:
    """Two at once, in any order of their calls; one may take the lock of the other."""
    drawn = random.Random(seed)  # noqa: S311 it draws cases
    host, tokens = prepared(supervisor), _Tokens()
    found: list[str] = []

    def job(plan: str, build: Build, seed: int) -> Job:
        def rolls(hook: Hook, wait: Wait) -> str:
            own = random.Random(seed)  # noqa: S311 it draws cases
            try:
                deployer, rollout = _comes(host, own, plan, build, tokens)
                deployer.hook, deployer.wait = hook, wait
                found.extend(rollout)
            except No as no:
                return str(no)
            return "done"

        return rolls

    jobs = {
        name: job(name, build, drawn.randrange(1 << 30))
        for name, build in (("one", NEW), ("two", OTHER))
    }
    schedule = Schedule(host.computer.time, at_random(seed, drawn.choice((0.05, 0.3))))
    ends = schedule.run(jobs)
    yield from found
    yield from (f"{ends}: {text}" for text in _whole(host))
    done = [name for name, end in ends.items() if end == "done"]
    if not done:
        yield f"both were refused: {ends}"
    yield from (f"{ends}: {text}" for text in _ended(host, drawn, tokens))
