"""Halt, kill strays, and what is alive afterwards: no mutex, no token, no healthy systemd."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from deploytool.agent.model import Survey
from deploytool.agent.requests import (
    Halt,
    Halted,
    HaltRelease,
    Killed,
    KillStrays,
    LatchShown,
    LookAfterStop,
    ShowLatch,
    Surveyed,
)
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.computer import Task
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import Points, killed, loses_power
from deploytool.simulation.memory.run import Run, RunEnded
from deploytool.simulation.memory.supervisor import MemorySupervisor

from .ground import ONE, TWO, Ground

ROUTER, ELSE = 999, 1000


def halting(**words: Any) -> Halt:
    said = {"latch": "ab12", "by": "ann@here", "reason": "too many orders", "since": 5}
    kind = HaltRelease if "only" in words else Halt
    return kind(**{**said, "seconds": 2, **words})


def halt(ground: Ground, **words: Any) -> Halted:
    answer = ground.done(halting(**words))
    assert isinstance(answer, Halted)
    return answer


def survey(ground: Ground) -> Survey:
    answer = ground.done(LookAfterStop())
    assert isinstance(answer, Surveyed)
    return answer.survey


def kill(ground: Ground, seconds: int = 2) -> int:
    answer = ground.done(KillStrays(seconds=seconds))
    assert isinstance(answer, Killed)
    return answer.killed


def copy(ground: Ground, *, account: int = ELSE, parent: int = 1) -> Task:
    """A process that executes a copy of the release, outside of the unit."""
    ground.host.computer.put("/tmp/x", ONE.artifact, 0o755)
    return ground.host.computer.spawn(
        ("/tmp/x",), opens="/tmp/x", how="exe", account=account, parent=parent
    )


@pytest.fixture
def served(ground: Ground) -> Ground:
    ground.deploy(ONE)
    return ground


@pytest.fixture
def systemd() -> Ground:
    ground = Ground("systemd")
    ground.deploy(ONE)
    return ground


def halted(ground: Ground) -> bool:
    return ground.host.service.minds[ground.main].halted


# --- halt -----------------------------------------------------------------------------------------


def test_p6_the_service_is_halted_and_latched_and_goes_on_running(served: Ground) -> None:
    main = served.main
    answer = halt(served)
    assert (answer.latched, answer.synced, answer.skipped) == (True, True, False)
    assert answer.said is not None
    assert '"trading_state": "HALTED"' in answer.said.answer
    assert answer.strays == ()
    assert (served.main, halted(served)) == (main, True)
    latch = served.marked("halted")
    assert latch["latch"] == "ab12"
    assert latch["by"] == "ann@here"
    assert latch["reason"] == "too many orders"
    assert latch["artifact"].startswith("latch-"), "what the artifact calls its own"


def test_p6_a_latch_says_whom_the_stop_was_for(served: Ground) -> None:
    halt(served, hosts="router1 router2")
    latch = served.marked("halted")
    assert latch["hosts"] == "router1 router2"
    assert latch["artifact"].startswith("latch-")


def test_p6_the_latch_is_written_before_anything_else(served: Ground) -> None:
    seen = Points()
    served.done(halting(), hook=seen)
    changes = [
        what
        for what in seen.seen
        if what.startswith(("create", "rename", "write", "run ", "signal", "survey", "state of"))
    ]
    assert changes[0].startswith("create"), changes
    assert next(w for w in changes if w.startswith(("rename", "run "))).startswith("rename")


def test_p6_an_answer_of_synced_outlives_a_loss_of_power(served: Ground) -> None:
    assert halt(served).synced
    served.host.reboot(Fate(keeps=0.0))
    assert served.marked("halted")["latch"] == "ab12"


def test_p6_cut_short_anywhere_it_can_be_asked_again(served: Ground) -> None:
    seen = Points()
    served.done(halting(), hook=seen)
    for at in range(1, len(seen.seen) + 1):
        again = Ground(served.supervisor)
        again.deploy(ONE)
        strike = killed if at % 2 else loses_power(Fate(at))
        with pytest.raises(RunEnded):
            again.ask(halting(), hook=Points(at, strike))
        if not again.host.computer.on:
            again.host.reboot()
        answer = halt(again, latch="cd34")
        assert (answer.latched, answer.synced) == (True, True)
        assert again.serves is None or halted(again)
        assert again.marked("halted")["latch"] == "cd34", "the later stop's latch holds"


def test_p6_it_waits_for_no_change_and_asks_for_no_token(served: Ground) -> None:
    """A change hangs under the mutex."""
    agent = MemoryAgent(served.host.service)
    served.lock("plan2", holder="someone@else")
    with agent.files.open_root(f"{served.root}/state").lock("mutex", 0.0):
        assert halt(served).latched
        assert kill(served) == 0
        assert survey(served).latched
        assert isinstance(served.done(ShowLatch()), LatchShown)


def test_p6_a_stop_writes_nothing_but_its_latch(systemd: Ground) -> None:
    """The disk may be what is wrong with the host."""
    systemd.host.place(TWO)  # no look has seen it
    copy(systemd)
    before = systemd.snapshot()
    halt(systemd)
    kill(systemd)
    survey(systemd)
    after = systemd.snapshot()
    changed = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
    assert changed == {"/state/halted", "/state/service/halted"}


@pytest.mark.parametrize("how", ["read-only", "full"])
def test_p6_a_disk_that_takes_no_latch_keeps_no_host_from_being_halted(
    served: Ground, how: str
) -> None:
    disk = served.host.computer.disk
    if how == "read-only":
        disk.read_only = True
    else:
        disk.room = 0
    answer = halt(served)
    assert (answer.latched, answer.synced) == (False, False)
    assert halted(served)


@pytest.mark.parametrize("what", ["halted", "state"])
def test_p6_a_latch_that_is_not_on_the_disk_is_said_to_be_none(served: Ground, what: str) -> None:
    served.host.computer.disk.failing[("sync", what)] = errno.EIO
    answer = halt(served)
    assert (answer.latched, answer.synced) == (True, False)


def test_what_does_not_halt_is_told_at_once(systemd: Ground) -> None:
    """It is fenced next: neither a second look nor a sync is waited for."""
    systemd.change(halt=None)
    copy(systemd)
    answer = halt(systemd)
    assert (answer.latched, answer.synced, answer.strays) == (True, False, ())


@pytest.mark.parametrize(
    "answer",
    ['x "trading_state":"HALTED"', '{"said": "\\"trading_state\\":\\"HALTED\\""}', "", "[]", "{}"],
)
def test_an_answer_is_read_and_not_searched(
    served: Ground, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    from deploytool.simulation.memory import artifact

    monkeypatch.setattr(artifact, "ask", lambda *_: artifact.ArtifactSaid(0, answer))
    copy(served)
    assert halt(served).synced is False


def test_the_artifact_s_own_signal_reaches_all_of_the_service_and_nothing_else(
    systemd: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = systemd.host.computer.spawn(
        ("worker",), parent=systemd.main.pid, account=ROUTER, group=systemd.host.service.group
    )
    beside = copy(systemd)
    sent: list[tuple[int, int]] = []
    computer = systemd.host.computer
    monkeypatch.setattr(computer, "signal", lambda task, number: sent.append((task.pid, number)))
    systemd.change(halt_signal="USR1")
    halt(systemd)
    assert sorted(sent) == sorted([(systemd.main.pid, 10), (child.pid, 10)])
    assert beside.pid not in dict(sent)


def test_p6_a_systemd_that_hangs_is_not_asked(
    systemd: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: object) -> None:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(MemorySupervisor, "state", hangs)
    answer = halt(systemd)
    assert (answer.latched, answer.synced, answer.strays) == (True, True, ())
    assert [process.pid for process in survey(systemd).alive] == [systemd.main.pid]


# --- only one release -----------------------------------------------------------------------------


def test_another_release_is_left_alone(served: Ground) -> None:
    answer = halt(served, only=TWO.release[:12])
    assert (answer.skipped, answer.latched) == (True, False)
    assert served.mark("halted") is None
    assert not halted(served)


@pytest.mark.parametrize("digits", [4, 12, 64])
def test_the_release_that_is_meant_is_halted(served: Ground, digits: int) -> None:
    assert not halt(served, only=ONE.release[:digits]).skipped
    assert halted(served)


@pytest.mark.parametrize("what", ["target", "before", "unreadable", "link", "stray", "hidden"])
def test_what_may_run_the_release_is_halted(systemd: Ground, what: str) -> None:
    """Here TWO is meant; ONE serves."""
    computer = systemd.host.computer
    if what in {"target", "before"}:
        other = {"target": "before", "before": "target"}[what]
        lines = f"{what} {TWO.release}\n{other} none\n"
        systemd.write("rollout", f"plan p\n{lines}phase activating\nsince 1\n")
    elif what == "unreadable":
        systemd.spoil("rollout")
    elif what == "link":
        computer.link(f"{systemd.root}/current", "elsewhere")
    elif what == "stray":
        systemd.host.place(TWO)
        computer.put("/tmp/y", TWO.artifact, 0o755)
        computer.spawn(("/tmp/y",), opens="/tmp/y", how="exe")
    else:
        copy(systemd).hidden = "its executable can't be read"
    assert not halt(systemd, only=TWO.release[:12]).skipped


def test_a_passer_by_does_not_have_another_release_halted(systemd: Ground) -> None:
    task = copy(systemd)
    task.hidden = "its executable can't be read"
    systemd.host.computer.time.after(0.2, lambda: systemd.host.computer.end(task))
    assert halt(systemd, only=TWO.release[:12]).skipped


# --- strays ---------------------------------------------------------------------------------------


def test_p6_a_stray_is_told_and_killed_and_the_halted_service_is_not(systemd: Ground) -> None:
    stray = copy(systemd)
    (found,) = halt(systemd).strays
    assert (found.pid, found.role, found.release) == (stray.pid, "acts", ONE.release)
    main = systemd.main
    assert kill(systemd) == 1
    assert not systemd.host.computer.alive(stray)
    assert systemd.main is main
    assert halt(systemd).strays == ()


def test_a_passer_by_is_no_stray(systemd: Ground) -> None:
    task = copy(systemd)
    systemd.host.computer.time.after(0.2, lambda: systemd.host.computer.end(task))
    assert halt(systemd).strays == ()


def test_who_only_reads_or_only_runs_as_the_account_is_not_touched(systemd: Ground) -> None:
    computer = systemd.host.computer
    path = f"{systemd.root}/releases/{ONE.release}/router"
    computer.put("/usr/bin/less", b"\x7fELF less\n", 0o755)
    reader = computer.spawn(("less", path), opens="/usr/bin/less", how="exe")
    node = computer.find(path)
    assert node is not None
    computer.hold(reader, node)
    shell = computer.spawn(("less",), opens="/usr/bin/less", how="exe", account=ROUTER)
    assert halt(systemd).strays == ()
    assert kill(systemd) == 0
    assert computer.alive(reader)
    assert computer.alive(shell)
    shown = survey(systemd)
    assert {o.pid: o.role for o in shown.others} == {reader.pid: "reader", shell.pid: "account"}
    assert [process.pid for process in shown.alive] == [systemd.main.pid]


def test_p6_what_starts_a_stray_again_and_again_is_ended_too(systemd: Ground) -> None:
    computer = systemd.host.computer
    computer.put("/bin/dash", b"\x7fELF dash\n", 0o755)
    loop = computer.spawn(("sh", "loop"), opens="/bin/dash", how="exe", account=ROUTER)

    def again() -> None:
        if computer.alive(loop):
            copy(systemd, account=ROUTER, parent=loop.pid).ended.append(again)

    again()
    assert kill(systemd) >= 2
    assert not computer.alive(loop)
    assert [process.pid for process in survey(systemd).alive] == [systemd.main.pid]


def test_p6_a_moment_without_strays_is_not_the_end(systemd: Ground) -> None:
    """What starts them is between two of them."""
    computer = systemd.host.computer
    computer.put("/bin/dash", b"\x7fELF dash\n", 0o755)
    loop = computer.spawn(("sh", "loop"), opens="/bin/dash", how="exe", account=ROUTER)
    copy(systemd)

    def again() -> None:
        copy(systemd, account=ROUTER, parent=loop.pid)

    computer.time.after(0.15, again)
    assert kill(systemd) == 3
    assert not computer.alive(loop)


def test_a_stray_that_does_not_end_holds_nothing_up(systemd: Ground) -> None:
    task = copy(systemd)
    task.stubborn = True
    before = systemd.host.computer.uptime
    assert kill(systemd, seconds=3) == 1, "it is one process, however often it is signalled"
    assert systemd.host.computer.uptime - before < 4
    assert task.pid in [process.pid for process in survey(systemd).alive]


def test_a_number_that_was_given_anew_is_not_signalled(systemd: Ground) -> None:
    computer = systemd.host.computer
    task = copy(systemd)

    def replaced(_run: Run, what: str) -> None:
        if what == f"signal 9 to {task.pid}" and computer.alive(task):
            computer.end(task)
            innocent = computer.spawn(("editor",), account=ELSE)
            del computer.tasks[innocent.pid]
            innocent.pid, innocent.start = task.pid, task.start + 1
            computer.tasks[task.pid] = innocent

    assert systemd.done(KillStrays(seconds=1), hook=replaced).killed == 0
    assert computer.tasks[task.pid].argv == ("editor",)


# --- what is alive --------------------------------------------------------------------------------


def test_p6_silence_is_shown_where_nothing_is_left(ground: Ground) -> None:
    shown = survey(ground)
    assert (shown.alive, shown.owners, shown.open_ports, shown.others) == ((), (), (), ())
    assert (shown.latched, shown.fenced) == (False, False)


def test_what_is_alive_is_shown(served: Ground) -> None:
    shown = survey(served)
    assert [process.pid for process in shown.alive] == [served.main.pid]
    assert [(owner.port, owner.pid) for owner in shown.owners] == [(7001, served.main.pid)]
    assert shown.open_ports == (7001,)


@pytest.mark.parametrize("how", ["", "spoilt"])
def test_a_latch_that_cannot_be_read_is_a_latch(served: Ground, how: str) -> None:
    halt(served)
    served.write("fenced")
    if how:
        served.spoil("halted")
    shown, told = survey(served), served.done(ShowLatch())
    for one in (shown, told):
        assert (one.latched, one.fenced, one.latch is None) == (True, True, bool(how))
