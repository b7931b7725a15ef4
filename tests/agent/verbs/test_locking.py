"""Lock, renew, hold and unlock: who may change a host, and what is left for the next."""

from __future__ import annotations

import contextlib
import errno
from typing import Any

import pytest

from deploytool.agent import marks
from deploytool.agent.model import Latch
from deploytool.agent.requests import Locked, MarkHold, RefusedAnswer, Renew, Unlock
from deploytool.simulation.memory.host import Points, killed
from deploytool.simulation.memory.programs import build
from deploytool.simulation.memory.run import RunEnded

from .ground import ONE, SHA, SHOW, TWO, Ground, claim, staging, switch

OTHER = "b" * 64


def hold(token: int) -> MarkHold:
    return MarkHold(token=token, verdict="MIXED", holder="me@here", plan="plan1", next="resume")


def test_p7_a_lock_says_who_has_it_and_the_same_plan_has_it_once(ground: Ground) -> None:
    assert ground.lock() == 1
    assert ground.lock() == 1, "asking again with the same plan is no second lock"
    answer = ground.ask(claim("plan2", "you@there"))
    assert isinstance(answer, RefusedAnswer)
    assert answer.code == "locked"
    for word in ("me@here", "deploy", "plan1"):
        assert word in answer.text


def test_p7_a_token_only_grows(ground: Ground) -> None:
    first = ground.lock()
    ground.unlock(first)
    assert ground.refused(Unlock(token=first, keep=2)) == "unlocked"
    second = ground.lock("plan2")
    assert second == first + 1
    assert ground.refused(Unlock(token=first, keep=2)) == "stale-token"


@pytest.mark.parametrize("at", range(1, 60))
def test_p7_no_two_locks_ever_have_one_token(ground: Ground, at: int) -> None:
    """A run that is killed at any point may have given out its token, or not."""
    with contextlib.suppress(RunEnded):
        ground.ask(claim("plan1"), hook=Points(at, killed))
    held = ground.marked("lock")["token"] if ground.mark("lock") else "0"
    later = ground.lock("plan2", take_over=int(held) if held != "0" else None)
    assert later > int(held)


def test_a_lock_is_answered_with_what_was_seen_under_it(ground: Ground) -> None:
    answer = ground.done(claim(show=SHOW))
    assert isinstance(answer, Locked)
    assert answer.evidence is not None
    assert answer.evidence.marks.lock is not None
    assert answer.evidence.marks.lock.token == answer.token


def test_a_host_that_can_t_be_shown_is_locked_all_the_same(ground: Ground) -> None:
    ground.remove("probe.lock")
    answer = ground.done(claim(show=SHOW))
    assert (answer.token, answer.evidence) == (1, None)
    assert "probe.lock" in answer.unshown


# --- taking over ---------------------------------------------------------------------------------


def test_p7_whoever_lost_the_lock_changes_nothing(ground: Ground) -> None:
    old = ground.lock()
    ground.stage(ONE, old)
    assert ground.refused(claim("plan2", take_over=old + 1)) == "stale-token"
    assert ground.lock("plan2", take_over=old) == old + 1
    before = ground.snapshot()
    payload = TWO.manifest + TWO.artifact
    assert ground.refused(staging(TWO, old), payload) == "stale-token"
    assert ground.refused(switch(ONE, old)) == "stale-token"
    assert ground.refused(Unlock(token=old, keep=2)) == "stale-token"
    assert ground.refused(hold(old)) == "stale-token"
    assert ground.snapshot() == before


def test_p7_taking_over_a_lock_that_is_ours_or_gone_is_no_accident(ground: Ground) -> None:
    token = ground.lock()
    assert ground.lock(take_over=99) == token
    ground.unlock(token)
    assert ground.lock(take_over=token) == token + 1


def test_p7_a_takeover_says_what_a_host_had_whose_mark_is_gone(ground: Ground) -> None:
    """It was finished there: the next deployer must not take it for an untouched host."""
    token = ground.lock()
    ground.unlock(token)
    ground.lock("plan2", take_over=token, before=OTHER, knows_before=True)
    mark = ground.marked("rollout")
    assert (mark["plan"], mark["target"]) == ("plan2", SHA)
    assert (mark["before"], mark["phase"]) == (OTHER, "confirmed")


