"""What hosts say of a rollout that did not end: said with its clock, by every command."""

from __future__ import annotations

import pytest

from deploytool.agent.model import Hold, Lock
from deploytool.parity.host_notices import notices
from deploytool.parity.model import Evidence

from .evidences import but, good

THEN = 1_354_320_000  # 2012-12-01 00:00:00Z
HOLD = Hold(verdict="MIXED", holder="ann@desk", plan="p1", next="resume-or-rollback", since=THEN)
LOCK = Lock(token=7, holder="ann@desk", purpose="deploy", plan="p1", since=THEN)


@pytest.fixture
def shown() -> Evidence:
    return good()


def test_p7_a_fleet_that_was_left_mixed_is_named_with_its_clock(shown: Evidence) -> None:
    fleet = {"router1": but(shown, hold=HOLD, lock=LOCK), "router2": but(shown, hold=HOLD)}
    (line,) = notices(fleet, THEN + 65)
    assert line == (
        "router1, router2: MIXED since 2012-12-01 00:00:00Z, left by ann@desk (plan p1); "
        "what ends it: resume-or-rollback, for 65 s"
    )


@pytest.mark.parametrize(("later_s", "words"), [(7199, "119 min"), (7200, "2 h"), (-5, "0 s")])
def test_p7_a_lock_is_named_with_its_holder(shown: Evidence, later_s: int, words: str) -> None:
    (line,) = notices({"router1": but(shown, lock=LOCK)}, THEN + later_s)
    assert line.endswith(f"by ann@desk (deploy, plan p1, token 7), for {words}")


def test_p7_a_host_that_says_nothing_of_one_gets_no_line(shown: Evidence) -> None:
    assert notices({"router1": shown}, THEN) == ()
