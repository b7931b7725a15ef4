"""Stop and start end at every call of theirs, and what is said afterwards is true (P6, P7).

The true trading state is looked up in the machines. Whoever comes next, from another machine,
asks ``status``, ``start`` and ``stop``, and does what is printed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from deploytool.fleet.signing import BadSignature
from deploytool.simulation.faults import AFTER, BEFORE, CallPoint, Fault
from deploytool.simulation.memory.signing import signer
from deploytool.start.request import NAMESPACE

from .cases import inline
from .operators import KILLED, Channel, Ended, Kill, Operators
from .sampling import Sampling

SUPERVISORS = ("systemd", "process")
HALTED, FENCED = "router1", "router2"
"""One obeyed, the other hung and was killed; the third trades on."""
CHANGING = {"resume", "lock", "confirm", "unlock"}


def _verify(content: bytes, signature: str, _signers: Path, _namespace: str) -> str:
    if (name := signer(signature, content, NAMESPACE)) is None:
        raise BadSignature("nobody signed this")
    return name


@pytest.fixture
def operators(
    swift: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Operators]:
    del swift
    monkeypatch.setattr("deploytool.start.runner.fanout", inline)
    monkeypatch.setattr("deploytool.start.runner.verify", _verify)
    monkeypatch.setattr("deploytool.stop.escalation.SshChannel", Channel)
    return lambda supervisor: Operators(tmp_path, supervisor, monkeypatch)


def stopped(fleet: Operators) -> None:
    """Two of the three are stopped, and two people have asked and signed that they start again."""
    fleet.renew()
    fleet.hang(FENCED)
    ended = fleet.stops(HALTED, FENCED)
    assert not list(fleet.lies(ended))
    assert fleet.truth == {HALTED: False, FENCED: False, "router3": True}
    assert fleet.asks(HALTED, FENCED).code == 0, fleet.typed[-1]


def wrong(fleet: Operators, left: Callable[[], object]) -> list[str]:
    """What is wrong with what ``status``, ``start`` and ``stop`` say then, and where they lead.

    ``left`` brings the fleet to where it was left.
    """
    found: list[str] = []
    for ask in (fleet.asks, fleet.stops):
        left()
        found += fleet.lies(ask())
        found += fleet.follow()
    return found


def points(calls: tuple[str, ...]) -> list[Kill]:
    return [Kill(n, part) for n in range(1, len(calls) + 1) for part in (BEFORE, AFTER)]


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_p6_p7_a_start_that_was_killed_at_any_call(
    operators: Callable[[str], Operators], supervisor: str
) -> None:
    fleet = operators(supervisor)
    stopped(fleet)
    whole = fleet.starts()
    assert (whole.code, set(fleet.truth.values())) == (0, {True}), whole
    assert {"probe", *CHANGING} == set(whole.calls)
    found, told = [], 0
    for kill in points(whole.calls):

        def left(kill: Kill = kill) -> None:
            stopped(fleet)
            assert fleet.starts(kill).code == KILLED, kill

        left()
        told += len(set(fleet.truth.values()))
        found += [f"{kill}: {text}" for text in wrong(fleet, left)]
    assert told > len(points(whole.calls)), "hosts have to differ at some of these points"
    assert not found, f"{len(found)}: {found[:6]}"


@pytest.mark.parametrize("fault", [Fault.CONNECTION_LOST, Fault.REBOOT], ids=lambda f: f.name)
@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_p6_p7_a_start_whose_agent_ended_in_the_middle(
    operators: Callable[[str], Operators], supervisor: str, fault: Fault, sampling: Sampling
) -> None:
    """The start itself goes on: what it says at its end is true of what that left."""
    fleet = operators(supervisor)
    stopped(fleet)
    fleet.starts()
    moments = {h: [m for m in fleet.hosts[h].moments if m.verb in CHANGING] for h in fleet.hosts}
    steps = {m.part for m in moments[FENCED]}
    assert {"remove fenced", "restart", "sync state/"} <= steps
    found = []
    chance = random.Random(f"{sampling.seed} {supervisor} {fault.name}")  # noqa: S311 a sample
    every = [(host, moment) for host, those in moments.items() for moment in those]
    for host, moment in sampling.draw(every, 2 * sampling.singles, chance):

        def left(host: str = host, moment: CallPoint = moment) -> Ended:
            stopped(fleet)
            fleet.hosts[host].strikes = {moment: fault}
            ended = fleet.starts()
            assert fleet.hosts[host].struck, moment
            fleet.hosts[host].reconnect()
            return ended

        found += [f"{host} {moment}: {text}" for text in fleet.lies(left())]
        found += [f"{host} {moment}: {text}" for text in wrong(fleet, left)]
    assert not found, f"{len(found)}: {found[:6]}"


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_p6_p7_a_stop_that_was_killed_at_any_call(
    operators: Callable[[str], Operators], supervisor: str
) -> None:
    fleet = operators(supervisor)
    fleet.hang(FENCED)
    whole = fleet.stops()
    assert set(fleet.truth.values()) == {False}, whole
    assert {"halt", "fence", "kill", "survey"} == set(whole.calls)
    found = []
    for kill in points(whole.calls):

        def left(kill: Kill = kill) -> None:
            fleet.renew()
            fleet.hang(FENCED)
            assert fleet.stops(kill=kill).code == KILLED, kill

        found += [f"{kill}: {text}" for text in wrong(fleet, left)]
    assert not found, f"{len(found)}: {found[:6]}"
