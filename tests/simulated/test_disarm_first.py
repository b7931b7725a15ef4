"""``--disarm``: no flag goes off for a rollout that is refused, and no host is switched before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.requests import TakeLock
from deploytool.arming.table import Purpose as FlagPurpose
from deploytool.cli import flags, rollout
from deploytool.cli.disarming import disarm_first
from deploytool.cli.output import Ended
from deploytool.errors import HostFault, NotProven, Refused
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepared import HostFiles
from deploytool.operations.workspace import Workspace
from deploytool.release.model import Release
from deploytool.rollout.admission import survey
from deploytool.rollout.model import Plan, Purpose
from tests.unit.arming.fleets import NEW, NEW_BUILD, rendered
from tests.unit.arming.worlds import BIT, FLAG, Market, Told, World

from .cases import inline
from .test_flags import GRADUATED, NEXT, Build


@dataclass
class Asked(Market):
    """The senders, as a rollout asks them too."""

    bits: set[int] = field(default_factory=lambda: {0})

    def bits_in_use(self) -> frozenset[int]:
        return self.observe().bits


@pytest.fixture
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """A fleet on which the flag is armed, and commands that reach it."""
    request.getfixturevalue("swift")

    def before(_inventory: Inventory, host: str, _account: str) -> HostFiles:
        return rendered().files[host]

    monkeypatch.setattr("deploytool.parity.judge.host_files", before)
    for module in ("arming.hosts", "arming.asking"):
        monkeypatch.setattr(f"deploytool.{module}.fanout", inline)
    made = World(market=Asked())
    monkeypatch.setattr("deploytool.fleet.remote.connect_fleet", lambda *_a, **_k: made.hosts)
    monkeypatch.setattr("deploytool.arming.senders.SenderCommands", lambda *_a: made.market)
    monkeypatch.setattr("deploytool.arming.senders.senders_of", lambda *_a: made.market)
    made.change(FlagPurpose.ARM)
    assert made.all_on
    return made


@pytest.fixture
def release(tmp_path: Path) -> Callable[[Build], Release]:
    def made(build: Build) -> Release:
        (tmp_path / "router").write_bytes(build[1])
        return Release(build[0], str(tmp_path / "router"))

    return made


Releases = Callable[[Build], Release]


def first(folder: Path, wanted: Release, purpose: Purpose, bound: Plan | None = None) -> Any:
    space = Workspace(rendered().inventory, folder / "i.yaml", folder, folder)
    return disarm_first(space, wanted, purpose, bound, wished=True)


def given(monkeypatch: pytest.MonkeyPatch, release: Release) -> None:
    """Stands for the inventory's file, the store and the gate."""
    inventory = rendered().inventory
    monkeypatch.setattr("deploytool.operations.workspace.load_inventory", lambda _path: inventory)
    monkeypatch.setattr("deploytool.release.store.find", lambda *_a: release)
    monkeypatch.setattr("deploytool.gate.check_deploy.check_deploy", lambda *_a: None)


def untouched(world: World) -> bool:
    """Whether all is as it was: armed, in use, on the release that runs."""
    seen = [item for item in world.look().values() if not isinstance(item, HostFault)]
    return world.all_on and BIT in world.market.bits and {e.release for e in seen} == {NEW.sha256}


def lock(world: World, host: str, purpose: str = "deploy") -> None:
    request = TakeLock(holder="you@there", purpose=purpose, plan="p", release=NEXT[0].sha256)
    world.hosts[host].call(request, deadline_s=5)


@pytest.mark.parametrize("made", [NEXT, GRADUATED])
def test_p5_a_flag_is_turned_off_first_also_where_the_release_reads_its_bit_otherwise(
    made: Build, world: World, release: Releases, tmp_path: Path
) -> None:
    assert first(tmp_path, release(made), Purpose.DEPLOY) == (FLAG,)
    assert world.all_off
    assert BIT not in world.market.bits
    assert first(tmp_path, release(made), Purpose.DEPLOY) == (), "there is nothing to turn off"


def test_p3_a_deployment_that_is_refused_for_another_reason_leaves_the_flag_armed(
    world: World, release: Releases, tmp_path: Path
) -> None:
    lock(world, "router3")
    with pytest.raises(Refused) as caught:
        first(tmp_path, release(NEXT), Purpose.DEPLOY)
    assert caught.value.rule == "PREFLIGHT_LOCK"
    assert "FLAGS_ARMED" not in caught.value.what
    assert untouched(world)


