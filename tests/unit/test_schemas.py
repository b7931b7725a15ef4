"""Every command's document is as its schema in the package says, whether it went well or not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator

from deploytool.cli.main import _run, app
from deploytool.fleet.model import Inventory
from deploytool.release.model import Release
from deploytool.simulation import fleet, program
from deploytool.simulation.faults import BEFORE, CallPoint, Fault
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.members import shells
from tests.schemas import SHARED, command_of, schemas, valid

OLD, NEW = program.build("2026.1"), program.build("2026.2")


def commands(group: Any = None, before: str = "") -> Iterator[str]:
    root: Any = typer.main.get_command(app) if group is None else group
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        elif any("--json" in option.opts for option in command.params):
            yield f"{before}{name}"


COMMANDS = sorted(commands())


def test_each_command_that_prints_json_has_a_schema_and_nothing_else_has() -> None:
    assert {name.replace(" ", "-") for name in COMMANDS} | SHARED == set(schemas())
    for name, schema in schemas().items():
        Draft202012Validator.check_schema(schema)
        assert schema["$id"] == f"urn:deploytool:{name}:1"


class Desk:
    """A simulated fleet, and the commands that are typed for it."""

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.inventory: Inventory = fleet.inventory(3)
        self.rendered = fleet.Rendered.of(self.inventory)
        self.hosts: Mapping[str, SimulatedHost] = fleet.fleet_of(self.rendered, OLD)
        self.folder = folder
        self._capsys, self._patch = capsys, patch
        self.release: Release | None = None

    def type(self, *words: str) -> dict[str, Any]:
        """The document of a command, which is as its schema says."""
        self._patch.setattr(sys, "argv", ["deploytool", *words, "--json"])
        code = _run()
        found: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        assert found["exit"] == code, found
        assert command_of(words) != "end"
        return valid(words, found)


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    made = Desk(tmp_path, capsys, monkeypatch)
    (tmp_path / "router").write_bytes(NEW[1])
    release = Release(NEW[0], str(tmp_path / "router"))
    patch = monkeypatch.setattr
    patch("deploytool.operations.workspace.load_inventory", lambda _path: made.inventory)
    patch("deploytool.fleet.remote.connect_fleet", lambda *_, **__: made.hosts)
    patch("deploytool.fleet.prepare.root_shells", lambda *_: shells(made.hosts))
    patch("deploytool.rollout.recovery.find_release", lambda *_: release)
    patch("deploytool.release.store.find", lambda *_: release)
    patch("deploytool.gate.check_deploy.check_deploy", lambda *_, **__: None)
    patch("deploytool.operations.watching.StopServer", lambda _path: None)
    monkeypatch.chdir(tmp_path)
    return made


def test_a_rollout_from_the_plan_to_the_proof(desk: Desk) -> None:
    assert desk.type("plan", "-i", "f.yaml", "2")["exit"] == 0
    assert desk.type("deploy", "-i", "f.yaml", "2")["exit"] == 0
    assert desk.type("deploy", "-i", "f.yaml", "2")["already"] is True
    status = desk.type("status", "-i", "f.yaml")
    assert (status["exit"], status["verdict"]) == (0, "PARITY")
    assert desk.type("host", "check", "-i", "f.yaml")["exit"] == 0
    assert desk.type("logs", "router2", "-i", "f.yaml")["lines"] == []
    assert desk.type("rollback", "-i", "f.yaml")["exit"] == 3
    assert desk.type("resume", "-i", "f.yaml")["exit"] == 3
    desk.type("flags", "status", "-i", "f.yaml")
    desk.type("flags", "disarm", "RLP", "-i", "f.yaml")
    desk.type("start", "-i", "f.yaml", "--all", "--reason", "x", "--by", "ann")
    assert desk.type("host", "retire", "router3", "-i", "f.yaml")["exit"] == 0


@pytest.mark.parametrize("words", [("rollback",), ("resume", "--forward")])
def test_one_that_fails_half_way_and_is_ended(words: tuple[str, ...], desk: Desk) -> None:
    desk.hosts["router2"].strikes = {CallPoint("activate", 1, BEFORE): Fault.GONE}
    held = desk.type("deploy", "-i", "f.yaml", "2")
    assert held["exit"] == 5
    about = [f for f in held["findings"] if f["host"] == "router2"]
    assert about
    assert all(f["rule"] for f in about)
    assert held["trouble"]["router2"] in {f["text"] for f in about}
    status = desk.type("status", "-i", "f.yaml")
    dark = next(row for row in status["hosts"] if row["host"] == "router2")
    assert (dark["answered"], dark["release"]) == (False, None)
    assert [f["facts"]["fault"] for f in dark["findings"]]
    assert any(line.startswith("router2: UNKNOWN, on ?:") for line in status["details"])
    assert desk.type("host", "check", "-i", "f.yaml")["findings"][0]["rule"].startswith("PREFL")
    desk.type("plan", "-i", "f.yaml", "2")
    for host in desk.hosts.values():
        host.strikes = {}
        host.reconnect()
    ended = desk.type(*words, "-i", "f.yaml")
    assert ended["exit"] == 0, ended


def test_a_store(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(desk.folder)
    (desk.folder / "router").write_text("#!/bin/sh\necho router 2\n")
    (desk.folder / "router").chmod(0o755)
    made = desk.type("release", "describe", "router", "--name", "router", "--version", "2")
    assert made["exit"] == 0
    assert desk.type("release", "list")["releases"]
    assert desk.type("release", "show", "2")["manifest"]["version"] == "2"
    desk.type("release", "verify", "2")
    assert desk.type("rehearse", "--list")["scenarios"]
    desk.type("fleet", "status")
    desk.type("fleet", "down")


NEEDED = {
    "logs": ("router1",),
    "host retire": ("router1",),
    "host let-in": ("router1", "--reason", "x"),
}
NEEDED |= {f"host signers {verb}": ("ann",) for verb in ("add", "remove")}
NEEDED |= {f"flags {verb}": ("RLP",) for verb in ("arm", "disarm")}
NEEDED |= dict.fromkeys(("plan", "deploy"), ("2026.1",))
NEEDED |= {f"release {verb}": ("nothing",) for verb in ("build", "show", "verify", "describe")}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_that_ends_early(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without an inventory, and with words that no command knows."""
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path, capsys, monkeypatch)
    assert desk.type(*name.split(), *NEEDED.get(name, ()), "--no-such-option")["exit"] == 2


@pytest.mark.parametrize("member", ["findings", "details", "what", "schema_version"])
def test_what_lacks_a_member_is_seen(member: str, desk: Desk) -> None:
    """The schemas are held against what they don't allow, too."""
    desk.hosts["router2"].strikes = {CallPoint("activate", 1, BEFORE): Fault.GONE}
    held = desk.type("deploy", "-i", "f.yaml", "2")
    for wrong in (
        {key: value for key, value in held.items() if key != member},
        {**deepcopy(held), "another": 1},
        {**deepcopy(held), member: None},
    ):
        with pytest.raises(AssertionError, match=command_of(["deploy"])):
            valid(["deploy"], wrong)
