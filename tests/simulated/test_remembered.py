"""Hosts that remember for each other are what they would be without."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from deploytool.parity.round import look, probe_request
from deploytool.simulation.faults import Fault, possible
from deploytool.simulation.oracle import truth
from deploytool.simulation.photograph import photograph
from deploytool.simulation.remembered import RememberedFleets

from .cases import NEW, OLD, Case, Ended, deploy, rendered


def _all_of(ended: Ended) -> object:
    hosts = ended.hosts.values()
    return (
        (ended.code, ended.report.path, str(ended.error), ended.before),
        [(host.moments, host.struck, host.seen, truth(host), photograph(host)) for host in hosts],
    )


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", ["systemd", "process"])
def test_a_rollout_on_them_ends_as_one_without(artifact: Path, supervisor: str) -> None:
    inventory = rendered(supervisor, 5)
    fleets = RememberedFleets(inventory, OLD)
    moments = deploy(artifact, inventory, fleets=fleets).hosts["router1"].moments
    chance = random.Random(supervisor)  # noqa: S311 a sample
    for fault in chance.sample(list(Fault), 8):
        moment = chance.choice([m for m in moments if possible(fault, m)])
        case = Case(chance.choice(inventory.inventory.names), moment, fault)
        plain = _all_of(deploy(artifact, inventory, (case,)))
        for _ in ("first", "again"):
            assert _all_of(deploy(artifact, inventory, (case,), fleets=fleets)) == plain, case


@pytest.mark.usefixtures("swift")
def test_what_is_done_to_one_host_by_hand_is_its_own() -> None:
    fleets = RememberedFleets(rendered("systemd", 5), OLD)
    one, other = (fleets.fleet()["router1"] for _ in range(2))
    before = truth(other)
    one.service.stop()
    assert not truth(one).serving
    assert look(one, probe_request(), 5).shown.main == 0
    assert truth(other) == before
    assert look(other, probe_request(), 5).shown.main != 0
    assert truth(fleets.fleet()["router1"]) == before


@pytest.mark.usefixtures("swift")
def test_a_host_that_goes_through_something_else_the_second_time_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleets = RememberedFleets(rendered("systemd", 5), OLD)
    one, other = (fleets.fleet()["router1"] for _ in range(2))
    look(one, probe_request(), 5)
    look(other, probe_request(), 5)
    monkeypatch.setattr("deploytool.simulation.host._CHANGING", ("nothing",))
    with pytest.raises(RuntimeError, match="something else than was remembered"):
        other.service.stop()


@pytest.mark.usefixtures("swift")
def test_where_there_is_no_room_for_more_a_host_goes_on_alone(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploytool.simulation.remembered.PASTS_AT_MOST", 20)
    fleets = RememberedFleets(rendered("systemd", 5), OLD)
    for _ in range(2):
        ended = deploy(artifact, fleets.rendered, fleets=fleets)
        assert ended.code == 0
        assert all(truth(host).runs(NEW[0].sha256) for host in ended.hosts.values())
