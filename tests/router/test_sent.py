"""When the last child left, as the router says it: what a witness is compared with (P6)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router.counters import TURNS, Sent
from router.latch import HALTED

from .conftest import base_config
from .harness import Rig

START, NOW = 100.0, 200.0


def said(sent: Sent) -> dict[str, Any]:
    found = sent.shown(NOW, START)
    assert found is not None
    return found


def token(number: int) -> bytes:
    return b"01S%011d" % number


def test_a_process_that_sent_nothing_says_so() -> None:
    assert said(Sent(700)) == {
        "children": 0, "counted_s": 100.0, "last_ago_s": None, "gap_s": None,
    }  # fmt: skip


@given(
    first=st.integers(0, 10**9),
    turns=st.lists(st.tuples(st.integers(0, 5), st.floats(0.001, 1.0)), max_size=2 * TURNS),
    held=st.integers(0, 40),
)
def test_p6_what_is_said_of_the_last_child_is_what_left(
    first: int, turns: list[tuple[int, float]], held: int
) -> None:
    """Against a list of every child and its instant; the last ``held`` are taken back."""
    sent, left, number, now = Sent(first), [], first, START
    for count, pause in turns:
        now = round(now + pause * (NOW - START) / (2 * TURNS), 6)
        left += [(number + n, now) for n in range(1, count + 1)]
        number += count
        sent.note(number, now)
    back, left = left[max(0, len(left) - held) :], left[: max(0, len(left) - held)]
    sent.take_back([token(n) for n, _ in back])
    found = sent.shown(NOW, START)
    if found is None:
        assert left, "unknown is said only where something left"
        assert held, "and only where something was taken back"
        return
    assert found["children"] == len(left)
    if not left:
        assert found["last_ago_s"] is None
        return
    assert found["last_ago_s"] == pytest.approx(NOW - left[-1][1], abs=1e-5)
    recent = sorted({at for _, at in left})
    if found["gap_s"] is not None and len(recent) <= TURNS and not held:
        expected = (recent[-1] - recent[0]) / (len(recent) - 1)
        assert found["gap_s"] == pytest.approx(expected, abs=1e-5)


def test_p6_what_a_halt_took_back_is_not_counted() -> None:
    rig = Rig(base_config(1))
    rig.order("A", qty=300)
    rig.engine.turn(time.monotonic())
    before = rig.engine.gate.sequence
    for venue in rig.engine.venues:
        venue.out.clear()  # they left
    rig.order("B", qty=300)
    assert rig.engine.gate.sequence > before
    rig.engine.stop(HALTED, "test", "test")
    now = time.monotonic()
    rig.engine.turn(now + 5)
    shown = rig.engine.sent.shown(now + 10, now)
    assert shown is not None
    assert shown["children"] == before
    assert shown["last_ago_s"] == pytest.approx(10, abs=0.5)
