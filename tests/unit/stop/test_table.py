"""The ladder's table, exhaustively; what a lease's end rests on(P6)."""

from __future__ import annotations

from itertools import product

import pytest

from deploytool.errors import IllegalEvent
from deploytool.stop.model import End, Event, HostOutcome, Renewal, Rung, Witnessed
from deploytool.stop.table import FIRST, TABLE, UNGUARDED, advance, contradicted, lease_end, stopped


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
        assert advance(rung, event) is TABLE[rung, event]
    else:
        with pytest.raises(IllegalEvent):
            advance(rung, event)


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
    assert advance(Rung.QUIESCE, event) is Rung.FENCE


def test_p6_what_may_be_started_again_is_not_stopped() -> None:
    assert stopped(HostOutcome("a", End.DEAD, 1.0))
    assert not stopped(HostOutcome("a", End.DEAD, 1.0, (), (f"{UNGUARDED}: a reboot",)))
    for end in (End.OUT_OF_REACH, End.NOT_SHOWN, End.OTHER_RELEASE):
        assert not stopped(HostOutcome("a", end, 1.0))


def test_the_lease_ends_one_lease_after_the_newest_nonce_that_anybody_could_answer() -> None:
    end, rests = lease_end(1000.0, 10.0, Renewal(995.0, 10.0), renewing=False)
    assert end == 1005.0
    assert "record" in rests
    end, rests = lease_end(1000.0, 10.0, None, renewing=False)
    assert end == 1010.0
    assert "worst case" in rests
    assert "no other watch" in rests


def test_without_a_lease_or_with_a_renewer_that_goes_on_no_instant_is_named() -> None:
    assert lease_end(1000.0, 0.0, None, renewing=False)[0] is None
    assert lease_end(1000.0, 10.0, Renewal(995.0, 10.0), renewing=True)[0] is None


def test_who_else_renews_it_leaves_no_instant_to_be_named() -> None:
    end, rests = lease_end(1000.0, 10.0, Renewal(995.0, 10.0, taken=True), renewing=False)
    assert end is None
    assert "another watch" in rests


def test_p6_a_lease_s_end_that_the_witness_saw_passed_is_not_named() -> None:
    heard = Witnessed(100.8, 100.8, 100.9, {"a": 98.0})
    assert contradicted(95.0, heard, "a", 90.0)
    assert not contradicted(98.5, heard, "a", 90.0)
    assert not contradicted(None, heard, "a", 90.0)
    assert not contradicted(95.0, None, "a", 90.0)