def test_p7_a_takeover_does_not_say_it_of_a_host_that_has_it_still(ground: Ground) -> None:
    token = ground.lock()
    ground.unlock(token)
    ground.lock("plan2", take_over=token, before=None, knows_before=True)
    mark = ground.marked("rollout")
    assert (mark["before"], mark["phase"]) == ("none", "locked")


def test_p7_what_an_interrupted_rollout_wrote_down_survives_a_takeover(ground: Ground) -> None:
    token = ground.lock(release=ONE.release)
    ground.stage(ONE, token)
    ground.activate(ONE, token)
    ground.lock("plan2", take_over=token, release=TWO.release, before=OTHER, knows_before=True)
    mark = ground.marked("rollout")
    assert mark["plan"] == "plan1"
    assert (mark["before"], mark["phase"]) == ("none", "activating")
    assert mark["target"] == TWO.release, "a deployer that dies now was on its way there"


def test_p7_a_takeover_names_the_rollout_that_it_found_where_nothing_was_begun(
    ground: Ground,
) -> None:
    token = ground.lock("plan2")
    words: dict[str, Any] = {
        "release": OTHER,
        "before": OTHER,
        "knows_before": True,
        "rollout": "plan1",
    }
    later = ground.lock("plan3", take_over=token, **words)
    first = ground.mark("rollout")
    assert ground.marked("rollout")["plan"] == "plan1"
    ground.lock("plan4", take_over=later, **{**words, "before": SHA})
    assert ground.mark("rollout") == first, "the host knows best what was begun on it"


@pytest.mark.parametrize("purpose", ["retire", "start"])
def test_what_is_no_rollout_leaves_no_mark(ground: Ground, purpose: str) -> None:
    token = ground.lock(purpose=purpose)
    assert ground.mark("rollout") is None
    ground.unlock(token)
    assert ground.mark("finished") is None


def test_p7_a_lock_without_its_mark_gets_it_when_it_is_asked_for_again(ground: Ground) -> None:
    ground.lock()
    ground.remove("rollout")
    ground.lock()
    assert ground.marked("rollout")["phase"] == "locked"


def test_a_renewed_lock_refuses_what_was_sent_before(ground: Ground) -> None:
    token = ground.lock()
    renewal = Renew(token=token, holder="me@here", purpose="deploy", plan="plan1")
    later = ground.done(renewal).token
    assert later == token + 1
    assert ground.refused(renewal) == "stale-token"
    ground.unlock(later)


# --- the end of a rollout ------------------------------------------------------------------------


def test_p7_a_host_knows_how_far_a_rollout_has_come(ground: Ground) -> None:
    for before, made in (("none", ONE), (ONE.release, TWO)):
        token = ground.lock(release=made.release)
        ground.stage(made, token)
        assert ground.marked("rollout")["phase"] == "locked"
        ground.activate(made, token)
        assert ground.marked("rollout")["phase"] == "activating"
        ground.confirm(token)
        mark = ground.marked("rollout")
        assert (mark["before"], mark["target"]) == (before, made.release)
        assert mark["phase"] == "confirmed"
        ground.unlock(token)
        assert [ground.mark(name) for name in ("rollout", "lock")] == [None, None]
        assert (ground.mark("previous") or "").strip() == before
        assert ground.marked("finished")["target"] == made.release


def test_p7_who_only_locked_a_host_hides_nothing_that_was_finished_there(ground: Ground) -> None:
    ground.deploy(ONE)
    finished = ground.mark("finished")
    ground.unlock(ground.lock("plan2"))
    assert ground.mark("finished") == finished


def test_what_all_hosts_were_proven_on_is_known_to_one_that_had_it_already(ground: Ground) -> None:
    ground.unlock(ground.lock(), release=SHA)
    assert ground.marked("finished")["target"] == SHA
    ground.unlock(ground.lock("plan2"), release=OTHER)
    assert ground.marked("finished")["plan"] == "plan1"


