"""What hosts say of a rollout that did not end: said with its clock, by every command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploytool.parity.host_notices import notices
from deploytool.parity.model import Evidence, Hold, Lock

from .evidences import good

THEN = 1_354_320_000  # 2012-12-01 00:00:00Z
HOLD = Hold("MIXED", "ann@desk", "p1", "resume-or-rollback", THEN)
LOCK = Lock(7, "ann@desk", "deploy", "p1", THEN)


@pytest.fixture
def shown() -> Evidence:
    return good()


def test_p7_a_fleet_that_was_left_mixed_is_named_with_its_clock(shown: Evidence) -> None:
    fleet = {"router1": replace(shown, hold=HOLD, lock=LOCK), "router2": replace(shown, hold=HOLD)}
    (line,) = notices(fleet, THEN + 65)
    assert line == (
        "router1, router2: MIXED since 2012-12-01 00:00:00Z, left by ann@desk (plan p1); "
        "what ends it: resume-or-rollback, for 65 s"
    )


@pytest.mark.parametrize(("later_s", "words"), [(7199, "119 min"), (7200, "2 h"), (-5, "0 s")])
def test_p7_a_lock_is_named_with_its_holder(shown: Evidence, later_s: int, words: str) -> None:
    (line,) = notices({"router1": replace(shown, lock=LOCK)}, THEN + later_s)
    assert line.endswith(f"by ann@desk (deploy, plan p1, token 7), for {words}")


def test_p7_a_host_that_says_nothing_of_one_gets_no_line(shown: Evidence) -> None:
    assert notices({"router1": shown}, THEN) == ()
