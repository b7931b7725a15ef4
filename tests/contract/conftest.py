"""The two sides, and the real fleet that the second one needs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.remote import connect_fleet
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent

from .sides import Real, Side, Simulated, for_shell


@pytest.fixture(scope="session")
def shell_fleet() -> Iterator[Path]:
    """Three real hosts whose service is the shell script; gives their inventory."""
    with tempfile.TemporaryDirectory(prefix="deploytool-contract-") as folder:
        throwaway = LocalFleet(Path(folder) / "fleet")
        try:
            throwaway.up(3, silent)
            yield for_shell(throwaway)
        finally:
            throwaway.down(silent)


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.sshd)])
def side(request: pytest.FixtureRequest) -> Side:
    """Either side: what is asked of it must hold on both."""
    if request.param == "simulated":
        return Simulated()
    found: Side = request.getfixturevalue("real")
    return found


@pytest.fixture
def real(shell_fleet: Path) -> Iterator[Real]:
    """The real side, for what only a real host can be."""
    inventory = load_inventory(shell_fleet)
    host = connect_fleet(inventory)["router1"]
    real = Real(host, inventory)
    real.reset()
    try:
        yield real
    finally:
        real.reset()
        host.close()
