"""A host that answers a lock oddly: it is named, and nobody says that it holds no lock (P1, P2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploytool.errors import DeploytoolError
from deploytool.fleet.host import Host, Payload
from deploytool.fleet.protocol import Call, Reply
from deploytool.release.model import Release
from deploytool.rollout.model import Purpose
from deploytool.rollout.outcome import conclude
from deploytool.rollout.runner import Runner
from deploytool.simulation import fleet
from deploytool.simulation.faults import AFTER, BEFORE, CallPoint, Fault
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.oracle import locked_by

from .cases import NEW, OLD, Forgetful, Silent

RENDERED = fleet.Rendered.of(fleet.inventory(3))
NAMES = RENDERED.inventory.names


class Twice:
    """A host that says one thing twice in its answer to one verb."""

    def __init__(self, host: Host, verb: str, key: str) -> None:
        self._host, self._verb, self._key = host, verb, key
        self.name = host.name

    def close(self) -> None:
        pass

    def call(self, call: Call, *, deadline_s: float, payload: Payload | None = None) -> Reply:
        reply = self._host.call(call, deadline_s=deadline_s, payload=payload)
        if call.verb != self._verb:
            return reply
        again = tuple(line for line in reply.lines if line[0] == self._key)
        assert again
        return Reply((*reply.lines, *again), reply.asked_at)


def run(
    hosts: dict[str, SimulatedHost], odd: Twice, artifact: Path, purpose: Purpose, plan: str
) -> DeploytoolError | None:
    runner = Runner(
        RENDERED.inventory,
        Release(NEW[0], str(artifact)),
        {**hosts, odd.name: odd},
        "me@here",
        Silent(),
        Forgetful(),
        plan_id=plan,
        purpose=purpose,
    )
    return conclude(runner.run(), "inventory.yaml")


def locked(hosts: dict[str, SimulatedHost]) -> set[str]:
    return {name for name, host in hosts.items() if locked_by(host.helper)}


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("name", NAMES)
def test_p2_a_host_that_says_twice_what_it_runs_is_refused_and_no_lock_is_left(
    artifact: Path, name: str
) -> None:
    hosts = fleet.fleet_of(RENDERED, OLD)
    odd = Twice(hosts[name], "lock", "current")
    error = run(hosts, odd, artifact, Purpose.DEPLOY, "plan1")
    assert error is not None
    assert error.exit_code == 3
    assert any(line.startswith(name) and "'current' 2 times" in line for line in error.details)
    assert locked(hosts) == set()


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("name", NAMES)
def test_p1_a_host_that_gives_two_tokens_may_be_locked_and_that_is_said(
    artifact: Path, name: str
) -> None:
    hosts = fleet.fleet_of(RENDERED, OLD)
    odd = Twice(hosts[name], "lock", "token")
    error = run(hosts, odd, artifact, Purpose.DEPLOY, "plan1")
    assert error is not None
    assert error.exit_code == 5
    assert "no lock was taken" not in error.means
    assert any(line.startswith(name) and "'token' 2 times" in line for line in error.details)
    assert locked(hosts) == {name}


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("key", ["token", "current"])
@pytest.mark.parametrize("purpose", [Purpose.RESUME, Purpose.ROLLBACK], ids=lambda p: p.value)
def test_p7_an_odd_answer_to_a_takeover_holds_the_fleet(
    artifact: Path, purpose: Purpose, key: str
) -> None:
    hosts = fleet.fleet_of(RENDERED, OLD)
    hosts["router2"].strikes = {CallPoint("unlock", n, BEFORE): Fault.GONE for n in (1, 2)}
    first = Twice(hosts["router1"], "none", "")
    assert run(hosts, first, artifact, Purpose.DEPLOY, "plan1") is not None
    hosts["router2"].reconnect()
    odd = Twice(hosts["router2"], "takeover", key)
    error = run(hosts, odd, artifact, purpose, "plan2")
    assert error is not None
    assert error.exit_code == 5
    assert any(line.startswith("router2") and "2 times" in line for line in error.details)
    assert "router2" in locked(hosts)


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("key", ["token", "current"])
def test_p7_an_odd_answer_on_the_way_back_is_no_traceback(artifact: Path, key: str) -> None:
    hosts = fleet.fleet_of(RENDERED, OLD)
    hosts["router3"].strikes = {CallPoint("activate", 1, AFTER): Fault.CRASHES}
    odd = Twice(hosts["router1"], "renew", key)
    error = run(hosts, odd, artifact, Purpose.DEPLOY, "plan1")
    assert error is not None
    if key == "current":
        assert error.exit_code == 4, "nothing is asked of that line there"
    else:
        assert error.exit_code == 5
        assert locked(hosts) == {*NAMES}
