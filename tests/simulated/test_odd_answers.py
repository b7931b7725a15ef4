"""A host that answers a lock oddly: it is named, and nobody says that it holds no lock (P1, P2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deploytool.errors import DeploytoolError
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


def twice(field: str) -> Callable[[bytes], bytes]:
    """Says one field of its answer a second time, otherwise."""
    said = re.compile(rb'"%s":("[^"]*"|\d+)' % field.encode())
    return lambda output: said.sub(rb'\g<0>,"%s":77' % field.encode(), output, count=1)


def unseen(output: bytes) -> bytes:
    """Locks the host, and could not look at it."""
    return re.sub(rb'"evidence":.*}', b'"unshown":"it can\'t be inspected"}', output)


def run(
    hosts: dict[str, SimulatedHost], artifact: Path, purpose: Purpose, plan: str
) -> DeploytoolError | None:
    runner = Runner(
        RENDERED.inventory,
        Release(NEW[0], str(artifact)),
        hosts,
        "me@here",
        Silent(),
        Forgetful(),
        plan_id=plan,
        purpose=purpose,
    )
    return conclude(runner.run(), "inventory.yaml")


def locked(hosts: dict[str, SimulatedHost]) -> set[str]:
    return {name for name, host in hosts.items() if locked_by(host)}


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("name", NAMES)
def test_p2_a_host_that_can_t_be_seen_under_its_lock_is_refused_and_no_lock_is_left(
    artifact: Path, name: str
) -> None:
    hosts = fleet.fleet_of(RENDERED, OLD)
    hosts[name].tampered = {"lock": unseen}
    error = run(hosts, artifact, Purpose.DEPLOY, "plan1")
    assert error is not None
    assert error.exit_code == 3
    assert any(line.startswith(name) and "can't be inspected" in line for line in error.details)
    assert locked(hosts) == set()


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("field", ["token", "current"])
@pytest.mark.parametrize("name", NAMES)
def test_p1_a_host_that_says_a_thing_twice_may_be_locked_and_that_is_said(
    artifact: Path, name: str, field: str
) -> None:
    hosts = fleet.fleet_of(RENDERED, OLD)
    hosts[name].tampered = {"lock": twice(field)}
    error = run(hosts, artifact, Purpose.DEPLOY, "plan1")
    assert error is not None
    assert error.exit_code == 5
    assert "no lock was taken" not in error.means
    assert any(line.startswith(name) and "each name once" in line for line in error.details)
    assert locked(hosts) == {name}


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("field", ["token", "current"])
@pytest.mark.parametrize("purpose", [Purpose.RESUME, Purpose.ROLLBACK], ids=lambda p: p.value)
def test_p7_an_odd_answer_to_a_takeover_holds_the_fleet(
    artifact: Path, purpose: Purpose, field: str
) -> None:
    hosts = fleet.fleet_of(RENDERED, OLD)
    hosts["router2"].strikes = {CallPoint("unlock", n, BEFORE): Fault.GONE for n in (1, 2)}
    assert run(hosts, artifact, Purpose.DEPLOY, "plan1") is not None
    hosts["router2"].reconnect()
    hosts["router2"].tampered = {"takeover": twice(field)}
    error = run(hosts, artifact, purpose, "plan2")
    assert error is not None
    assert error.exit_code == 5
    assert any(line.startswith("router2") and "each name once" in line for line in error.details)
    assert "router2" in locked(hosts)


@pytest.mark.usefixtures("swift")
def test_p7_an_odd_answer_on_the_way_back_is_no_traceback(artifact: Path) -> None:
    hosts = fleet.fleet_of(RENDERED, OLD)
    hosts["router3"].strikes = {CallPoint("activate", 1, AFTER): Fault.CRASHES}
    hosts["router1"].tampered = {"renew": twice("token")}
    error = run(hosts, artifact, Purpose.DEPLOY, "plan1")
    assert error is not None
    assert error.exit_code == 5
    assert locked(hosts) == {*NAMES}
