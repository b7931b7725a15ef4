"""Wherever a step is cut short, the host can be read, undone and finished."""

from __future__ import annotations

import pytest

from .invariants import again, crashes, damage, deploying, faults, races, stops


@pytest.mark.parametrize("supervisor", ["systemd", "process"])
@pytest.mark.parametrize("step", deploying.STEPS)
def test_a_strike_at_any_point(step: str, supervisor: str) -> None:
    assert list(crashes.crash_violations(step, supervisor)) == []


def test_a_stale_token_changes_nothing() -> None:
    assert list(races.stale_violations()) == []


@pytest.mark.parametrize("step", deploying.STEPS)
def test_a_lock_is_taken_over_at_any_point(step: str) -> None:
    assert list(races.takeover_violations(step)) == []


def test_a_digest_is_worked_out_from_the_bytes() -> None:
    assert list(damage.damage_violations()) == []


def test_a_stop_holds_whenever_it_comes() -> None:
    assert list(stops.stop_violations()) == []


def test_a_host_is_confirmed_or_stops_serving() -> None:
    assert list(races.expiry_violations()) == []


@pytest.mark.parametrize("supervisor", ["systemd", "process"])
@pytest.mark.parametrize("step", deploying.STEPS)
def test_any_call_fails(step: str, supervisor: str) -> None:
    assert list(faults.fault_violations(step, supervisor)) == []


@pytest.mark.parametrize("supervisor", ["systemd", "process"])
@pytest.mark.parametrize("name", again.VERBS)
def test_a_step_that_was_struck_is_tried_again(name: str, supervisor: str) -> None:
    assert list(again.again_violations(name, supervisor)) == []
