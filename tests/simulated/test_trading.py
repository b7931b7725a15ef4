"""A rollout sees whether hosts trade: what halts itself is not deployed (P1), a stop stays (P6)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploytool.agent.requests import Halt
from deploytool.errors import DeploytoolError
from deploytool.rollout.model import Purpose, State
from deploytool.rollout.outcome import conclude
from deploytool.rollout.report import Report
from deploytool.simulation import fleet
from deploytool.simulation.faults import BEFORE, CallPoint, Fault
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.oracle import locked_by, truth

from .cases import NEW, OLD, rendered, roll_out

pytestmark = pytest.mark.usefixtures("swift")
Hosts = dict[str, SimulatedHost]


@pytest.fixture
def hosts() -> Hosts:
    return fleet.fleet_of(rendered("systemd"), OLD)


def run(
    hosts: Hosts, artifact: Path, purpose: Purpose = Purpose.DEPLOY, *, halted: bool = False
) -> tuple[Report, DeploytoolError | None, int]:
    report = roll_out(rendered("systemd").inventory, hosts, artifact, purpose, halted=halted)
    error = conclude(report, "inventory.yaml")
    return report, error, error.exit_code if error else 0


def unconfigured(host: SimulatedHost) -> None:
    """Its process sends nothing, and has latched nothing: a limit is missing."""
    if (mind := host.service.speaker()) is not None:
        mind.halted = True


def comes_up(hosts: Hosts, halting: Callable[[SimulatedHost], None]) -> None:
    """The new build is halted a moment after each of its starts."""
    for host in hosts.values():
        start = host.service.start

        def starts(start: Callable[[], str] = start, host: SimulatedHost = host) -> str:
            said = start()
            main = host.service.main
            if main is not None and sha256(main.loaded) == NEW[0].sha256:
                halting(host)
            return said

        host.service.start = starts  # type: ignore[method-assign]


def on(hosts: Hosts, release: str) -> bool:
    return all(truth(host).runs(release) for host in hosts.values())


def locked(hosts: Hosts) -> bool:
    return any(locked_by(host) for host in hosts.values())


def test_p1_a_limit_that_is_missing_everywhere_fails_the_first_wave(
    hosts: Hosts, artifact: Path
) -> None:
    comes_up(hosts, unconfigured)
    report, error, code = run(hosts, artifact)
    assert error is not None
    assert (report.state, code) == (State.RESTORED, 4)
    assert any(
        "trading state: expected ACTIVE, as before, found HALTED" in d for d in error.details
    )
    assert on(hosts, OLD[0].sha256)
    switched = [n for n, host in hosts.items() if any(m.verb == "activate" for m in host.moments)]
    assert switched == ["router1"]


def test_p1_a_resume_does_not_take_a_fleet_that_halted_itself_for_deployed(
    hosts: Hosts, artifact: Path
) -> None:
    hosts["router8"].strikes = {
        CallPoint("unlock", nth, BEFORE): Fault.CONNECTION_REFUSED for nth in (1, 2)
    }
    assert run(hosts, artifact)[0].path[-3] is State.UNLOCKING
    for host in hosts.values():
        host.reconnect()
        unconfigured(host)
    report, _, code = run(hosts, artifact, Purpose.RESUME)
    assert (report.state, code) == (State.RESTORED, 4)
    assert on(hosts, OLD[0].sha256)


def test_p6_what_was_stopped_before_stays_so_and_is_named(hosts: Hosts, artifact: Path) -> None:
    request = Halt(latch="ab12", by="ann", reason="runaway", since=1, seconds=5)
    for host in hosts.values():
        host.call(request, deadline_s=5)
    for already in (False, True):
        report, error, code = run(hosts, artifact)
        assert error is not None
        assert (report.state, report.already, code) == (State.DONE, already, 5)
        assert error.details[0] == "router1: still HALTED by ann: runaway (latch ab12)"
        assert "are still HALTED" in error.what
        assert "deploytool start -i inventory.yaml --all" in error.now
        assert run(hosts, artifact, halted=True)[1] is None
        assert on(hosts, NEW[0].sha256)
        assert not locked(hosts)


def test_p7_a_build_that_latches_its_own_halt_has_a_way_out(hosts: Hosts, artifact: Path) -> None:
    """Its latch is on the disk: the old build comes up HALTED too, and that is no way back."""
    comes_up(hosts, SimulatedHost.halts_itself)
    for purpose in (Purpose.DEPLOY, Purpose.ROLLBACK):
        report, error, code = run(hosts, artifact, purpose)
        assert error is not None
        assert (report.state, code) == (State.HELD, 5)
        assert "add --halted" in error.now
    report, error, code = run(hosts, artifact, Purpose.ROLLBACK, halted=True)
    assert (report.state, code) == (State.RESTORED, 0)
    assert on(hosts, OLD[0].sha256)
    assert not locked(hosts)
