"""What silence is: seen by a witness for long enough, and of the router's own last order (P6)."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.stop.model import End, Heard, HostOutcome, Own, WitnessAnswers, Witnessed
from deploytool.stop.silence import (
    GAPS,
    MOVED_S,
    QUIET_S,
    SAME_S,
    WATCH_AT_MOST_S,
    agrees,
    needed_s,
    quiet,
    silence,
    strangers,
    watched_s,
    window,
)
from deploytool.stop.table import CLOCK_S, UNGUARDED, last_child_s

NOW = st.floats(1e9, 2e9)
SPAN = st.floats(0.0, 0.2)


@st.composite
def silences(draw: st.DrawFn) -> tuple[WitnessAnswers, float, float, float]:
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
    return WitnessAnswers(*answers), since, before, off


@given(silences())
def test_p6_silence_is_never_shown_by_a_look_that_came_too_early(
    given: tuple[WitnessAnswers, float, float, float],
) -> None:
    heard, since, last, off = given
    if quiet(heard, "a", since):
        assert heard.first.asked >= since
        assert last <= heard.then.taken - off - QUIET_S + 1e-3
        assert last <= heard.first.answered + SAME_S


def pair(
    taken: tuple[float, float], last: tuple[float | None, float | None], asked: float = 100.0
) -> WitnessAnswers:
    first = Witnessed(taken[0], asked, asked + 0.1, {"a": last[0]})
    return WitnessAnswers(first, Witnessed(taken[1], asked + 0.8, asked + 0.9, {"a": last[1]}))


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
    heard = WitnessAnswers(first, Witnessed(100.3, 100.3, 100.4, {"a": 90.0}))
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


# --- the window -----------------------------------------------------------------------------------

PRESSED = 1000.0
STOPPED_S = 0.2
GAP = st.floats(1e-4, 100.0)


def own(gap_s: float | None, last_ago_s: float | None = 0.1, children: int = 100) -> Own:
    """What a router says that halted as the key was pressed, give or take nothing."""
    at = PRESSED + STOPPED_S
    return Own(at, at, children, 3600.0, last_ago_s, gap_s)


def halted(said: Own | None) -> HostOutcome:
    return HostOutcome("a", End.HALTED, STOPPED_S, own=said)


def asked(orders: list[float], pauses: list[float], names: str = "a") -> Heard:
    """A true witness that is asked again and again from when the host had stopped."""
    now, answers = PRESSED + STOPPED_S + 0.01, []
    for pause in pauses:
        now += pause
        seen = [at for at in orders if at <= now]
        answers.append(Witnessed(now, now, now, {names: max(seen, default=None)}))
    return Heard(tuple(answers))


def test_p6_the_window_is_fourteen_gaps_within_its_bounds() -> None:
    assert window(own(0.001)) == (QUIET_S, True)
    assert window(own(0.125)) == (1.75, True)
    assert window(own(WATCH_AT_MOST_S / GAPS)) == (WATCH_AT_MOST_S, True)
    assert window(own(1.0)) == (WATCH_AT_MOST_S, False)
    assert window(own(None)) == (WATCH_AT_MOST_S, False), "a rate that is not known is not none"
    assert window(None) == (WATCH_AT_MOST_S, False), "a router that can't be asked"
    assert window(own(None, None, 0)) == (QUIET_S, False), "it has nothing to be watched for"


@given(GAP)
def test_p6_no_window_is_shorter_than_it_says(gap: float) -> None:
    seconds, enough = window(own(gap))
    assert QUIET_S <= seconds <= WATCH_AT_MOST_S
    assert enough == (GAPS * gap <= WATCH_AT_MOST_S)
    assert seconds >= min(GAPS * gap, WATCH_AT_MOST_S)


@given(
    gap=GAP,
    lies=st.booleans(),
    seed=st.integers(0, 2**32),
    pauses=st.lists(st.floats(0.05, 2.0), min_size=2, max_size=12),
    said=st.sampled_from(["all", "no rate", "nothing"]),
)
def test_p6_a_host_that_sends_at_random_is_silent_only_where_it_is(
    gap: float, lies: bool, seed: int, pauses: list[float], said: str
) -> None:
    """It says HALTED; one that lies goes on sending, at the rate that it sent at before."""
    dice = random.Random(seed)  # noqa: S311 arrivals, and no secret
    at, orders, end = PRESSED - 0.1, [PRESSED - 0.1], PRESSED + 60.0
    while lies and len(orders) < 5000 and at < end:
        at += dice.expovariate(1 / gap)
        orders.append(at)
    told = {"all": own(gap, 0.3), "no rate": own(None, 0.3), "nothing": None}[said]
    heard = asked(orders, pauses)
    shown = silence(halted(told), heard, PRESSED)
    last = heard.answers[-1]
    seen = max(o for o in orders if o <= last.taken)
    if not shown.silent:
        fits = (
            told is not None
            and watched_s(heard.answers, "a", PRESSED + STOPPED_S) >= window(told)[0]
        )
        assert not fits or lies, "an honest host that was watched for long enough is silent"
        return
    assert told is not None, "who can't be asked is not known to be silent"
    assert shown.watched_s >= window(told)[0]
    assert last.taken - seen >= shown.watched_s, "no order came in the time that is named"
    assert seen <= PRESSED - 0.1 + CLOCK_S, "the last order is the router's own"
    assert bool(shown.why) == (not window(told)[1]), "what the time alone does not show is named"


def test_p6_one_in_a_million_that_send_at_random_would_pass_for_silent() -> None:
    """The chance that a host which goes on is quiet for its window, by the rule's own figures."""
    for gap in (0.04, 0.1, WATCH_AT_MOST_S / GAPS):
        seconds, enough = window(own(gap))
        assert enough
        assert math.exp(-seconds / gap) < 1e-6