def test_p3_so_does_another_bit_that_is_read_otherwise(world: World, tmp_path: Path) -> None:
    world.market.bits.add(5)
    fewer = GRADUATED[0].flags
    assert fewer is not None
    manifest = NEXT[0].model_copy(update={"flags": fewer.model_copy(update={"wire": "1" * 64})})
    with pytest.raises(Refused) as caught:
        first(tmp_path, Release(manifest, ""), Purpose.DEPLOY)
    assert caught.value.rule == "FLAGS_READ_DIFFERENTLY"
    assert untouched(world)


def test_p3_so_does_a_plan_from_which_the_fleet_has_moved(
    world: World, release: Releases, tmp_path: Path
) -> None:
    world.change(FlagPurpose.DISARM)
    bound = survey(rendered().inventory, release(NEXT), world.hosts, plan_id="plan").plan
    assert bound is not None
    world.change(FlagPurpose.ARM)
    assert first(tmp_path, release(NEXT), Purpose.DEPLOY, bound) == (FLAG,)
    world.change(FlagPurpose.ARM)
    with pytest.raises(Refused) as caught:
        first(tmp_path, release(GRADUATED), Purpose.DEPLOY, bound)
    assert caught.value.rule == "PLAN_MOVED"
    assert untouched(world)


@pytest.mark.parametrize("purpose", [Purpose.RESUME, Purpose.ROLLBACK])
def test_p3_so_does_what_can_t_be_finished_or_undone(
    purpose: Purpose, world: World, release: Releases, tmp_path: Path
) -> None:
    with pytest.raises(Refused) as caught:
        first(tmp_path, release(NEXT), purpose)
    assert caught.value.rule == "NOTHING_INTERRUPTED"
    lock(world, "router3")
    with pytest.raises(Refused) as caught:
        first(tmp_path, release(GRADUATED), purpose)
    assert caught.value.rule == "RESUME_TARGET"
    assert untouched(world)
    assert first(tmp_path, release(NEXT), purpose) == (FLAG,)
    assert world.all_off


def test_p3_a_flag_that_can_t_be_turned_off_ends_it_before_any_host_is_switched(
    world: World, release: Releases, tmp_path: Path
) -> None:
    world.market.wrong["withdraw"] = Told.LOST_BEFORE
    with pytest.raises(NotProven) as caught:
        first(tmp_path, release(NEXT), Purpose.DEPLOY)
    assert caught.value.means.startswith("No host was switched.")
    seen = [item for item in world.look().values() if not isinstance(item, HostFault)]
    assert {item.release for item in seen} == {NEW.sha256}
    assert {item.lock for item in seen} == {None}


def test_p3_whatever_refuses_it_later_says_that_the_flag_is_off(
    world: World, release: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes a lock between the flag that went off and the look at the fleet."""
    path = tmp_path / "i.yaml"
    given(monkeypatch, release(NEXT))
    market = world.market
    market.heard = lambda what: lock(world, "router3") if what == "withdraw" else None
    with pytest.raises(Ended) as caught:
        rollout.deploy(path, "next", journal=tmp_path, disarm=True)
    error = caught.value.error
    assert (type(error), error.exit_code) == (Refused, 3)
    assert error.means.startswith(f"{FLAG} was turned off first, and observed off. ")
    assert world.all_off
    assert {NEW_BUILD[0].sha256} == {
        item.release for item in world.look().values() if not isinstance(item, HostFault)
    }


def test_an_end_that_turned_no_flag_off_names_none(
    world: World, release: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, release(NEXT))
    with pytest.raises(Ended) as caught:
        rollout.deploy(tmp_path / "i.yaml", "next", journal=tmp_path)
    assert caught.value.error.means.startswith("Nothing was changed")
    assert untouched(world)


@pytest.mark.parametrize("skew_s", [0, 31, -31])
def test_p5_an_old_answer_of_the_senders_is_shown_as_none(
    skew_s: float, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "deploytool.operations.workspace.load_inventory", lambda _path: rendered().inventory
    )
    world.market.skew_s = skew_s
    if not skew_s:
        flags.status(tmp_path / "i.yaml")
        return
    with pytest.raises(Ended) as caught:
        flags.status(tmp_path / "i.yaml")
    assert any("not of now" in line for line in caught.value.error.details)
