"""A build that dies 8 s after each start is never proven, whoever started it (P1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploytool.errors import DeploytoolError
from deploytool.release.model import Manifest
from deploytool.rollout.model import Purpose, State
from deploytool.rollout.outcome import conclude
from deploytool.rollout.report import Report
from deploytool.rollout.soak import left_s
from deploytool.simulation import fleet
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.oracle import locked_by, truth
from tests.unit.evidences import but, good

from .cases import NEW, OLD, roll_out

pytestmark = pytest.mark.usefixtures("swift")
SOAK_S, DIES_S = 10.0, 8.0
_PLAIN = fleet.inventory()
SOAKING = fleet.Rendered.of(
    _PLAIN.model_copy(update={"service": _PLAIN.service.model_copy(update={"soak_s": SOAK_S})})
)


class Killed(BaseException):
    """SIGKILL: nothing that the deployer wrote can catch it."""


class Hours:
    """The operator's clock, by which the hosts' time passes; some builds don't last long."""

    def __init__(self, hosts: dict[str, SimulatedHost], *short_lived: str) -> None:
        self._hosts, self._short_lived = hosts, short_lived
        self._now = 0.0
        self.kill_on = ""
        """The release on which all hosts are when the deployer is killed, waiting."""

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        if all(truth(host).main == self.kill_on for host in self._hosts.values()):
            raise Killed
        self._now += seconds
        for host in self._hosts.values():
            host.pass_time(seconds)
            main, uptime = host.service.main, host.computer.uptime
            dies = main is not None and sha256(main.loaded) in self._short_lived
            if dies and main is not None and uptime - main.start / 100 >= DIES_S:
                host.service.crash()


@pytest.fixture
def hosts() -> dict[str, SimulatedHost]:
    return fleet.fleet_of(SOAKING, OLD)


def run(
    hosts: dict[str, SimulatedHost], artifact: Path, purpose: Purpose = Purpose.DEPLOY
) -> tuple[Report, DeploytoolError | None]:
    report = roll_out(SOAKING.inventory, hosts, artifact, purpose)
    return report, conclude(report, "inventory.yaml")


def time_passes(
    monkeypatch: pytest.MonkeyPatch, hosts: dict[str, SimulatedHost], *short_lived: Manifest
) -> Hours:
    hours = Hours(hosts, *(build.sha256 for build in short_lived))
    monkeypatch.setattr("deploytool.rollout.progress.time", hours)
    return hours


def test_p1_what_dies_young_dies_in_the_first_wave(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, hosts: dict[str, SimulatedHost]
) -> None:
    time_passes(monkeypatch, hosts, NEW[0])
    report, error = run(hosts, artifact)
    assert error is not None
    assert (report.state, error.exit_code) == (State.RESTORED, 4)
    assert all(truth(host).runs(OLD[0].sha256) for host in hosts.values())
    switched = [n for n, host in hosts.items() if any(m.verb == "activate" for m in host.moments)]
    assert switched == ["router1"], "the canary dies, and no other host is switched"


def test_p1_what_lives_on_is_proven_and_every_process_has_run_that_long(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, hosts: dict[str, SimulatedHost]
) -> None:
    time_passes(monkeypatch, hosts)
    report, error = run(hosts, artifact)
    assert error is None
    assert report.round is not None
    assert not left_s(report.round.evidence, SOAK_S)


@pytest.mark.parametrize("purpose", [Purpose.RESUME, Purpose.ROLLBACK])
def test_p1_what_an_interrupted_deployer_started_soaks_in_what_ends_it(
    artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    hosts: dict[str, SimulatedHost],
    purpose: Purpose,
) -> None:
    """Every host runs it, verified, and is only not unlocked: all was well when it was seen."""
    dies = NEW if purpose is Purpose.RESUME else OLD
    hours = time_passes(monkeypatch, hosts)
    hours.kill_on = NEW[0].sha256
    with pytest.raises(Killed):
        run(hosts, artifact)
    time_passes(monkeypatch, hosts, dies[0])
    report, error = run(hosts, artifact, purpose)
    assert error is not None, "deployed and proven, and it dies after 8 s"
    assert all(locked_by(host) for host in hosts.values()) is (report.state is State.HELD)
    assert error.exit_code == (4 if purpose is Purpose.RESUME else 5)


def test_p1_going_back_by_itself_is_proven_with_what_has_soaked(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, hosts: dict[str, SimulatedHost]
) -> None:
    time_passes(monkeypatch, hosts, NEW[0], OLD[0])
    report, error = run(hosts, artifact)
    assert error is not None
    assert (report.state, error.exit_code) == (State.HELD, 5)


def test_p1_a_process_that_started_a_moment_ago_is_not_deployed_already(
    monkeypatch: pytest.MonkeyPatch, hosts: dict[str, SimulatedHost], artifact: Path
) -> None:
    hours = time_passes(monkeypatch, hosts)
    hours.sleep(SOAK_S)
    assert run(hosts, artifact)[1] is None
    assert State.LOCKING not in run(hosts, artifact)[0].path
    verified = hosts["router1"].mark("verified")
    assert verified is not None
    hosts["router1"].service.stop()
    hosts["router1"].service.start()
    main = hosts["router1"].service.main
    assert main is not None
    lines = dict(line.split(" ", 1) for line in verified.splitlines())
    lines |= {"pid": str(main.pid), "start": str(main.start)}
    hosts["router1"].put_mark("verified", "".join(f"{k} {v}\n" for k, v in lines.items()))
    fleet.note_start(hosts["router1"])
    report, error = run(hosts, artifact)
    assert error is None
    assert State.PROVING in report.path
    assert report.round is not None
    assert not left_s(report.round.evidence, SOAK_S)


def test_p1_a_process_whose_age_was_not_shown_has_not_soaked() -> None:
    assert left_s({"router1": but(good(), age_s=None)}, 3.0) == {"router1": 3.0}
    assert left_s({"router1": but(good(), age_s=2.5)}, 3.0) == {"router1": 0.5}
    assert left_s({"router1": but(good(), age_s=3.0)}, 3.0) == {}
    assert left_s({"router1": but(good(), age_s=None)}, 0.0) == {}