# --- the router's own last order ------------------------------------------------------------------


def of(last: float | None, watched: float = WATCH_AT_MOST_S + 0.1) -> Heard:
    first = PRESSED + STOPPED_S + 0.01
    return Heard(tuple(Witnessed(at, at, at, {"a": last}) for at in (first, first + watched)))


@pytest.mark.parametrize("off", [-600.0, -2.0, 2.0])
def test_p6_another_order_than_the_router_s_own_last_is_no_silence(off: float) -> None:
    said = own(0.01, 700.0)
    true = PRESSED + STOPPED_S - 700.0
    assert silence(halted(said), of(true), PRESSED).silent
    shown = silence(halted(said), of(true + off), PRESSED)
    assert not shown.silent
    assert f"{abs(off):.1f} s {'after' if off > 0 else 'before'} that one" in shown.why
    assert shown.settled == (off > 0), "a witness that is behind may catch up"


def test_p6_no_order_ever_is_silence_only_where_the_router_counts_none() -> None:
    assert silence(halted(own(None, None, 0)), of(None), PRESSED).silent
    assert not silence(halted(own(0.01)), of(None), PRESSED).silent
    assert not silence(halted(None), of(None), PRESSED).silent


def test_p6_a_process_that_sent_none_since_it_started_agrees_with_what_came_before_that() -> None:
    said = replace(own(None, None, 0), counted_s=50.0)
    assert agrees(said, of(PRESSED - 60.0).answers[-1], "a")
    assert not agrees(said, of(PRESSED - 40.0).answers[-1], "a")


def test_p6_a_dead_host_is_silent_only_where_nothing_on_it_may_send() -> None:
    dead = HostOutcome("a", End.DEAD, STOPPED_S, own=own(0.01))
    for last in (None, PRESSED - 5.0, PRESSED + 0.1):
        shown = silence(dead, of(last), PRESSED)
        assert shown.silent
        assert "no process that may send was found" in shown.why
    assert not silence(dead, of(None, 1.0), PRESSED).silent, "its rate is not known"
    left = replace(dead, may_send=("process 12",))
    assert "process 12" in silence(left, of(None), PRESSED).why
    assert not silence(left, of(None), PRESSED).silent
    unguarded = replace(dead, notes=(f"{UNGUARDED}: a reboot",))
    assert not silence(unguarded, of(None), PRESSED).silent


@pytest.mark.parametrize("end", [End.OUT_OF_REACH, End.NOT_SHOWN, End.OTHER_RELEASE])
def test_p6_what_did_not_stop_is_not_called_silent(end: End) -> None:
    assert not silence(HostOutcome("a", end, STOPPED_S, own=own(0.01)), of(None), PRESSED).silent


def test_a_dead_host_is_watched_for_as_long_as_one_that_can_t_be_asked() -> None:
    assert needed_s(HostOutcome("a", End.DEAD, 0.1, own=own(0.01))) == WATCH_AT_MOST_S
    assert needed_s(halted(own(0.01))) == QUIET_S


# --- who else is heard ----------------------------------------------------------------------------


def names(**last: tuple[float | None, float | None]) -> Heard:
    """Two answers, 1 s apart; ages of each last order, in seconds before the first of them."""
    found = []
    for number in (0, 1):
        ages = ((name, two[number]) for name, two in last.items())
        seen = {name: None if age is None else PRESSED - age for name, age in ages}
        found.append(Witnessed(PRESSED + number, PRESSED + number, PRESSED + number, seen))
    return Heard(tuple(found))


@pytest.mark.parametrize(
    ("ages", "moves"),
    [
        ((0.1, -0.9), True),
        ((5.0, 5.0), True),
        ((None, -0.5), True),
        ((600.0, 500.0), True),
        ((-9e9, -9e9), True),
        ((MOVED_S + 1, MOVED_S + 1), False),
        ((None, None), False),
    ],
)
def test_p6_whoever_sends_and_is_no_host_of_the_fleet_is_named(
    ages: tuple[float | None, float | None], moves: bool
) -> None:
    heard = names(old=ages, a=(0.1, 0.1))
    assert strangers(heard, {"a"}, ()) == ((("old",) if moves else ()), ())
    assert strangers(heard, {"a"}, ("old",)) == ((), (("old",) if moves else ()))
    assert strangers(heard, {"a", "old"}, ("old",)) == ((), ()), "a host is never excused"


def test_p6_a_stranger_is_named_also_where_the_witness_shows_nothing_else() -> None:
    one = names(old=(0.1, -0.9))
    for heard in (Heard(one.answers[:1], "trouble"), replace(one, trouble="trouble")):
        assert strangers(heard, {"a"}, ()) == (("old",), ())
    assert strangers(Heard(), {"a"}, ()) == ((), ())