def test_a_fleet_on_hold_says_so_until_it_is_unlocked(ground: Ground) -> None:
    token = ground.lock()
    ground.done(hold(token))
    held = ground.marked("held")
    assert (held["verdict"], held["next"]) == ("MIXED", "resume")
    ground.unlock(token)
    assert ground.mark("held") is None


def test_old_releases_go_but_never_the_active_one_or_the_one_before(ground: Ground) -> None:
    ground.deploy(ONE)
    token = ground.lock("plan2")
    made = [build(f"{number}.0") for number in range(2, 6)]
    for one in made:
        ground.stage(one, token)
        ground.host.pass_time(1)
    ground.activate(made[0], token)
    answer = ground.unlock(token, keep=2)
    assert answer.pruned == (made[1].release,)
    kept = {ONE.release, *(m.release for m in (made[0], made[2], made[3]))}
    assert set(ground.names("releases")) == kept


def test_what_was_stopped_is_kept_until_it_is_started(ground: Ground) -> None:
    ground.deploy(ONE)
    ground.write("meant", f"{ONE.release}\n")
    for made in (TWO, ONE, TWO):
        ground.deploy(made)
    token = ground.lock("plan9")
    ground.unlock(token, keep=0)
    assert ONE.release in ground.names("releases")


@pytest.mark.parametrize("mark", ["previous", "meant"])
def test_nothing_is_pruned_where_it_can_t_be_told_what_must_stay(ground: Ground, mark: str) -> None:
    ground.deploy(ONE)
    token = ground.lock("plan2")
    ground.stage(TWO, token)
    ground.spoil(mark)
    assert ground.unlock(token, keep=0).pruned == ()
    assert set(ground.names("releases")) == {ONE.release, TWO.release}


# --- marks that can't be read --------------------------------------------------------------------


def test_a_lock_that_can_t_be_read_is_a_lock(ground: Ground) -> None:
    token = ground.lock()
    ground.spoil("lock")
    assert ground.refused(claim("plan2")) == "damaged"
    assert ground.refused(claim("plan2", take_over=token + 1)) == "damaged"
    assert ground.refused(Unlock(token=token, keep=2)) == "damaged"
    assert ground.refused(hold(token)) == "damaged"


def test_a_lock_that_can_t_be_read_is_taken_over_by_the_newest_token(ground: Ground) -> None:
    token = ground.lock()
    ground.spoil("lock")
    assert ground.lock("plan2", take_over=token) == token + 1
    ground.unlock(token + 1)


def test_without_a_readable_token_no_new_one_is_given_out(ground: Ground) -> None:
    token = ground.lock()
    ground.spoil("token")
    ground.unlock(token)
    assert ground.refused(claim("plan2")) == "damaged"
    ground.write("token", "17\n")
    assert ground.lock("plan2") == 18


def test_a_mark_of_a_rollout_that_can_t_be_read_is_replaced_only_by_who_knows_it(
    ground: Ground,
) -> None:
    token = ground.lock()
    ground.spoil("rollout")
    assert ground.refused(claim("plan2", take_over=token)) == "damaged"
    assert ground.refused(Unlock(token=token, keep=2)) == "damaged"
    assert ground.mark("lock") is not None
    known: dict[str, Any] = {"before": OTHER, "knows_before": True, "rollout": "plan1"}
    assert ground.refused(claim("plan2", take_over=token, purpose="start", **known)) == "damaged"
    later = ground.lock("plan2", take_over=token, **known)
    mark = ground.marked("rollout")
    assert (mark["plan"], mark["before"], mark["phase"]) == ("plan1", OTHER, "activating")
    ground.unlock(later)
    assert (ground.mark("previous") or "").strip() == OTHER


def test_a_hold_that_can_t_be_read_ends_with_the_lock(ground: Ground) -> None:
    token = ground.lock()
    ground.spoil("held")
    ground.unlock(token)
    assert ground.mark("held") is None


