"""A host has to trade after a switch as it did before it (P1, P6)."""

from __future__ import annotations

import itertools

import pytest

from deploytool.agent.model import Latch
from deploytool.parity.model import Evidence, HostVerdict, Verdict
from deploytool.rollout.trading import Expectation, Trading, baseline, held_to, still_halted

from .evidences import but, good

STATES = (None, "ACTIVE", "REDUCING", "HALTED")
UNCONFIGURED = "not configured, and what isn't configured blocks: ['parents']"
NO_LEASE = "no lease yet: nobody has renewed it since this process started"


def saying(state: str | None, latch: str = "", reason: str = "", **more: object) -> Evidence:
    said = {**(good().status or {}), "latch": latch or None, "reason": reason, **more}
    del said["trading_state"]
    return but(good(), status=said if state is None else {**said, "trading_state": state})


def stopped(latch: str, state: str = "HALTED") -> Evidence:
    mark = Latch(latch=latch, by="ann", reason="runaway", since=1)
    return but(saying(state, "own"), latch=mark)


def verdict(before: Evidence, after: Evidence, expected: Expectation = "active") -> Verdict:
    was = baseline(before, touched=False)
    return held_to(HostVerdict("router1", (), after.release, after), was, expected).verdict


@pytest.mark.parametrize(("before", "after"), [*itertools.product(STATES, STATES)])
def test_p1_after_a_switch_a_host_trades_as_it_did_before(
    before: str | None, after: str | None
) -> None:
    """Nothing is latched: only what was HALTED already, or was not told, may be other than before.

    What trades less than before is no MATCH, and silence is UNKNOWN where there was a word.
    """
    match = {
        *((None, None), (None, "ACTIVE"), ("ACTIVE", "ACTIVE")),
        *(("REDUCING", "REDUCING"), ("REDUCING", "ACTIVE")),
        *(("HALTED", "ACTIVE"), ("HALTED", "REDUCING"), ("HALTED", "HALTED")),
    }
    silent = {("ACTIVE", None), ("REDUCING", None), ("HALTED", None)}
    pair = before, after
    wanted = Verdict.UNKNOWN if pair in silent else Verdict.MISMATCH
    assert verdict(saying(before), saying(after)) is (Verdict.MATCH if pair in match else wanted)


@pytest.mark.parametrize("kind", [saying, stopped])
def test_p6_a_halt_that_held_holds_after_under_the_same_latch(kind: object) -> None:
    def halted(latch: str, state: str = "HALTED") -> Evidence:
        return stopped(latch, state) if kind is stopped else saying(state, latch)

    assert verdict(halted("ab"), halted("ab")) is Verdict.MATCH
    assert verdict(halted("ab"), halted("cd")) is Verdict.MISMATCH
    assert verdict(halted("ab"), saying("ACTIVE")) is Verdict.MISMATCH
    assert verdict(halted("ab"), saying(None)) is Verdict.UNKNOWN
    assert verdict(saying("REDUCING", "ab"), saying("ACTIVE")) is Verdict.MISMATCH
    assert list(still_halted({"router1": halted("ab")})) == ["router1"]


def test_p1_a_missing_limit_is_no_wait_for_a_lease() -> None:
    """Both are HALTED with nothing latched; the one ends by itself, the other never does."""
    lease = {"lease_s": 10, "left_s": 0}
    waits = saying("HALTED", reason=NO_LEASE, lease=lease)
    blocked = saying("HALTED", reason=UNCONFIGURED, lease=lease)
    active = saying("ACTIVE")
    assert verdict(active, waits) is Verdict.MATCH
    assert verdict(active, blocked) is Verdict.MISMATCH
    assert verdict(active, saying("HALTED", reason=NO_LEASE, lease=None)) is Verdict.MISMATCH
    assert verdict(active, saying("HALTED", "ab", NO_LEASE, lease=lease)) is Verdict.MISMATCH
    assert verdict(waits, blocked) is Verdict.MISMATCH
    assert still_halted({"router1": waits, "router2": active}) == {}
    assert still_halted({"router1": blocked}) == {
        "router1": f"still HALTED by itself: {UNCONFIGURED}"
    }


def test_outside_hours_every_host_has_to_come_up_halted() -> None:
    assert verdict(saying("ACTIVE"), saying("HALTED"), "halted") is Verdict.MATCH
    assert verdict(saying("ACTIVE"), saying("ACTIVE"), "halted") is Verdict.MISMATCH
    assert verdict(saying("HALTED"), saying(None), "halted") is Verdict.MISMATCH


def test_p1_what_an_earlier_rollout_may_have_switched_has_to_trade_unless_it_was_stopped() -> None:
    assert baseline(saying("HALTED", "ab"), touched=True) == Trading()
    assert baseline(saying("HALTED", "ab"), touched=False).latch == "ab"
    assert baseline(stopped("cd"), touched=True).latch == "cd"
