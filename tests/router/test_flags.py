"""One flag between off and armed, on a clock of the test's own. What is fenced at the message."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router.flags import PROMISE_S, FlagRefusedError, Flags

from router import wire

from .conftest import base_config
from .harness import Rig

NAME, BIT = "RETAIL_LIQUIDITY", 16
R = wire.CODES


@pytest.fixture
def rig() -> Rig:
    return Rig(base_config(1, 2))


def promised(rig: Rig, epoch: int = 5, good_s: float = 60.0) -> None:
    rig.flags.issue(NAME)
    rig.flags.promise(NAME, rig.flags.present(NAME), epoch, good_s, "alice")


def refused(do: Callable[[], Any]) -> str:
    with pytest.raises(FlagRefusedError) as found:
        do()
    return found.value.rule


def state(flags: Flags) -> str:
    (found,) = (entry["state"] for entry in flags.states() if entry["name"] == NAME)
    return str(found)


def test_p3_up_in_phases_and_down_in_one(rig: Rig) -> None:
    flags = rig.flags
    assert (state(flags), flags.epoch) == ("off", 0)
    promised(rig)
    assert (state(flags), flags.why_not(BIT), flags.epoch) == ("promised", R["FLAG_NOT_ARMED"], 0)
    assert flags.commit(NAME) == {"provisional_s": 1}
    assert (state(flags), flags.why_not(BIT), flags.epoch) == ("provisional", 0, 5)
    assert flags.settle(NAME) == {"armed": [NAME]}
    assert (state(flags), flags.why_not(BIT), flags.epoch) == ("armed", 0, 5)
    rig.now_s += 1e6
    flags.tick()
    assert state(flags) == "armed", "what was settled lasts"
    assert flags.disarm(NAME) == {"armed": []}
    assert (state(flags), flags.why_not(BIT), flags.epoch) == ("off", R["FLAG_NOT_ARMED"], 0)
    assert flags.states()[2]["epoch"] == 0
    assert flags.disarm(NAME) == {"armed": []}, "disarming always works"


def test_only_runtime_flags_are_armed(rig: Rig) -> None:
    flags = rig.flags
    for name in ("HIDDEN", "POWER_PEG", "RLP", "", "nope", "retail_liquidity"):
        for step in (flags.issue, flags.present, flags.commit, flags.settle, flags.disarm):
            assert refused(lambda step=step, name=name: step(name)) == "FLAG_UNKNOWN"  # type: ignore[misc]


def test_p3_a_commit_that_nobody_settles_falls_by_itself(rig: Rig) -> None:
    promised(rig)
    rig.flags.commit(NAME)
    rig.now_s += 1.0
    rig.flags.tick()
    assert state(rig.flags) == "provisional"
    rig.now_s += 0.001
    assert refused(lambda: rig.flags.settle(NAME)) == "NOT_COMMITTED", "a settle came too late"
    assert state(rig.flags) == "off"
    assert "not settled in time" in rig.flags.states()[2]["why"]


def test_p3_a_held_up_loop_obeys_nothing_past_the_limit(rig: Rig) -> None:
    """No tick came: the process was stopped. The first message after it must not be routed."""
    promised(rig)
    rig.flags.commit(NAME)
    assert rig.order("A", 300, flags=BIT)[0][1] == "0"
    ((token, _, qty, _),) = rig.sent()
    rig.now_s += 1.001
    (report,) = rig.order("B", 300, flags=BIT)
    assert (report[1], report[8]) == ("8", R["FLAG_NOT_ARMED"])
    rig.cancel(token, qty)  # what the first would send next is stopped as well
    assert rig.sent() == []
    assert rig.reports()[-1][8] == R["FLAG_NOT_ARMED"]
    assert rig.engine.counters.flag_rejects == 2


def test_p3_the_next_children_of_an_open_parent_are_fenced_at_the_limit_too(rig: Rig) -> None:
    promised(rig)
    rig.flags.commit(NAME)
    rig.order("A", 300, flags=BIT)
    ((token, _, qty, _),) = rig.sent()
    rig.now_s += 1.001
    rig.cancel(token, qty)
    assert rig.sent() == []
    assert rig.reports()[-1][8] == R["FLAG_NOT_ARMED"]
    assert state(rig.flags) == "off"


def test_a_promise_lapses_with_its_certificate_and_after_a_minute(rig: Rig) -> None:
    for good_s, lasts_s in ((7.0, 7.0), (1e9, PROMISE_S)):
        promised(rig, good_s=good_s)
        rig.now_s += lasts_s
        rig.flags.tick()
        assert state(rig.flags) == "promised"
        rig.now_s += 0.001
        assert refused(lambda: rig.flags.commit(NAME)) == "NOT_PROMISED"
        assert state(rig.flags) == "off"


def test_a_nonce_is_used_once_and_lapses(rig: Rig) -> None:
    flags = rig.flags
    assert refused(lambda: flags.present(NAME)) == "NONCE_EXPIRED"
    nonce = flags.issue(NAME)
    assert len(nonce) == 64
    assert flags.issue(NAME) != nonce
    assert flags.present(NAME) != nonce, "the newest counts"
    assert refused(lambda: flags.present(NAME)) == "NONCE_EXPIRED"
    flags.issue(NAME)
    rig.now_s += PROMISE_S + 0.001
    assert refused(lambda: flags.present(NAME)) == "NONCE_EXPIRED"


@pytest.mark.parametrize("other", ["disarm", "issue"])
def test_two_operators_at_once_whoever_comes_second_voids_the_first(rig: Rig, other: str) -> None:
    flags = rig.flags
    flags.issue(NAME)
    nonce = flags.present(NAME)  # its signature is being checked
    getattr(flags, other)(NAME)
    assert refused(lambda: flags.promise(NAME, nonce, 5, 60, "alice")) == "OVERTAKEN"
    promised(rig)
    getattr(flags, other)(NAME)  # it was promised already
    assert refused(lambda: flags.commit(NAME)) == "NOT_PROMISED"
    assert flags.armed() == []


def test_what_is_armed_is_not_prepared_again(rig: Rig) -> None:
    promised(rig)
    rig.flags.commit(NAME)
    for _ in range(2):
        assert refused(lambda: rig.flags.issue(NAME)) == "FLAG_ARMED"
        assert refused(lambda: rig.flags.present(NAME)) == "FLAG_ARMED"
        assert refused(lambda: rig.flags.commit(NAME)) == "NOT_PROMISED"
        if state(rig.flags) == "provisional":
            rig.flags.settle(NAME)
    assert refused(lambda: rig.flags.settle(NAME)) == "NOT_COMMITTED"
    assert rig.flags.armed() == [NAME]


class Oracle:
    """Drives one flag step by step, and knows on its own when it may be obeyed."""

    def __init__(self) -> None:
        self.rig = Rig(base_config(1))
        self.nonce, self.where, self.until_s, self.orders = "", "off", 0.0, 0

    def step(self, name: str) -> None:
        if self.where != "armed" and self.rig.now_s > self.until_s:
            self.where = "off"
        with suppress(FlagRefusedError):
            getattr(self, name)()

    def issue(self) -> None:
        self.rig.flags.issue(NAME)
        self.nonce, self.where = "", "off"

    def present(self) -> None:
        self.nonce = self.rig.flags.present(NAME)

    def promise(self) -> None:
        self.rig.flags.promise(NAME, self.nonce, 5, 3.0, "alice")
        assert self.nonce
        self.nonce, self.where, self.until_s = "", "promised", self.rig.now_s + 3.0

    def commit(self) -> None:
        self.rig.flags.commit(NAME)
        assert self.where == "promised"
        self.where, self.until_s = "provisional", self.rig.now_s + 1.0

    def settle(self) -> None:
        self.rig.flags.settle(NAME)
        assert self.where == "provisional"
        self.where = "armed"

    def disarm(self) -> None:
        self.rig.flags.disarm(NAME)
        self.nonce, self.where = "", "off"

    def wait(self) -> None:
        self.rig.now_s += 0.6

    def order(self) -> None:
        self.orders += 1
        (report, *_) = self.rig.order(f"P{self.orders}", 100, flags=BIT)
        assert (report[1] == "8") == (self.where not in ("provisional", "armed"))


STEPS = ("issue", "present", "promise", "commit", "settle", "disarm", "wait", "order")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=30))
def test_p3_no_sequence_of_steps_obeys_a_flag_that_was_not_armed(steps: list[str]) -> None:
    """Obeyed only after promise and commit, and for longer than the limit only after settle."""
    oracle = Oracle()
    for name in steps:
        oracle.step(name)


def test_since_tells_when_it_came_to_where_it_is(rig: Rig) -> None:
    started = rig.flags.states()[2]["since"]
    assert rig.flags.states()[0] == {
        "name": "HIDDEN", "bit": 0, "state": "always", "epoch": 0, "since": None,
        "why": "it is always on",
    }  # fmt: skip
    assert "process started" in rig.flags.states()[2]["why"]
    promised(rig)
    rig.flags.commit(NAME)
    rig.flags.settle(NAME)
    shown = rig.flags.states()[2]
    assert shown["since"] >= started
    assert (shown["epoch"], "alice" in shown["why"]) == (5, True)


# -- the fence at the message ------------------------------------------------------------------


@pytest.mark.parametrize("where", ["off", "promised", "provisional", "armed"])
def test_p5_every_flag_word_of_65536(rig: Rig, where: str) -> None:
    """Each of the 16 bits is known, reserved or unknown; the runtime one only passes while on."""
    if where != "off":
        promised(rig)
    if where in ("provisional", "armed"):
        rig.flags.commit(NAME)
    if where == "armed":
        rig.flags.settle(NAME)
    on = where in ("provisional", "armed")
    passing, known, reserved = 3 | (BIT if on else 0), 19, 8
    for word in range(65536):
        if word & reserved:
            expected = "RESERVED_FLAG"
        elif word & ~known:
            expected = "UNKNOWN_FLAG"
        elif word & ~passing:
            expected = "FLAG_NOT_ARMED"
        else:
            expected = "NONE"
        assert rig.flags.why_not(word) == R.get(expected, 0), (word, where)
