"""The way back, where a host is silent or has lost its old release (P1, P5, P7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploytool.errors import DeploytoolError
from deploytool.rollout.model import Purpose, State
from deploytool.rollout.outcome import conclude
from deploytool.rollout.report import Report
from deploytool.simulation import fleet
from deploytool.simulation.faults import AFTER, BEFORE, CallPoint, Fault
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.oracle import locked_by, truth

from .cases import NEW, OLD, roll_out

RENDERED = fleet.Rendered.of(fleet.inventory(3))
Hosts = dict[str, SimulatedHost]


def run(
    hosts: Hosts, artifact: Path, purpose: Purpose = Purpose.DEPLOY
) -> tuple[Report, DeploytoolError | None]:
    report = roll_out(RENDERED.inventory, hosts, artifact, purpose)
    return report, conclude(report, "inventory.yaml")


def on(hosts: Hosts) -> dict[str, str]:
    known = {OLD[0].sha256: "old", NEW[0].sha256: "new"}
    return {name: known[truth(host).linked or ""] for name, host in hosts.items()}


def struck(**faults: dict[CallPoint, Fault]) -> Hosts:
    """Three hosts that are switched at once; router3 dies of it, so that all are to go back."""
    hosts = fleet.fleet_of(RENDERED, OLD)
    hosts["router3"].strikes = {CallPoint("activate", 1, AFTER): Fault.CRASHES}
    for name, strikes in faults.items():
        hosts[name].strikes = {**hosts[name].strikes, **strikes}
    return hosts


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("verb", ["renew", "probe"])
def test_p1_who_answers_goes_back_and_who_is_silent_is_named_and_holds_the_fleet(
    artifact: Path, verb: str
) -> None:
    """See docs/decisions/0011-back-without-the-silent.md."""
    hosts = struck(router1={CallPoint(verb, 1 if verb == "renew" else 2, BEFORE): Fault.GONE})
    report, error = run(hosts, artifact)
    assert State.CHECKING_OLD in report.path
    assert error is not None
    assert error.exit_code == 5
    assert on(hosts) == {"router1": "new", "router2": "old", "router3": "old"}
    assert any(line.startswith("router1: ") for line in error.details), error.details
    assert all(locked_by(host) for host in hosts.values())
    hosts["router1"].reconnect()
    report, error = run(hosts, artifact, Purpose.ROLLBACK)
    assert error is None
    assert report.state is State.RESTORED
    assert set(on(hosts).values()) == {"old"}
    assert not any(locked_by(host) for host in hosts.values())


@pytest.mark.usefixtures("swift")
def test_p1_one_that_answers_and_has_lost_its_old_release_keeps_all_from_going_back(
    artifact: Path,
) -> None:
    hosts = struck()
    lost = hosts["router1"]
    node = lost.computer.find(f"{lost.root}/releases/{OLD[0].sha256}/router")
    assert node is not None
    lost.computer.disk.overwrite(node, b"rotten")
    report, error = run(hosts, artifact)
    assert report.path[-3:] == [State.CHECKING_OLD, State.HOLDING, State.HELD]
    assert error is not None
    assert error.exit_code == 5
    assert set(on(hosts).values()) == {"new"}
    assert any(line.startswith("router1: the old release") for line in error.details)


@pytest.mark.usefixtures("swift")
def test_p1_where_no_touched_host_answers_nothing_is_switched_back(artifact: Path) -> None:
    gone = {CallPoint("renew", 1, BEFORE): Fault.GONE}
    hosts = struck(router1=gone, router2=gone, router3=gone)
    report, error = run(hosts, artifact)
    assert State.REVERTING not in report.path
    assert error is not None
    assert error.exit_code == 5
    assert set(on(hosts).values()) == {"new"}
