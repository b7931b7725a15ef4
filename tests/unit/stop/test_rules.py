"""The ladder's table, exhaustively; what a lease's end rests on; what silence is (P6)."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.errors import IllegalEvent
from deploytool.stop.model import Climbed, End, Event, Renewal, Rung, Witnessed
from deploytool.stop.rules import (
    FIRST,
    QUIET_S,
    TABLE,
    UNGUARDED,
    climb,
    last_child_s,
    lease_end,
    quiet,
    stopped,
)


def test_p6_every_climb_ends_within_a_few_rungs_whatever_happens() -> None:
    longest, at = 0, [(FIRST, 0)]
    while at:
        rung, steps = at.pop()
        longest = max(longest, steps)
        assert steps < 10, "a climb that has no end"
        follows = [then for (r, _), then in TABLE.items() if r is rung]
        at += [(then, steps + 1) for then in follows if isinstance(then, Rung)]
    assert longest == 6


@pytest.mark.parametrize(("rung", "event"), list(product(Rung, Event)))
def test_what_is_not_in_the_table_is_an_error(rung: Rung, event: Event) -> None:
    if (rung, event) in TABLE:
        assert climb(rung, event) is TABLE[rung, event]
    else:
        with pytest.raises(IllegalEvent):
            climb(rung, event)


def test_p6_only_a_router_s_word_or_an_empty_list_is_a_good_end() -> None:
    assert {key for key, then in TABLE.items() if then is End.HALTED} == {
        (Rung.QUIESCE, Event.CONFIRMED),
        (Rung.AGAIN, Event.CONFIRMED),
    }
    assert {key for key, then in TABLE.items() if then is End.DEAD} == {
        (Rung.LOOK, Event.EMPTY),
        (Rung.LOOK_AGAIN, Event.EMPTY),
    }


def test_p6_nothing_is_killed_before_it_was_fenced() -> None:
    before_kill = {rung for (rung, _), then in TABLE.items() if then is Rung.KILL}
    assert before_kill == {Rung.FENCE}


@pytest.mark.parametrize("event", [Event.NOT_CONFIRMED, Event.LATE, Event.LOST])
def test_p6_a_router_that_does_not_answer_is_not_believed_to_have_stopped(event: Event) -> None:
    assert climb(Rung.QUIESCE, event) is Rung.FENCE


def test_p6_what_may_be_started_again_is_not_stopped() -> None:
    assert stopped(Climbed("a", End.DEAD, 1.0))
    assert not stopped(Climbed("a", End.DEAD, 1.0, (), (f"{UNGUARDED}: a reboot",)))
    for end in (End.OUT_OF_REACH, End.NOT_SHOWN, End.OTHER_RELEASE):
        assert not stopped(Climbed("a", end, 1.0))


def test_the_lease_ends_one_lease_after_the_newest_nonce_that_anybody_could_answer() -> None:
    end, rests = lease_end(1000.0, 10.0, Renewal(995.0, 10.0), renewing=False)
    assert end == 1005.0
    assert "record" in rests
    end, rests = lease_end(1000.0, 10.0, None, renewing=False)
    assert end == 1010.0
    assert "worst case" in rests
    assert "another machine" in rests


def test_without_a_lease_or_with_a_renewer_that_goes_on_no_instant_is_named() -> None:
    assert lease_end(1000.0, 0.0, None, renewing=False)[0] is None
    assert lease_end(1000.0, 10.0, Renewal(995.0, 10.0), renewing=True)[0] is None


NOW = st.floats(1e9, 2e9)


@given(pressed=NOW, after=st.floats(-5, 5), waited=st.floats(0, 5), took=st.floats(0, 0.2))
def test_p6_silence_is_never_shown_by_a_look_that_came_too_early(
    pressed: float, after: float, waited: float, took: float
) -> None:
    stopped_at, last = pressed, pressed + after
    asked = pressed + waited
    seen = Witnessed(asked + took / 2, asked, asked + took, {"a": last})
    if quiet(seen, "a", stopped_at):
        assert last <= seen.taken - QUIET_S


def test_p6_a_host_that_the_witness_does_not_know_is_not_silent() -> None:
    seen = Witnessed(100.0, 100.0, 100.1, {"a": None})
    assert quiet(seen, "a", 99.0)
    assert not quiet(seen, "b", 99.0)
    assert not quiet(seen, "a", 100.05), "it was asked before the host had stopped"


def test_p6_what_the_witness_saw_before_the_stop_is_no_silence() -> None:
    """A drop copy that hangs answers with what it had: that says nothing of now."""
    pressed = 2000.0
    hung = Witnessed(1000.0, 2001.0, 2001.1, {"a": 990.0, "b": None})
    assert not quiet(hung, "a", pressed)
    assert not quiet(hung, "b", pressed)
    assert quiet(Witnessed(2001.0, 2001.0, 2001.1, {"a": 990.0}), "a", pressed)


def test_a_witness_with_a_clock_of_its_own_is_put_right() -> None:
    seen = Witnessed(1000.0 + 3600, 1000.0, 1000.1, {"a": 990.0 + 3600})
    assert last_child_s(seen, "a", 985.0) == pytest.approx(5.0, abs=0.2)
    assert quiet(seen, "a", 995.0)
