"""Activate, confirm, expire and retire: what runs, whether it was verified, and for how long."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from deploytool.agent.model import Asked
from deploytool.agent.requests import Activated, Expire, RefusedAnswer, Retire
from deploytool.agent.settings import SocketSetting
from deploytool.simulation.memory.commands import MemoryCommands
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.run import Run
from deploytool.simulation.memory.service import MemorySystemd, Quirk

from .ground import ONE, SHA, TWO, Ground, claim, switch

BOOT = "00000000-0000-0000-0000-000000000000"
LATCH = "latch ab12\nby me\nreason why\nsince 1\n"


def staged(ground: Ground, *made: Any, plan: str = "plan1") -> int:
    token = ground.lock(plan, release=made[0].release)
    for one in made:
        ground.stage(one, token)
    return token


# --- activate ------------------------------------------------------------------------------------


def test_p1_what_is_activated_runs_and_is_shown(ground: Ground) -> None:
    token = staged(ground, ONE)
    answer = ground.activate(ONE, token)
    assert (ground.serves, ground.linked) == (ONE.release, f"releases/{ONE.release}")
    assert answer.complaint == ""
    assert answer.evidence is not None
    assert answer.evidence.main == ground.main.pid
    assert answer.evidence.marks.rollout is not None
    assert answer.evidence.marks.rollout.phase == "activating"
    assert {run.sha for run in answer.evidence.runs} == {ONE.release}


def test_p1_only_what_is_staged_can_be_activated(ground: Ground) -> None:
    token = ground.lock()
    before = ground.snapshot()
    assert ground.refused(switch(ONE, token)) == "not-staged"
    assert ground.snapshot() == before, "not even its mark says that it was begun"


def test_p1_a_restart_is_a_new_process_and_takes_the_mark_away(ground: Ground) -> None:
    token = staged(ground, ONE, TWO)
    ground.activate(ONE, token)
    first = ground.confirmation(token)
    ground.done(first)
    ground.activate(TWO, token)
    assert ground.mark("verified") is None
    assert ground.serves == TWO.release
    assert ground.refused(first) == "moved-on"


def test_activating_nothing_leaves_nothing_running(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.activate(ONE, token, deadman=60)
    ground.activate(None, token)
    assert (ground.serves, ground.linked) == (None, None)
    assert [ground.mark(name) for name in ("deadman", "verified")] == [None, None]
    ground.activate(None, token)


def test_p1_a_switch_outlives_a_loss_of_power(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.activate(ONE, token)
    ground.confirm(token)
    ground.host.reboot(Fate(keeps=0.0))
    assert ground.linked == f"releases/{ONE.release}"
    assert ground.marked("verified")["release"] == ONE.release
    assert ground.marked("rollout")["phase"] == "confirmed"


def test_a_service_that_does_not_come_up_is_shown_as_it_is(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.host.service.quirks.add(Quirk.WONT_START)
    answer = ground.activate(ONE, token)
    assert answer.evidence is not None
    assert answer.evidence.main == 0
    assert answer.evidence.status is None
    assert ground.refused(claim("plan2")) == "locked"


def test_a_host_that_was_switched_and_can_t_be_shown_is_no_refusal(ground: Ground) -> None:
    """A refusal would say that nothing was changed."""
    token = staged(ground, ONE)
    ground.remove("probe.lock")
    answer = ground.activate(ONE, token)
    assert answer.evidence is None
    assert "could not be shown" in answer.complaint
    assert ground.serves == ONE.release


def test_what_the_supervisor_complains_of_is_told() -> None:
    ground = Ground("systemd")
    token = staged(ground, ONE)
    assert isinstance(ground.host.service, MemorySystemd)
    ground.host.service.mask = lambda: "yes"  # type: ignore[method-assign]
    ground.host.service.unmask = lambda: None  # type: ignore[method-assign]
    ground.host.computer.link("/etc/systemd/system/router.service", "/dev/null")
    answer = ground.activate(ONE, token)
    assert "masked" in answer.complaint
    assert ground.serves is None


@pytest.mark.parametrize("release", [ONE, None])
def test_a_service_that_can_t_be_stopped_is_not_left_for_stopped(
    ground: Ground, release: Any
) -> None:
    token = staged(ground, ONE)
    ground.activate(ONE, token)
    ground.host.computer.disk.failing.clear()
    supervisor = "deploytool.simulation.memory.supervisor.MemorySupervisor"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{supervisor}.stop", lambda *_: "it does not end")
        patch.setattr(f"{supervisor}.restart", lambda *_: "it does not end")
        answer = ground.ask(switch(release, token))
    if release is None:
        assert isinstance(answer, RefusedAnswer)
        assert answer.code == "service"
        assert ground.linked is not None, "what may still run is named"
    else:
        assert isinstance(answer, Activated)
        assert "does not end" in answer.complaint


@pytest.mark.parametrize(("operation", "name"), [("rename", ".current.new"), ("make_link", "*")])
def test_a_link_that_can_t_be_switched_restarts_nothing(
    ground: Ground, operation: str, name: str
) -> None:
    token = staged(ground, ONE, TWO)
    ground.activate(ONE, token)
    main = ground.main
    ground.host.computer.disk.failing[operation, name] = errno.EIO
    assert ground.refused(switch(TWO, token, deadman=60)) == "cannot-write"
    assert (ground.main, ground.linked) == (main, f"releases/{ONE.release}")
    ground.host.computer.disk.failing.clear()
    ground.activate(TWO, token)
    assert ground.serves == TWO.release


def test_a_link_that_can_t_be_removed_is_told(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.activate(ONE, token)
    ground.host.computer.disk.failing["remove", "current"] = errno.EIO
    assert ground.refused(switch(None, token)) == "cannot-write"


@pytest.mark.parametrize("name", ["rollout.new", "deadman.new", "verified", "expired"])
def test_a_mark_that_can_t_be_written_keeps_what_runs(ground: Ground, name: str) -> None:
    token = staged(ground, ONE, TWO)
    ground.activate(ONE, token)
    ground.confirm(token)
    ground.write("expired")
    main = ground.main
    disk = ground.host.computer.disk
    for operation in ("create", "remove"):
        disk.failing[operation, name] = errno.ENOSPC
    assert ground.refused(switch(TWO, token, deadman=60)) == "cannot-write"
    assert (ground.main, ground.linked) == (main, f"releases/{ONE.release}")


@pytest.mark.parametrize("verb", ["activate", "confirm"])
def test_a_mark_of_a_rollout_that_can_t_be_read_is_not_written_over(
    ground: Ground, verb: str
) -> None:
    token = staged(ground, ONE)
    ground.activate(ONE, token)
    ground.spoil("rollout")
    request = switch(ONE, token) if verb == "activate" else ground.confirmation(token)
    assert ground.refused(request) == "damaged"
    assert ground.mark("verified") is None


# --- waiting until it serves ---------------------------------------------------------------------


def test_a_service_that_takes_its_time_is_waited_for(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.host.service.ready_after_s = 7.0
    answer = ground.activate(ONE, token)
    assert answer.evidence is not None
    assert answer.evidence.status is not None
    assert [owner.pid for owner in answer.evidence.owners] == [ground.main.pid]


def test_a_service_that_never_answers_is_not_waited_for_longer_than_its_time(
    ground: Ground,
) -> None:
    token = staged(ground, ONE)
    ground.host.service.quirks.add(Quirk.SILENT)
    began = ground.host.computer.uptime
    ground.activate(ONE, token)
    assert 20 <= ground.host.computer.uptime - began < 60


def test_p1_a_service_that_answers_without_its_ports_is_not_ready(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = staged(ground, ONE)
    listening = "deploytool.simulation.memory.processes.MemoryProcesses.listening"
    monkeypatch.setattr(listening, lambda *_: frozenset())
    began = ground.host.computer.uptime
    ground.activate(ONE, token)
    assert ground.host.computer.uptime - began >= 20


def questions(ground: Ground, token: int) -> int:
    """How often the status command was run."""
    asked: list[str] = []

    def hook(_: Run, what: str) -> None:
        if what.startswith("run ") and "status" in what and not what.endswith("done"):
            asked.append(what)

    ground.done(switch(ONE, token), hook=hook)
    return len(asked)


def test_a_process_that_computes_is_asked_only_now_and_then(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.host.service.quirks.add(Quirk.SILENT)
    idle = questions(ground, token)

    launch = ground.host.service.launch

    def computing(parent: int = 1) -> Any:
        task = launch(parent)
        assert task is not None
        task.state = "R"
        return task

    ground.host.service.launch = computing  # type: ignore[method-assign]
    busy = questions(ground, token)
    assert 1 < busy < idle / 4


@pytest.mark.parametrize(
    ("code", "answer", "ready"),
    [
        (0, '{"pid" : %d}', True),
        (0, '{ "a": {"pid": 1}, "pid":\n%d }', True),
        (1, '{"pid": %d}', False),
        (None, '{"pid": %d}', False),
        (0, '{"pid": %d, "pid": 4}', False),
        (0, '{"pid": "%d"}', False),
        (0, '[{"pid": %d}]', False),
        (0, '{"pid": 1%d}', False),
        (0, 'pid: {"pid": %d}', False),
        (0, "", False),
    ],
)
def test_p1_an_answer_is_json_of_the_main_process_and_its_exit_code_counts(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, code: int | None, answer: str, ready: bool
) -> None:
    token = staged(ground, ONE)
    asked: list[float] = []
    run = MemoryCommands.run

    def answers(self: MemoryCommands, argv: Any, **how: Any) -> Asked:
        if "status" not in argv:
            return run(self, argv, **how)
        asked.append(ground.host.computer.uptime)
        main = ground.host.service.main
        said = answer.replace("%d", str(main.pid if main else 0))
        return Asked(way="command", code=code, answer=said, errors="x")

    monkeypatch.setattr(MemoryCommands, "run", answers)
    ground.activate(ONE, token)
    assert (len(asked) <= 2) == ready


def test_p1_on_the_socket_only_the_unit_is_believed_and_else_the_command_is_asked() -> None:
    ground = Ground("systemd")
    ground.change(socket=SocketSetting(path="/run/router.sock", status="status"))
    token = staged(ground, ONE)
    answer = ground.activate(ONE, token)
    assert answer.evidence is not None
    assert answer.evidence.status is not None
    assert answer.evidence.status.way == "socket"
    stranger = ground.host.computer.spawn(("stranger",))
    ground.host.service.minds[stranger] = ground.host.service.minds[ground.main]
    ready = ground.host.service._ready

    def squatted(task: Any) -> None:
        ready(task)
        ground.host.service.answering = stranger

    ground.host.service._ready = squatted  # type: ignore[method-assign]
    ground.host.service.ready_after_s = 1
    assert questions(ground, token) > 0, "by the command"
    status = ground.done(switch(ONE, token)).evidence.status
    assert status is None or status.way == "command" or status.code is None


# --- stops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("latch", [None, "ffff"])
def test_p6_a_host_that_was_stopped_is_not_switched_by_who_does_not_know(
    ground: Ground, latch: str | None
) -> None:
    ground.deploy(ONE)
    token = staged(ground, TWO, plan="plan2")
    ground.write("halted", LATCH)
    before = ground.snapshot()
    assert ground.refused(switch(TWO, token, latch=latch)) == "halted"
    assert ground.snapshot() == before
    ground.activate(TWO, token, latch="ab12")
    assert ground.serves == TWO.release


@pytest.mark.parametrize("mark", ["halted", "fenced"])
def test_p6_a_host_that_is_stopped_before_the_switch_is_not_switched(
    ground: Ground, mark: str
) -> None:
    ground.deploy(ONE)
    token = staged(ground, TWO, plan="plan2")

    def stop(_: Run, what: str) -> None:
        if what.startswith("rename rollout.new"):
            ground.write(mark, LATCH if mark == "halted" else "")

    main = ground.main
    assert ground.refused(switch(TWO, token), hook=stop) == "halted"
    assert (ground.main, ground.linked) == (main, f"releases/{ONE.release}")


@pytest.mark.parametrize("when", ["rename rollout.new", "masked", "unmask"])
def test_p6_a_mask_of_a_stop_is_not_taken_away(when: str) -> None:
    """Or is put back, where it came in the very moment in which another was taken away."""
    ground = Ground("systemd", ONE)
    ground.place(TWO)
    token = ground.lock(release=TWO.release)
    service = ground.host.service
    assert isinstance(service, MemorySystemd)
    service.mask()
    points: list[str] = []

    def stop(_: Run, what: str) -> None:
        points.append(what)
        if what.startswith(when):
            ground.write("fenced")

    assert ground.refused(switch(TWO, token), hook=stop) == "halted"
    assert service.masked == "masked"
    assert ("unmask" in points) == (when != "rename rollout.new")


@pytest.mark.parametrize("latch", [None, "ab12"])
def test_p6_a_host_that_was_fenced_is_switched_by_nobody(ground: Ground, latch: str | None) -> None:
    token = staged(ground, ONE)
    ground.write("halted", LATCH)
    ground.write("fenced")
    assert ground.refused(switch(ONE, token, latch=latch)) == "halted"


def test_p5_what_served_when_a_host_was_stopped_is_noted_until_it_is_started(
    ground: Ground,
) -> None:
    ground.deploy(ONE)
    ground.write("halted", LATCH)
    token = staged_on_stopped(ground, TWO)
    ground.activate(ONE, token, latch="ab12")
    assert ground.mark("meant") is None, "what serves is what was stopped"
    ground.activate(TWO, token, latch="ab12")
    assert (ground.mark("meant") or "").strip() == ONE.release
    ground.activate(None, token, latch="ab12")
    assert (ground.mark("meant") or "").strip() == ONE.release, "the first one counts"
    ground.remove("halted")
    ground.activate(TWO, token)
    assert ground.mark("meant") is None


def staged_on_stopped(ground: Ground, made: Any) -> int:
    token = ground.lock("plan2", release=made.release)
    ground.stage(made, token, latch="ab12")
    return token


def test_p6_a_latch_that_a_killed_start_took_away_is_put_back(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.write(".lifted.7", LATCH)
    assert ground.refused(switch(ONE, token)) == "halted"
    assert ground.mark("halted") == LATCH
    later = LATCH.replace("ab12", "cd34")
    ground.write("halted", later)
    ground.write(".lifted.7", LATCH)
    assert ground.refused(switch(ONE, token)) == "halted"
    assert ground.mark("halted") == later, "a newer one stays"
    assert ".lifted.7" not in ground.names("state")


# --- confirm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["pid", "start", "boot", "release"])
def test_p1_only_the_very_process_that_was_seen_is_confirmed(ground: Ground, wrong: str) -> None:
    token = staged(ground, ONE)
    ground.activate(ONE, token)
    others: dict[str, Any] = {"pid": 2, "start": 1, "boot": BOOT, "release": SHA}
    request = ground.confirmation(token, **{wrong: others[wrong]})
    assert ground.refused(request) == "moved-on"
    assert ground.mark("verified") is None
    right = ground.confirmation(token)
    ground.main.state = "Z"
    assert ground.refused(right) == "moved-on"
    ground.host.service.crash()
    assert ground.refused(right) == "moved-on"


def test_p1_a_host_whose_link_was_moved_is_not_confirmed(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.activate(ONE, token)
    right = ground.confirmation(token)
    ground.host.computer.remove(f"{ground.root}/current")
    assert ground.refused(right) == "moved-on"


def test_a_host_that_is_let_in_again_has_no_rollout_to_confirm(ground: Ground) -> None:
    ground.deploy(ONE)
    finished = ground.mark("finished")
    token = ground.lock("plan2", purpose="start", release=ONE.release)
    ground.confirm(token)
    ground.unlock(token)
    assert ground.mark("rollout") is None
    assert ground.mark("finished") == finished
    assert ground.marked("verified")["token"] == str(token)


# --- dead-man ------------------------------------------------------------------------------------


def armed(ground: Ground) -> int:
    token = staged(ground, ONE)
    ground.activate(ONE, token, deadman=600)
    mark = ground.marked("deadman")
    assert mark["boot"] == ground.host.computer.boot_id
    assert (mark["token"], mark["seconds"]) == (str(token), "600")
    return token


def expired(ground: Ground) -> int:
    """The same, and the time is up."""
    token = armed(ground)
    ground.let_pass(601)
    return token


def test_p7_a_host_that_nobody_confirms_stops_serving(ground: Ground) -> None:
    token = armed(ground)
    confirmation = ground.confirmation(token)
    ground.host.pass_time(601)
    assert ground.serves is None
    assert ground.linked is not None, "it goes back to nothing by itself"
    assert ground.marked("expired")["token"] == str(token)
    assert ground.refused(confirmation) in {"moved-on", "expired"}
    if isinstance(ground.host.service, MemorySystemd):
        assert ground.host.service.masked == "masked"


def test_p7_a_late_confirmation_of_a_process_that_lives_on_is_refused(ground: Ground) -> None:
    token = armed(ground)
    ground.write("expired", f"token {token}\nsince 1\n")
    assert ground.refused(ground.confirmation(token)) == "expired"


def test_p7_a_timer_of_another_lock_does_nothing(ground: Ground) -> None:
    token = expired(ground)
    ground.done(Expire(token=token + 1))
    assert ground.serves == ONE.release
    assert ground.mark("expired") is None


def test_p7_an_earlier_timer_of_the_same_holder_does_nothing(ground: Ground) -> None:
    """Not every supervisor can take a timer back."""
    token = armed(ground)
    ground.let_pass(300)
    ground.activate(ONE, token, deadman=600)
    ground.let_pass(301)
    ground.done(Expire(token=token))
    assert ground.serves == ONE.release
    ground.let_pass(300)
    ground.done(Expire(token=token))
    assert ground.serves is None


def test_p7_a_host_that_was_confirmed_goes_on_serving(ground: Ground) -> None:
    token = armed(ground)
    ground.confirm(token)
    ground.let_pass(601)
    if ground.supervisor == "systemd":
        assert ground.host.service.due == [], "its timer was taken back"
    ground.done(Expire(token=token))
    assert ground.serves == ONE.release


def test_p7_a_timer_that_can_t_be_taken_back_finds_no_mark(ground: Ground) -> None:
    token = armed(ground)
    with pytest.MonkeyPatch.context() as patch:
        name = "deploytool.simulation.memory.supervisor.MemorySupervisor.clear_timer"
        patch.setattr(name, _fails)
        ground.confirm(token)
    ground.let_pass(601)
    assert ground.host.service.due == [token]
    ground.done(Expire(token=token))
    assert ground.serves == ONE.release


def _fails(*_: Any) -> None:
    raise OSError(errno.EIO, "it can't be asked")


def test_p7_without_a_timer_nothing_is_switched(ground: Ground) -> None:
    ground.deploy(ONE)
    token = staged(ground, TWO, plan="plan2")
    with pytest.MonkeyPatch.context() as patch:
        name = "deploytool.simulation.memory.supervisor.MemorySupervisor.set_timer"
        patch.setattr(name, _fails)
        assert ground.refused(switch(TWO, token, deadman=60)) == "deadman"
    assert ground.serves == ONE.release
    assert ground.mark("deadman") is None, "what was confirmed comes back after a reboot"
    ground.host.reboot()
    assert ground.linked == f"releases/{ONE.release}"


def test_p7_an_unreadable_dead_man_is_one(ground: Ground) -> None:
    """Failing closed here is going on: what may not have been confirmed serves no more."""
    token = expired(ground)
    ground.spoil("deadman")
    ground.done(Expire(token=token))
    assert ground.serves is None


def test_p7_an_unreadable_dead_man_is_confirmed_away(ground: Ground) -> None:
    token = armed(ground)
    ground.spoil("deadman")
    ground.confirm(token)
    assert ground.mark("deadman") is None
    ground.done(Expire(token=token))
    assert ground.serves == ONE.release


def test_p7_a_full_disk_does_not_keep_a_host_serving(ground: Ground) -> None:
    token = expired(ground)
    ground.host.computer.disk.failing["create", "expired.new"] = errno.ENOSPC
    ground.done(Expire(token=token))
    assert ground.serves is None


def test_p7_a_timer_waits_for_a_long_change(ground: Ground) -> None:
    token = expired(ground)
    node = ground.host.computer.find(f"{ground.root}/state/mutex")
    assert node is not None
    change = ground.host.computer.spawn(("a long change",))
    node.locked = change
    ground.host.computer.time.after(3000, lambda: ground.host.computer.end(change))
    ground.done(Expire(token=token))
    assert ground.serves is None


def test_a_host_that_expired_is_activated_again(ground: Ground) -> None:
    token = expired(ground)
    ground.done(Expire(token=token))
    ground.activate(ONE, token)
    assert ground.serves == ONE.release
    assert [ground.mark(name) for name in ("expired", "deadman")] == [None, None]
    ground.confirm(token)


@pytest.mark.parametrize("call", ["state", "mask"])
def test_p7_a_supervisor_that_does_not_answer_keeps_no_host_serving(
    ground: Ground, call: str
) -> None:
    token = expired(ground)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"deploytool.simulation.memory.supervisor.MemorySupervisor.{call}", _fails)
        ground.done(Expire(token=token))
    assert ground.serves is None


def test_a_supervisor_that_answers_late_is_asked_again(ground: Ground) -> None:
    token = staged(ground, ONE)
    state = "deploytool.simulation.memory.supervisor.MemorySupervisor.state"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, _fails)
        ground.host.computer.time.after(3, patch.undo)
        answer = ground.activate(ONE, token)
    assert answer.evidence is not None
    assert answer.evidence.status is not None


def test_a_unit_that_can_t_be_unmasked_is_not_switched() -> None:
    ground = Ground("systemd", TWO)
    ground.place(ONE)
    token = ground.lock()
    assert isinstance(ground.host.service, MemorySystemd)
    ground.host.service.mask()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploytool.simulation.memory.supervisor.MemorySupervisor.unmask", _fails)
        assert ground.refused(switch(ONE, token)) == "service"
    assert ground.linked == f"releases/{TWO.release}"


# --- retire --------------------------------------------------------------------------------------


def test_a_retired_host_runs_nothing_and_names_nothing(ground: Ground) -> None:
    token = staged(ground, ONE)
    ground.activate(ONE, token, deadman=60)
    ground.write("expired", "token 1\nsince 1\n")
    assert ground.refused(Retire(token=token + 1)) == "stale-token"
    ground.done(Retire(token=token))
    assert (ground.serves, ground.linked) == (None, None)
    for name in ("verified", "deadman", "expired"):
        assert ground.mark(name) is None
    ground.host.reboot()
    assert ground.serves is None


def test_a_stopped_host_is_retired_all_the_same(ground: Ground) -> None:
    ground.deploy(ONE)
    ground.write("halted", LATCH)
    ground.write("fenced")
    token = ground.lock("plan2", purpose="retire", release=None)
    ground.done(Retire(token=token))
    assert (ground.mark("meant") or "").strip() == ONE.release


@pytest.mark.parametrize("how", ["runtime", "no", None])
def test_a_host_that_a_reboot_would_start_is_not_retired(ground: Ground, how: str | None) -> None:
    ground.deploy(ONE)
    token = ground.lock("plan2", purpose="retire", release=None)
    with pytest.MonkeyPatch.context() as patch:
        name = "deploytool.simulation.memory.supervisor.MemorySupervisor.mask"
        patch.setattr(name, (lambda *_: how) if how else _fails)
        assert ground.refused(Retire(token=token)) == "service"
    assert ground.linked is not None


def test_a_host_on_which_something_still_runs_is_not_retired(ground: Ground) -> None:
    ground.deploy(ONE)
    token = ground.lock("plan2", purpose="retire", release=None)
    ground.host.service.quirks.add(Quirk.OLD_SURVIVES)
    assert ground.refused(Retire(token=token)) == "service"


def test_a_host_that_can_t_be_stopped_is_not_retired(ground: Ground) -> None:
    ground.deploy(ONE)
    token = ground.lock("plan2", purpose="retire", release=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploytool.simulation.memory.supervisor.MemorySupervisor.stop", _fails)
        assert ground.refused(Retire(token=token)) == "service"
