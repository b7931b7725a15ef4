"""Simulated fleets: without threads and without waiting, so that every fault can have its turn."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import tenacity.nap

from deploytool.fleet.model import Inventory
from deploytool.fleet.prepared import HostFiles
from deploytool.simulation.fleet import Rendered
from deploytool.simulation.remembered import RememberedFleets

from .cases import NEW, OLD, Remembering, inline, rendered
from .sampling import Sampling, count

NOW = 1_800_000_000.0


class _NoTime:
    """Waiting costs nothing on a simulated fleet."""

    @staticmethod
    def sleep(_seconds: float) -> None:
        return None


def _rendered_before(inventory: Inventory, host: str, _account: str) -> HostFiles:
    return rendered(inventory.service.supervisor, len(inventory.names)).files[host]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "router"
    path.write_bytes(NEW[1])
    return path


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenacity.nap, "time", _NoTime)
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr("deploytool.rollout.hosts.fanout", inline)
    monkeypatch.setattr("deploytool.rollout.locks.fanout", inline)
    monkeypatch.setattr("deploytool.parity.round.fanout", inline)
    monkeypatch.setattr("deploytool.parity.judge.host_files", _rendered_before)


@pytest.fixture(scope="module")
def remembered() -> Remembering:
    """Fleets on the old release whose hosts remember for each other, through a file's tests.

    They see the code as it is: a file that plants bugs in it must not use them.
    """
    found: dict[int, RememberedFleets] = {}

    def on(inventory: Rendered) -> RememberedFleets:
        return found.setdefault(id(inventory), RememberedFleets(inventory, OLD))

    return on


@pytest.fixture
def sampling(request: pytest.FixtureRequest) -> Sampling:
    option = request.config.getoption
    singles, pairs, crashes = (
        count(option(f"--{what}")) for what in ("singles", "pairs", "crashes")
    )
    return Sampling(singles, pairs, crashes, option("--seed"))