# --- disks ---------------------------------------------------------------------------------------


def failing(ground: Ground, operation: str, name: str, code: int = errno.ENOSPC) -> None:
    ground.host.computer.disk.failing[operation, name] = code


@pytest.mark.parametrize("name", ["token.new", "lock.new", "rollout.new"])
@pytest.mark.parametrize("operation", ["create", "rename"])
def test_p7_whoever_is_refused_has_no_lock(ground: Ground, operation: str, name: str) -> None:
    """A lock without a mark would not say what to go back to."""
    failing(ground, operation, name)
    assert ground.refused(claim()) == "cannot-write"
    assert [ground.mark(mark) for mark in ("lock", "rollout")] == [None, None]
    ground.host.computer.disk.failing.clear()
    assert ground.lock("plan2") >= 1


def test_a_takeover_that_can_t_be_written_leaves_the_lock_to_its_holder(ground: Ground) -> None:
    token = ground.lock()
    failing(ground, "create", "lock.new")
    assert ground.refused(claim("plan2", take_over=token)) == "cannot-write"
    ground.host.computer.disk.failing.clear()
    ground.unlock(token)


def test_a_lock_that_is_left_without_its_mark_is_named(ground: Ground) -> None:
    failing(ground, "rename", "rollout.new")
    failing(ground, "remove", "lock", errno.EIO)
    answer = ground.ask(claim())
    assert isinstance(answer, RefusedAnswer)
    assert answer.code == "lock-left"
    assert f"{ground.root}/state/lock" in answer.text


@pytest.mark.parametrize("name", ["finished.new", "held.new"])
def test_what_can_t_be_marked_is_refused_and_the_lock_stays(ground: Ground, name: str) -> None:
    token = ground.lock()
    failing(ground, "create", name)
    verb = hold(token) if name == "held.new" else Unlock(token=token, keep=2, release=SHA)
    assert ground.refused(verb) == "cannot-write"
    assert ground.mark("lock") is not None


@pytest.mark.parametrize("name", ["rollout", "lock"])
def test_a_lock_that_can_t_be_removed_is_not_released(ground: Ground, name: str) -> None:
    token = ground.lock()
    failing(ground, "remove", name, errno.EIO)
    assert ground.refused(Unlock(token=token, keep=2)) == "cannot-write"
    assert ground.mark("lock") is not None
    ground.host.computer.disk.failing.clear()
    ground.unlock(token)


def test_releases_that_can_t_be_removed_do_not_keep_the_lock(ground: Ground) -> None:
    ground.deploy(ONE)
    token = ground.lock("plan2")
    ground.stage(TWO, token)
    failing(ground, "rename", "*", errno.EIO)
    failing(ground, "remove_tree", "*", errno.EIO)
    assert ground.unlock(token, keep=0).pruned == ()
    assert ground.mark("lock") is None


def test_a_verb_that_the_operating_system_fails_is_in_doubt(ground: Ground) -> None:
    failing(ground, "target", "current", errno.EIO)
    ground.host.computer.link(f"{ground.root}/current", f"releases/{SHA}")
    assert ground.refused(claim()) == "failed"


def test_another_change_that_does_not_end_is_waited_for_and_told(ground: Ground) -> None:
    node = ground.host.computer.find(f"{ground.root}/state/mutex")
    assert node is not None
    node.locked = ground.host.computer.spawn(("sleep",))
    assert ground.refused(claim()) == "busy"


def test_a_host_that_was_not_prepared_says_so(ground: Ground) -> None:
    ground.remove("mutex")
    assert ground.refused(claim()) == "not-prepared"
    ground.change(root="/opt/elsewhere")
    assert ground.refused(claim()) == "not-prepared"


def test_a_reason_can_t_write_lines_of_its_own(ground: Ground) -> None:
    latch = Latch(latch="ab", by="me@here", reason="x\nartifact evil\x85\u2028", since=1)
    ground.write("halted", marks.text_of(latch))
    assert ground.marked("halted")["reason"].startswith("x artifact evil")
    assert "artifact" not in ground.marked("halted")
