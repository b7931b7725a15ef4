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
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    if request.param == "simulated":
        yield Simulated()
        return
    inventory = load_inventory(request.getfixturevalue("shell_fleet"))
    host = connect_fleet(inventory)["router1"]
    real = Real(host, inventory)
    real.reset()
    try:
        yield real
    finally:
        real.reset()
        host.close()
