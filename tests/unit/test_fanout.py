"""Work on many hosts: nobody is left out, nobody is waited for beyond the deadline (P2)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet import fanout as module
from deploytool.fleet.fanout import fanout


def test_p2_every_host_gets_its_result_or_its_fault_in_the_order_given() -> None:
    def fail() -> str:
        raise HostFault(FaultKind.LOST, "gone", in_doubt=True)

    seen: list[str] = []
    jobs: dict[str, Callable[[], str]] = {"b": lambda: "B", "a": fail, "c": lambda: "C"}
    outcomes = fanout(jobs, deadline_s=10, done=lambda name, _outcome: seen.append(name))
    assert list(outcomes) == ["b", "a", "c"]
    assert (outcomes["b"], outcomes["c"]) == ("B", "C")
    assert isinstance(outcomes["a"], HostFault)
    assert sorted(seen) == ["a", "b", "c"]


def test_no_work_is_no_outcome() -> None:
    assert fanout({}, deadline_s=1) == {}


def test_p2_a_host_that_hangs_costs_its_deadline_and_is_in_doubt() -> None:
    release = threading.Event()
    began = time.monotonic()
    told: list[str] = []
    try:
        outcomes = fanout(
            {"hung": lambda: release.wait(30), "quick": lambda: True},
            deadline_s=0.3,
            done=lambda name, _outcome: told.append(name),
        )
    finally:
        release.set()
    assert time.monotonic() - began < 5
    hung = outcomes["hung"]
    assert isinstance(hung, HostFault)
    assert (hung.kind, hung.in_doubt) == (FaultKind.TIMEOUT, True)
    assert outcomes["quick"] is True
    assert sorted(told) == ["hung", "quick"], "a late answer is no second outcome"


def test_p1_a_bug_in_one_job_is_raised_after_all_have_finished() -> None:
    finished: list[str] = []

    def slow() -> None:
        time.sleep(0.2)
        finished.append("slow")

    def bug() -> None:
        raise ZeroDivisionError("a bug")

    told: dict[str, object] = {}
    with pytest.raises(ZeroDivisionError, match="a bug"):
        fanout(
            {"bug": bug, "slow": slow},
            deadline_s=10,
            done=told.__setitem__,
        )
    assert finished == ["slow"]
    assert isinstance(told["bug"], HostFault)


def test_the_bound_is_kept_and_all_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDTH", 3)
    lock, running, most = threading.Lock(), 0, 0

    def job() -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return True

    outcomes = fanout({str(n): job for n in range(12)}, deadline_s=10)
    assert list(outcomes.values()) == [True] * 12
    assert 1 < most <= 3


def test_a_host_that_waits_for_its_turn_is_not_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDTH", 1)

    def job() -> bool:
        time.sleep(0.15)
        return True

    assert fanout({str(n): job for n in range(5)}, deadline_s=0.5) == dict.fromkeys("01234", True)
