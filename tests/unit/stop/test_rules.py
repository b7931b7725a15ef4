"""The ladder's table, exhaustively; what a lease's end rests on; what silence is (P6)."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.errors import IllegalEvent
from deploytool.stop.model import Climbed, End, Event, Renewal, Rung, Silence, Witnessed
from deploytool.stop.rules import (
    FIRST,
    QUIET_S,
    SAME_S,
    TABLE,
    UNGUARDED,
    climb,
    contradicted,
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
    assert "no other watch" in rests


def test_without_a_lease_or_with_a_renewer_that_goes_on_no_instant_is_named() -> None:
    assert lease_end(1000.0, 0.0, None, renewing=False)[0] is None
    assert lease_end(1000.0, 10.0, Renewal(995.0, 10.0), renewing=True)[0] is None


def test_who_else_renews_it_leaves_no_instant_to_be_named() -> None:
    end, rests = lease_end(1000.0, 10.0, Renewal(995.0, 10.0, taken=True), renewing=False)
    assert end is None
    assert "another watch" in rests


NOW = st.floats(1e9, 2e9)
SPAN = st.floats(0.0, 0.2)


@st.composite
def silences(draw: st.DrawFn) -> tuple[Silence, float, float, float]:
    """Two answers of an honest witness whose clock is set anyhow; the host sends once in a while.

    With them: since when the host is to be silent, its true last order, and by how much the
    witness's clock is off.
    """
    since, off = draw(NOW), draw(st.floats(-1e4, 1e4))
    orders = sorted(since + after for after in draw(st.lists(st.floats(-5, 5), max_size=6)))
    answers: list[Witnessed] = []
    at = since + draw(st.floats(-2, 3))
    for _ in range(2):
        took = draw(SPAN)
        taken = at + took / 2
        last = max((order for order in orders if order <= taken), default=None)
        seen = {"a": None if last is None else last + off}
        answers.append(Witnessed(taken + off, at, at + took, seen))
        at += took + draw(st.floats(0, 2))
    before = max((o for o in orders if o <= answers[1].taken - off), default=-math.inf)
    return Silence(*answers), since, before, off


@given(silences())
def test_p6_silence_is_never_shown_by_a_look_that_came_too_early(
    given: tuple[Silence, float, float, float],
) -> None:
    heard, since, last, off = given
    if quiet(heard, "a", since):
        assert heard.first.asked >= since
        assert last <= heard.then.taken - off - QUIET_S + 1e-3
        assert last <= heard.first.answered + SAME_S


def pair(
    taken: tuple[float, float], last: tuple[float | None, float | None], asked: float = 100.0
) -> Silence:
    first = Witnessed(taken[0], asked, asked + 0.1, {"a": last[0]})
    return Silence(first, Witnessed(taken[1], asked + 0.8, asked + 0.9, {"a": last[1]}))


def test_p6_a_host_that_the_witness_does_not_know_is_not_silent() -> None:
    heard = pair((100.0, 100.8), (None, None))
    assert quiet(heard, "a", 99.0)
    assert not quiet(heard, "b", 99.0)
    assert not quiet(heard, "a", 100.05), "it was asked before the host had stopped"


@pytest.mark.parametrize(
    ("taken", "last"),
    [
        pytest.param((100.0, 100.0), (90.0, 90.0), id="the same answer again"),
        pytest.param((40.0, 40.0), (30.0, 30.0), id="an old answer, again"),
        pytest.param((40.0, 45.0), (30.0, 30.0), id="two old answers"),
        pytest.param((100.0, 99.0), (90.0, 90.0), id="a clock that goes backwards"),
        pytest.param((9e9, 9e9 + 50), (90.0, 90.0), id="a clock that runs away"),
        pytest.param((100.0, 100.8), (90.0, 100.2), id="an order in between"),
        pytest.param((1e5, 1e5 + 0.8), (90.0, 100.2), id="the same, and a clock far ahead"),
        pytest.param((100.0, 100.8), (None, 100.2), id="the first order in between"),
        pytest.param((100.0, 100.8), (9e9, 9e9), id="an order that is yet to come"),
        pytest.param((100.0, 100.8), (100.6, 100.6), id="an order just now"),
    ],
)
def test_p6_a_witness_that_is_stale_or_lies_shows_no_silence(
    taken: tuple[float, float], last: tuple[float | None, float | None]
) -> None:
    assert not quiet(pair(taken, last), "a", 99.0)


def test_a_witness_that_reckons_an_instant_anew_tells_of_the_same_order() -> None:
    assert quiet(pair((100.0, 100.8), (90.0, 90.0003)), "a", 99.0)
    assert not quiet(pair((100.0, 100.8), (90.0, 90.02)), "a", 99.0)


def test_a_witness_that_tells_whole_seconds_is_a_witness() -> None:
    assert quiet(pair((100.0, 101.0), (99.0, 99.0)), "a", 99.0)


def test_p6_answers_that_follow_too_closely_show_nothing() -> None:
    first = Witnessed(100.0, 100.0, 100.1, {"a": 90.0})
    heard = Silence(first, Witnessed(100.3, 100.3, 100.4, {"a": 90.0}))
    assert not quiet(heard, "a", 99.0)


def test_p6_what_the_witness_saw_before_the_stop_is_no_silence() -> None:
    """A drop copy that lags tells, and knows, only of what was: its time runs, and is behind."""
    assert not quiet(pair((90.0, 90.8), (80.0, 80.0)), "a", 99.0)
    assert not quiet(pair((90.0, 90.8), (None, None)), "a", 99.0)
    assert quiet(pair((100.0, 100.8), (80.0, 80.0)), "a", 99.0)


def test_a_witness_with_a_clock_of_its_own_is_put_right() -> None:
    heard = pair((1000.0 + 3600, 1000.8 + 3600), (990.0 + 3600, 990.0 + 3600), asked=1000.0)
    assert last_child_s(heard.then, "a", 985.0) == pytest.approx(5.0, abs=0.2)
    assert quiet(heard, "a", 995.0)


def test_p6_a_lease_s_end_that_the_witness_saw_passed_is_not_named() -> None:
    heard = pair((100.0, 100.8), (98.0, 98.0))
    assert contradicted(95.0, heard, "a", 90.0)
    assert not contradicted(98.5, heard, "a", 90.0)
    assert not contradicted(None, heard, "a", 90.0)
    assert not contradicted(95.0, None, "a", 90.0)
