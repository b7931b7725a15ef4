"""A host is taken out of service for good, and its own lock never keeps anybody from it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploytool.cli import host as command
from deploytool.errors import EnvironmentProblem, NotProven
from deploytool.fleet.members import read_members
from deploytool.fleet.model import Inventory
from deploytool.fleet.retire import pin_replacement, stop_for_good
from deploytool.simulation import fleet, program
from deploytool.simulation.faults import AFTER, BEFORE, CallPoint, Fault
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.members import shells
from deploytool.simulation.oracle import locked_by, truth
from tests.unable import unable

OLD = program.build("2026.1")
KEY = "ssh-ed25519 " + "AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 43
OLD_KEY = KEY.replace("B", "C")


@dataclass
class Ground:
    """A fleet of two, its file of pinned keys, and the replacement's key."""

    inventory: Inventory
    hosts: dict[str, SimulatedHost]
    known_hosts: Path
    key: Path

    @property
    def first(self) -> SimulatedHost:
        return self.hosts["router1"]

    def retired(self) -> bool:
        now = truth(self.first)
        return now.linked is None and now.main is None

    def retire(self, *, key: Path | None = None, gone: bool = False) -> None:
        command.retire("router1", Path("my fleet.yaml"), key, gone=gone)

    def listed(self, host: str = "router2") -> frozenset[str]:
        """Whom a host believes to be a member."""
        kept = self.hosts[host].computer.read("/etc/deploytool/router/members")
        assert kept is not None
        return read_members(kept.decode()).names


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    known_hosts, key = tmp_path / "known_hosts", tmp_path / "new.pub"
    known_hosts.write_text(f"192.0.2.1 {OLD_KEY}\n192.0.2.2 {OLD_KEY}")
    key.write_text(f"{KEY} root@router1\n")
    (tmp_path / "config").touch()
    base = fleet.inventory(2)
    pinned = {"known_hosts": str(known_hosts), "config_file": str(tmp_path / "config")}
    inventory = base.model_copy(update={"ssh": base.ssh.model_copy(update=pinned)})
    hosts = fleet.fleet_of(fleet.Rendered.of(base), OLD)
    monkeypatch.setattr("deploytool.operations.workspace.load_inventory", lambda _path: inventory)
    monkeypatch.setattr("deploytool.fleet.remote.connect_fleet", lambda *_, **__: hosts)
    monkeypatch.setattr("deploytool.fleet.prepare.root_shells", lambda *_: shells(hosts))
    return Ground(inventory, hosts, known_hosts, key)


def test_a_retired_host_serves_no_more_and_the_others_do(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    ground.retire()
    assert ground.retired()
    assert locked_by(ground.first) is None
    assert truth(ground.hosts["router2"]).runs(OLD[0].sha256)
    said = capsys.readouterr().out
    assert "stays so after a reboot" in said
    assert "lower 'expect' to 1" in said
    assert "members: epoch 2 (router2) written to router2" in said
    assert ground.listed() == {"router2"}
    assert ground.listed("router1") == {"router1", "router2"}, "nobody asks it any more"


def test_a_host_that_could_not_be_taken_off_the_lists_is_said(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = shells(ground.hosts, frozenset({"router2"}))
    monkeypatch.setattr("deploytool.fleet.prepare.root_shells", lambda *_: dark)
    with pytest.raises(NotProven, match="router1 was NOT taken off the list") as caught:
        ground.retire(gone=True)
    assert caught.value.now.endswith("host retire router1 -i 'my fleet.yaml' --gone --admin root")
    assert ground.listed() == {"router1", "router2"}


@pytest.mark.parametrize("part", [BEFORE, AFTER])
@pytest.mark.parametrize("fault", [Fault.CONNECTION_LOST, Fault.HANGS, Fault.GONE])
@pytest.mark.parametrize("verb", ["lock", "retire", "unlock"])
def test_what_broke_off_is_said_and_done_by_the_same_command_again(
    ground: Ground, verb: str, fault: Fault, part: str
) -> None:
    ground.first.strikes = {CallPoint(verb, 1, part): fault}
    with pytest.raises(NotProven) as caught:
        ground.retire(key=ground.key)
    error = caught.value
    assert "router1 is NOT shown to be out of service" in error.what
    assert "deploytool host retire router1 -i 'my fleet.yaml' --replacement-key" in error.now
    assert KEY not in ground.known_hosts.read_text()
    left = locked_by(ground.first)
    if verb == "retire":
        assert ("may still be locked" in error.what) is (left is not None)
        assert ("was released" in error.what) is (left is None)
    if verb == "unlock":
        assert "it was stopped" in error.what
    ground.first.reconnect()
    stop_for_good(ground.first, "another@desk", 5)
    assert ground.retired()
    assert locked_by(ground.first) is None


def test_what_the_host_refuses_leaves_no_lock(ground: Ground) -> None:
    ground.first.strikes = {CallPoint("retire", 1, BEFORE): Fault.OLD_SURVIVES}
    with pytest.raises(NotProven, match="its lock was released"):
        ground.retire()
    assert locked_by(ground.first) is None


def test_a_rollout_s_lock_is_nobody_s_to_take(ground: Ground) -> None:
    ground.first.strikes = {CallPoint("lock", 1, BEFORE): Fault.OTHER_DEPLOYER}
    with pytest.raises(NotProven, match="holds the lock for deploy"):
        ground.retire()
    assert truth(ground.first).runs(OLD[0].sha256)
    assert locked_by(ground.first) is not None


# --- its replacement ------------------------------------------------------------------------------


@pytest.fixture
def openssh() -> None:
    if shutil.which("ssh") is None:
        unable("needs OpenSSH's client")


@pytest.mark.usefixtures("openssh")
@pytest.mark.parametrize("gone", [True, False])
def test_the_replacement_s_key_takes_the_place_of_the_old_one(
    ground: Ground, *, gone: bool
) -> None:
    ground.retire(key=ground.key, gone=gone)
    assert ground.known_hosts.read_text().splitlines() == [
        f"192.0.2.2 {OLD_KEY}",
        f"192.0.2.1 {KEY}",
    ]
    assert ground.retired() is not gone
    assert ground.listed() == {"router2"}


@pytest.mark.usefixtures("openssh")
def test_a_file_of_keys_whose_last_line_has_no_end_loses_none(ground: Ground) -> None:
    ground.known_hosts.write_text(f"192.0.2.2 {OLD_KEY}")
    pin_replacement(ground.inventory, "router1", KEY)
    assert f"192.0.2.2 {OLD_KEY}\n192.0.2.1 {KEY}\n" == ground.known_hosts.read_text()


@pytest.mark.usefixtures("openssh")
def test_keys_that_can_t_be_changed_are_said(ground: Ground) -> None:
    ground.known_hosts.unlink()
    with pytest.raises(EnvironmentProblem, match="can't be changed"):
        pin_replacement(ground.inventory, "router1", KEY)
