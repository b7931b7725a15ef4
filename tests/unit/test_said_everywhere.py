"""A fleet that was left MIXED is said to be so by every command, from any machine (P7)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploytool.agent.requests import Locked, MarkHold, TakeLock
from deploytool.cli import flags, host, rollout, status, stop
from deploytool.cli.output import Ended
from deploytool.errors import DeploytoolError
from deploytool.parity.host_notices import NoticePrinter
from deploytool.parity.round import probe_request, take_round
from deploytool.release.model import Release
from deploytool.simulation import fleet, program
from deploytool.simulation.host import SimulatedHost

OLD = program.build("2026.1")
PATH = Path("fleet.yaml")
COMMANDS: dict[str, Callable[[Path], object]] = {
    "status": lambda _: status.status(PATH),
    "verify": lambda _: status.verify(PATH),
    "plan": lambda store: rollout.plan(PATH, OLD[0].sha256, store=store),
    "deploy": lambda store: rollout.deploy(PATH, OLD[0].sha256, store=store, journal=store),
    "resume": lambda store: rollout.resume(PATH, store, store),
    "rollback": lambda store: rollout.rollback(PATH, store, store),
    "host check": lambda _: host.check(PATH),
    "flags status": lambda _: flags.status(PATH),
    "flags disarm": lambda _: flags.disarm("RLP", PATH),
    "start": lambda _: stop.start(PATH, None, "it is mended", fleet.OPERATOR, every=True),
}


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, SimulatedHost]:
    """Three hosts; a rollout of Ann's was left on the first."""
    made = fleet.inventory(3)
    hosts = fleet.fleet_of(fleet.Rendered.of(made), OLD)
    first = hosts["router1"]
    lock = TakeLock(holder="ann@desk", plan="p1", purpose="deploy", release=OLD[0].sha256)
    locked = first.call(lock, deadline_s=5)
    assert isinstance(locked, Locked)
    hold = MarkHold(
        token=locked.token,
        holder="ann@desk",
        plan="p1",
        verdict="MIXED",
        next="resume-or-rollback",
    )
    first.call(hold, deadline_s=5)
    monkeypatch.setattr("deploytool.operations.workspace.load_inventory", lambda _path: made)
    monkeypatch.setattr("deploytool.fleet.remote.connect_fleet", lambda *_, **__: hosts)
    release = Release(OLD[0], str(tmp_path / "router"))
    for found in ("deploytool.rollout.recovery.find_release", "deploytool.release.store.find"):
        monkeypatch.setattr(found, lambda *_: release)
    monkeypatch.setattr("deploytool.gate.check_deploy.check_deploy", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    return hosts


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("command", COMMANDS)
def test_p7_a_fleet_that_was_left_mixed_is_said_by_every_command(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ""
    try:
        COMMANDS[command](tmp_path / "store")
    except DeploytoolError as end:
        error = end.told()
    except Ended as end:
        error = end.error.told()
    told = " ".join((capsys.readouterr().out, error))
    assert "router1: MIXED since " in told, told
    assert "left by ann@desk (plan p1)" in told


def test_p7_whoever_watches_is_told_once_and_again_when_it_changes(
    hosts: dict[str, SimulatedHost],
) -> None:
    said: list[str] = []
    teller = NoticePrinter(said.append)

    def round_() -> None:
        teller.tell(take_round(hosts, probe_request(disk=False), 5))

    for _ in range(3):
        round_()
    assert len(said) == 1
    assert said[0].startswith("router1: MIXED since ")
    hosts["router2"].put_mark("lock", "token 5\nholder bob\npurpose deploy\nplan p2\nsince 1\n")
    for _ in range(2):
        round_()
    assert len(said) == 2
    assert said[1].startswith("router2: locked since ")
    hosts["router1"].remove_mark("held", "lock", "rollout")
    round_()
    assert len(said) == 2, "bob's is told already"
    hosts["router2"].remove_mark("lock")
    for _ in range(2):
        round_()
    assert said[2:] == ["no host is stopped, locked or held any more"]
