"""Processes, boots and clocks of a computer in memory, as the port shows them."""

from __future__ import annotations

import signal

import pytest

from deploytool.agent.port import Interest
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.computer import FIRST_PID, Computer
from deploytool.simulation.memory.disk import Fate, sha256
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.memory.host import settings as described
from deploytool.simulation.memory.programs import build
from deploytool.simulation.memory.service import Plain

OLD = build("2026.1")


def agent_on(computer: Computer) -> MemoryAgent:
    return MemoryAgent(Plain(computer, described(supervisor="process")))


def test_a_number_comes_again_only_after_all_others() -> None:
    computer = Computer(pid_max=FIRST_PID + 200)
    first = computer.spawn(("sleep",))
    seen = [first.pid]
    computer.end(first)
    while True:
        task = computer.spawn(("sleep",))
        computer.end(task)
        if task.pid == first.pid:
            break
        seen.append(task.pid)
    assert len(seen) == len(set(seen)) == 200
    assert min(seen) == FIRST_PID
    stays = computer.spawn(("sleep",))
    later = [computer.spawn(("sleep",)) for _ in range(50)]
    assert stays.pid not in {task.pid for task in later}


def test_a_signal_reaches_that_very_process_alone() -> None:
    computer = Computer(pid_max=FIRST_PID + 2)
    agent = agent_on(computer)
    old = computer.spawn(("old",))
    computer.end(old)
    computer.time.tick(1.0)
    new = computer.spawn(("new",))
    while new.pid != old.pid:
        computer.end(new)
        new = computer.spawn(("new",))
    assert new.start != old.start
    assert not agent.processes.signal(old.pid, old.start, signal.SIGKILL)
    assert computer.alive(new)
    assert agent.processes.signal(new.pid, new.start, signal.SIGKILL)
    assert not computer.alive(new)


def test_a_process_keeps_the_file_that_was_removed() -> None:
    host = MemoryHost.prepared(OLD)
    agent = MemoryAgent(host.service)
    path = f"{host.service.root}/releases/{OLD.release}/router"
    room = host.computer.disk.room
    host.computer.remove(path)
    assert host.computer.disk.room == room, "its blocks are taken as long as it is open"
    host.computer.put(path, b"another")
    interest = Interest(root=host.service.root, ports=(7001,))
    (view,) = agent.processes.survey(interest)
    held = {file.how: file for file in view.files}
    assert held["fd"].deleted
    assert agent.processes.digest(held["fd"]) == OLD.release
    assert agent.processes.digest(held["argument"]) == sha256(b"another")


def test_a_look_shows_what_it_was_asked_for_and_its_parents() -> None:
    host = MemoryHost.prepared(OLD)
    computer = host.computer
    shell = computer.spawn(("sh",))
    copy = computer.put("/home/copy", OLD.artifact)
    stray = computer.spawn(("python3", "/home/copy", "serve"), parent=shell.pid, opens="/home/copy")
    other = computer.spawn(("nc",), account=7)
    other.peers.add("203.0.113.9:9000")
    computer.spawn(("unrelated",))
    agent = MemoryAgent(host.service)
    root = host.service.root

    def pids(interest: Interest) -> set[int]:
        return {view.process.pid for view in agent.processes.survey(interest)}

    assert host.service.main is not None
    main = host.service.main.pid
    assert pids(Interest(root=root)) == {main}
    assert pids(Interest(root=root, sizes=(len(copy.content),))) == {main, stray.pid, shell.pid}
    assert pids(Interest(root="/none", ports=(7001,))) == {main}
    assert pids(Interest(root="/none", peers=("203.0.113.9:9000",))) == {other.pid}
    assert pids(Interest(root="/none", accounts=(7,))) == {other.pid}
    assert pids(Interest(root="/none", group=host.service.group)) == {main}
    other.hidden = "its files can't be listed"
    assert pids(Interest(root="/none", whole=True)) == {other.pid}
    assert pids(Interest(root="/none", whole=False)) == set()


def test_the_clients_of_an_agent_are_told() -> None:
    host = MemoryHost.prepared(OLD)
    first, second = MemoryAgent(host.service), MemoryAgent(host.service)
    path = f"{host.service.current}/router"
    host.computer.spawn((path, "status"), parent=first.run.task.pid, opens=path)
    views = second.processes.survey(Interest(root=host.service.root))
    assert sorted(view.client for view in views) == [False, True, True]
    assert all(view.process.pid != second.run.task.pid for view in views)


@pytest.mark.parametrize("group", ["", "/", "//"])
def test_the_root_of_all_control_groups_is_no_group(group: str) -> None:
    host = MemoryHost.prepared(OLD)
    agent = MemoryAgent(host.service)
    assert agent.processes.group(group) == ()
    agent.processes.kill_group(group)
    assert host.computer.alive(host.service.main)


def test_a_boot_has_its_own_name_and_uptime() -> None:
    host = MemoryHost.prepared(OLD)
    agent = MemoryAgent(host.service)
    before = agent.machine.boot_id(), agent.machine.machine_id()
    host.pass_time(1000.0)
    assert agent.machine.uptime() > 1000.0
    host.computer.skew_s = -3600.0
    clock, uptime = agent.machine.now(), agent.machine.uptime()
    host.computer.skew_s = 3600.0
    assert 7199.0 < agent.machine.now() - clock < 7201.0
    assert 0.0 <= agent.machine.uptime() - uptime < 1.0, "the clock that is never set"
    host.reboot()
    later = MemoryAgent(host.service)
    assert later.machine.boot_id() != before[0]
    assert later.machine.machine_id() == before[1]
    assert later.machine.uptime() < 10.0


def test_two_computers_have_one_time_and_differ_in_all_else() -> None:
    one = MemoryHost.prepared(OLD)
    two = MemoryHost.prepared(OLD, time=one.computer.time, number=2)
    assert one.computer.machine_id != two.computer.machine_id
    assert one.computer.boot_id != two.computer.boot_id
    one.pass_time(100.0)
    assert one.computer.clock == two.computer.clock
    one.computer.lose_power(Fate())
    assert (one.computer.on, two.computer.on) == (False, True)
    assert two.computer.alive(two.service.main)
