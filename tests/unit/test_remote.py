"""Sessions that are opened before they are needed: the first call gets what came of it."""

from __future__ import annotations

import time

import pytest

from deploytool.errors import EnvironmentProblem, FaultKind, HostFault
from deploytool.fleet import remote
from deploytool.fleet.fanout import WIDTH
from deploytool.fleet.protocol import Call
from deploytool.fleet.remote import RemoteHost
from deploytool.fleet.sshconfig import Route
from deploytool.rehearsal.simulated import fleet

WAY = Route("198.51.100.1", 22, "deploy", "198.51.100.1")
PROBE = Call("probe", (), changes=False)


class Attempts:
    """Stands where a session is opened: notes each attempt, and fails as it was told to."""

    def __init__(self, error: Exception) -> None:
        self.made = 0
        self._error = error

    def __call__(self, *_: object) -> object:
        self.made += 1
        time.sleep(0.05)
        raise self._error


def early(monkeypatch: pytest.MonkeyPatch, error: Exception) -> tuple[RemoteHost, Attempts]:
    attempts = Attempts(error)
    monkeypatch.setattr(remote, "Session", attempts)
    host = RemoteHost(fleet.inventory(1, "process"), "router1", WAY)
    host.connect_early()
    return host, attempts


def test_the_next_call_has_the_fault_of_the_early_attempt_and_makes_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, attempts = early(monkeypatch, HostFault(FaultKind.UNREACHABLE, "no route"))
    with pytest.raises(HostFault, match="no route"):
        host.call(PROBE, deadline_s=5)
    assert attempts.made == 1
    with pytest.raises(HostFault, match="no route"):
        host.call(PROBE, deadline_s=5)
    assert attempts.made == 2, "the fault is told once; who calls again tries again"
    with pytest.raises(HostFault, match="given up"):
        host.call(PROBE, deadline_s=5)
    assert attempts.made == 2, "and an early attempt counts"


def test_what_is_no_hosts_fault_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    host, _ = early(monkeypatch, EnvironmentProblem("There is no ssh.", "Nothing.", "Install it."))
    with pytest.raises(EnvironmentProblem, match="no ssh"):
        host.call(PROBE, deadline_s=5)


def test_a_large_fleet_is_not_entered_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(RemoteHost, "connect_early", lambda host: begun.append(host.name))
    inventory = fleet.inventory(WIDTH + 3, "process")
    assert len(remote.connect_fleet(inventory, early=True)) == WIDTH + 3
    assert len(begun) == WIDTH
    begun.clear()
    remote.connect_fleet(inventory)
    assert begun == []
