"""Odd answers to a renewal, and of a witness: none of them ends a watch or a stop."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from deploytool.agent.model import Asked
from deploytool.agent.requests import Answer, Told
from deploytool.stop.targets import StopTargets
from deploytool.stop.witness import ask_witness
from deploytool.watch.lease import Lease

HUGE = 10**400


def answer(text: str) -> Answer:
    return Told(said=Asked(way="command", code=0, answer=text))


def renewal(lease_s: object, left_s: object = 1) -> str:
    return json.dumps({"nonce": "ab", "lease_s": lease_s, "left_s": left_s})


@pytest.mark.parametrize(
    "reply",
    [
        Answer(),
        answer(renewal(10) + renewal(10)),
        answer("[" * 50_000),
        answer(json.dumps({"nonce": "a b", "lease_s": 10, "left_s": 1})),
        answer(json.dumps({"nonce": 7, "lease_s": 10, "left_s": 1})),
        *map(answer, (renewal(HUGE), renewal(10, HUGE), renewal(float("inf")), renewal(-1))),
        answer(renewal(float("nan"))),
    ],
)
def test_p6_an_odd_answer_to_a_renewal_is_that_host_s_trouble_and_ends_no_watch(
    reply: Answer,
) -> None:
    lease = Lease("router1")
    assert lease.learn(reply, 1000.0)
    assert lease.renewal is None, "no instant can be named by it"
    assert lease.learn(answer(renewal(10)), 1000.0) == ""


@pytest.mark.parametrize(
    "said",
    [
        {"taken": HUGE, "last_child": {}},
        {"taken": 1, "last_child": []},
        {"taken": 1, "last_child": {"a": HUGE}},
    ],
)
def test_p6_a_witness_that_is_not_understood_is_none_and_the_stop_says_so(
    tmp_path: Path, said: object
) -> None:
    told = tmp_path / "said"
    told.write_text(json.dumps(said))
    command = (sys.executable, "-c", f"print(open({str(told)!r}).read())")
    heard = ask_witness(StopTargets("f", str(tmp_path), (), silence=command))
    assert isinstance(heard, str)
    assert "not understood" in heard
