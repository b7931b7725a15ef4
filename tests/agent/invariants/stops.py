"""A stop comes at any point of an activation, or before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deploytool.agent.requests import Halt
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.memory.host import settings as described
from deploytool.simulation.memory.run import Hook, Wait
from deploytool.simulation.memory.schedule import Job, Schedule, preempted
from deploytool.simulation.memory.service import MemorySystemd

from .deploying import (
    DEADMAN_S,
    NEW,
    OLD,
    Deployer,
    No,
    points_of,
    prepared,
    running,
    snapshot,
)

LATCH = "ab12"
LATCHED = f"latch {LATCH}\nby ann@here\nreason runaway\nsince 1\n"


def _halts(host: MemoryHost, hook: Hook | None, wait: Wait | None) -> None:
    request = Halt(latch=LATCH, by="ann@here", reason="runaway", since=1, seconds=2)
    host.ask(request, hook=hook, wait=wait)


def _fences(host: MemoryHost, hook: Hook | None, wait: Wait | None) -> None:
    """What the last rungs of a stop do, without a mutex: latch, mark, mask, and kill."""
    agent = MemoryAgent(host.service, hook=hook, wait=wait)
    state = agent.files.open_root(f"{host.service.root}/state")
    for name, text in (("halted", LATCHED), ("fenced", "")):
        sink = state.create(f".{name}.rung", 0o644)
        sink.write(text.encode())
        sink.close()
        state.rename(f".{name}.rung", name)
    agent.supervisor.mask()
    agent.processes.kill_group(host.service.group)
    for task in host.service.of_this_root():
        agent.processes.signal(task.pid, task.start, 9)
    agent.run.end()


Stop = Callable[[MemoryHost, "Hook | None", "Wait | None"], None]


def stop_violations() -> Iterator[str]:
    """A stop that comes at any point of an activation holds when both have ended."""
    yield from _stopped_before()
    yield from _latched_without_the_artifact()
    stops: dict[str, Stop] = {"halted": _halts, "fenced": _fences}
    for supervisor in ("systemd", "process"):
        for name, stop in stops.items():
            every = supervisor == "systemd"
            for after in (*points_of("activate", supervisor, every=every), 1000):
                for text in _stopped(supervisor, stop, after, fenced=name == "fenced"):
                    yield f"{supervisor}, {name} at point {after} of an activation: {text}"


def _stopped(supervisor: str, stop: Stop, after: int, *, fenced: bool) -> Iterator[str]:
    host = prepared(supervisor)
    first = Deployer(host, "first")
    first.step("lock")
    first.step("stage")

    def activates(hook: Hook, wait: Wait) -> str:
        first.hook, first.wait = hook, wait
        try:
            first.step("activate")
        except No as no:
            return str(no)
        return "done"

    jobs: dict[str, Job] = {"first": activates, "stop": lambda h, w: stop(host, h, w)}
    Schedule(host.computer.time, preempted("first", after)).run(jobs)
    host.pass_time(2.0 * DEADMAN_S)
    if host.mark("halted") is None:
        yield "the latch is gone"
    mind = host.service.minds.get(host.service.main) if host.service.main else None
    if fenced and running(host) is not None:
        yield "it was fenced, and runs"
    if fenced and isinstance(host.service, MemorySystemd) and not host.service.masked:
        yield "it was fenced, and its unit is not masked"
    if not fenced and running(host) is not None and (mind is None or not mind.halted):
        yield "it was halted, and sends"


def _stopped_before() -> Iterator[str]:
    """A deployer that does not know of the stop changes nothing; fenced, not one that does."""
    for stop, latch in ((_halts, None), (_halts, "cd34"), (_fences, None), (_fences, LATCH)):
        host = prepared()
        first = Deployer(host, "first")
        first.step("lock")
        host.place(NEW)
        stop(host, None, None)
        first.latch = latch
        for name in ("stage", "activate"):
            before = snapshot(host)
            try:
                first.step(name)
                yield f"{name} of a host that was stopped was done, with latch {latch}"
            except No:
                pass
            if snapshot(host) != before:
                yield f"{name} changed a host that was stopped, with latch {latch}"


def _latched_without_the_artifact() -> Iterator[str]:
    """A stop is latched on the host whether the artifact can halt or not."""
    host = MemoryHost.prepared(OLD, described=described().but(halt=None))
    _halts(host, None, None)
    if host.mark("halted") != LATCHED:
        yield f"an artifact without a halt: the latch says {host.mark('halted')}"
