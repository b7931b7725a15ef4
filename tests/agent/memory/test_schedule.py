"""Runs take turns at points: the same choices give the same interleaving."""

from __future__ import annotations

import pytest

from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.computer import Computer
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import Points, killed, loses_power
from deploytool.simulation.memory.host import settings as described
from deploytool.simulation.memory.run import Hook, Run, RunEnded, Wait
from deploytool.simulation.memory.schedule import (
    Choose,
    Deadlock,
    Job,
    Schedule,
    at_random,
    preempted,
)
from deploytool.simulation.memory.service import Plain


def counter() -> Plain:
    """A computer with a number in a file, to which two runs add: read, then write."""
    computer = Computer()
    computer.put("/srv/number", b"0")
    computer.put("/srv/mutex", b"")
    return Plain(computer, described(supervisor="process"))


def adds(service: Plain, times: int, *, locked: bool) -> Job:
    def add(agent: MemoryAgent) -> None:
        folder = agent.files.open_root("/srv")
        number = int(folder.read("number", 10)) + 1
        agent.machine.now()
        draft = agent.machine.draft()
        sink = folder.create(draft, 0o644)
        sink.write(str(number).encode())
        sink.close()
        folder.rename(draft, "number")

    def job(hook: Hook, wait: Wait) -> int:
        agent = MemoryAgent(service, hook=hook, wait=wait)
        for _ in range(times):
            if locked:
                with agent.files.open_root("/srv").lock("mutex", 100.0):
                    add(agent)
            else:
                add(agent)
        agent.run.end()
        return times

    return job


def play(choose: Choose, *, locked: bool, times: int = 3) -> tuple[int, list[tuple[str, str]]]:
    service = counter()
    schedule = Schedule(service.computer.time, choose)
    jobs = {name: adds(service, times, locked=locked) for name in ("one", "two")}
    assert schedule.run(jobs) == {"one": times, "two": times}
    return int(service.computer.read("/srv/number") or b""), schedule.trace


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_is_an_interleaving(seed: int) -> None:
    assert play(at_random(seed), locked=False) == play(at_random(seed), locked=False)


def test_seeds_differ() -> None:
    traces = [tuple(play(at_random(seed), locked=False)[1]) for seed in range(20)]
    assert len(set(traces)) > 15
    sums = {play(at_random(seed), locked=False)[0] for seed in range(20)}
    assert min(sums) < 6, "two that take no lock lose additions"


@pytest.mark.parametrize("seed", range(20))
def test_a_lock_makes_it_one_step(seed: int) -> None:
    assert play(at_random(seed), locked=True)[0] == 6


@pytest.mark.parametrize("after", range(16))
def test_one_is_preempted_once(after: int) -> None:
    number, trace = play(preempted("one", after), locked=True, times=2)
    assert number == 4
    order = [who for who, _ in trace]
    assert order[:after] == ["one"] * after
    assert order[after] == "two"


def test_a_lock_is_waited_for_no_longer_than_asked() -> None:
    service = counter()

    def holds(hook: Hook, wait: Wait) -> float:
        agent = MemoryAgent(service, hook=hook, wait=wait)
        with agent.files.open_root("/srv").lock("mutex", 0.0):
            agent.machine.sleep(30.0)
        return service.computer.time.now

    def waits(hook: Hook, wait: Wait) -> float:
        agent = MemoryAgent(service, hook=hook, wait=wait)
        agent.machine.sleep(1.0)
        with pytest.raises(TimeoutError), agent.files.open_root("/srv").lock("mutex", 10.0):
            pass
        return service.computer.time.now

    done = Schedule(service.computer.time, at_random(1)).run({"holds": holds, "waits": waits})
    assert 11.0 <= float(str(done["waits"])) < 12.0
    assert 30.0 <= float(str(done["holds"])) < 31.0


def test_a_killed_holder_frees_the_lock() -> None:
    service = counter()
    reached: list[str] = []

    def holds(hook: Hook, wait: Wait) -> None:
        points = Points(4, killed)

        def both(run: Run, what: str) -> None:
            hook(run, what)
            points(run, what)

        agent = MemoryAgent(service, hook=both, wait=wait)
        with agent.files.open_root("/srv").lock("mutex", 0.0):
            try:
                agent.machine.sleep(1.0)
                agent.machine.sleep(1.0)
                reached.append("the end")
            finally:
                agent.files.exists("/srv")  # what a killed run would still do, it does not
                reached.append("cleaning up")

    def waits(hook: Hook, wait: Wait) -> str:
        agent = MemoryAgent(service, hook=hook, wait=wait)
        agent.machine.sleep(0.5)
        with agent.files.open_root("/srv").lock("mutex", 10.0):
            return "had it"

    done = Schedule(service.computer.time, at_random(3)).run({"holds": holds, "waits": waits})
    assert isinstance(done["holds"], RunEnded)
    assert done["waits"] == "had it"
    assert reached == []


def test_a_loss_of_power_ends_every_run() -> None:
    service = counter()
    hook = Points(12, loses_power(Fate(keeps=0.0)))
    schedule = Schedule(service.computer.time, at_random(5), hook)
    done = schedule.run({name: adds(service, 3, locked=True) for name in ("one", "two")})
    assert [isinstance(outcome, RunEnded) for outcome in done.values()] == [True, True]
    assert not service.computer.on


def test_nothing_left_to_happen_is_told() -> None:
    service = counter()

    def forever(hook: Hook, wait: Wait) -> None:
        agent = MemoryAgent(service, hook=hook, wait=wait)
        agent.run.wait(lambda: False, float("inf"))

    with pytest.raises(Deadlock):
        Schedule(service.computer.time, at_random(0)).run({"one": forever, "two": forever})
