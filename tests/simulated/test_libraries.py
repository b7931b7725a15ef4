"""Libraries that differ are found, whatever a host remembers of them (P1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploytool.agent.requests import Probe
from deploytool.parity.model import Parity
from deploytool.rollout.report import Report
from deploytool.simulation import fleet
from deploytool.simulation.host import SimulatedHost

from .cases import OLD, roll_out

pytestmark = pytest.mark.usefixtures("swift")
RENDERED = fleet.Rendered.of(fleet.inventory(3))
MODULE = "/usr/lib/python3/os.py"


@pytest.fixture
def hosts() -> dict[str, SimulatedHost]:
    found = fleet.fleet_of(RENDERED, OLD)
    for host in found.values():
        host.computer.make_folders("/usr/lib/python3")
        host.computer.put(MODULE, b"import sys\n")
    return found


def alter(host: SimulatedHost) -> None:
    """Changes a library, and has the host remember that it did not."""
    look = Probe(surroundings=True)
    host.ask(look)
    *_, before = (host.mark("libraries") or "").split()
    host.computer.put(MODULE, b"import evil\n")
    host.ask(look)
    boot, stamp, after = (host.mark("libraries") or "").split()
    assert before != after
    host.put_mark("libraries", f"{boot} {stamp} {before}\n")


def deploy(hosts: dict[str, SimulatedHost], artifact: Path) -> Report:
    return roll_out(RENDERED.inventory, hosts, artifact)


@pytest.mark.parametrize("already", [False, True])
def test_p1_a_deployment_believes_no_digest_that_a_host_remembers(
    hosts: dict[str, SimulatedHost], artifact: Path, *, already: bool
) -> None:
    if already:
        assert deploy(hosts, artifact).round is not None
    alter(hosts["router2"])
    report = deploy(hosts, artifact)
    assert report.round is not None
    assert not report.already
    assert report.round.parity is not Parity.PARITY
