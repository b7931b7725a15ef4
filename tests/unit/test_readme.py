"""What README tells a newcomer to do: its inventory loads, and its commands are commands."""

from __future__ import annotations

import re
import shlex
import textwrap
import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from deploytool.errors import InputError
from deploytool.fleet import model
from deploytool.fleet.inventory import load_inventory
from deploytool.gate.check_deploy import check_deploy
from deploytool.release.build import describe

from .test_cli import document, run

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().partition("## A deploy to your own hosts")[2]
BLOCKS = [
    (kind, textwrap.dedent(text))
    for kind, text in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", SECTION, re.DOTALL | re.MULTILINE)
]
(INVENTORY,) = [text for kind, text in BLOCKS if kind == "yaml"]
COMMANDS = [
    line
    for kind, text in BLOCKS[: [kind for kind, _ in BLOCKS].index("yaml") + 5]
    for line in text.splitlines()
    if not kind and line.startswith("deploytool ")
]
STEPS = ["host prepare", "host check", "release describe", "plan", "deploy", "status"]


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """README's inventory, with a key for each of its hosts."""
    path = tmp_path / "inventories" / "production.yaml"
    path.parent.mkdir()
    path.write_text(INVENTORY)
    keys = (ROOT / "inventories/known_hosts/example").read_text().splitlines()[1:]
    addresses = re.findall(r"address: ([0-9.]+)", INVENTORY)
    lines = (f"{a} {key.partition(' ')[2]}\n" for a, key in zip(addresses, keys, strict=False))
    path.with_name("known_hosts").write_text("".join(lines))
    return path


def test_the_inventory_is_enough_for_a_deploy(inventory: Path, tmp_path: Path) -> None:
    """It loads, and nothing that the gate holds a deployment to is missing in it."""
    fleet = load_inventory(inventory)
    assert fleet.expect == len(fleet.hosts) == 3
    file = tmp_path / "gateway"
    file.write_text("#!/bin/sh\necho gateway 7.2\n")
    file.chmod(0o755)
    store = tmp_path / "store"
    release = describe(store, file, name="gateway", version="7.2", requires=(), version_line=None)
    assert release.manifest.name == fleet.service.name
    check_deploy(inventory, release, store, time.time())


def test_the_steps_are_all_there_and_name_that_inventory() -> None:
    assert [line.removeprefix("deploytool ")[: len(step)] for line, step in
            zip(COMMANDS, STEPS, strict=True)] == STEPS  # fmt: skip
    named = [line for line in COMMANDS if "release describe" not in line]
    assert all(" -i inventories/production.yaml" in line for line in named)


@pytest.mark.parametrize("line", COMMANDS)
def test_each_steps_command_is_one(line: str, tmp_path: Path) -> None:
    """In an empty folder it fails for want of the file that it names, and of nothing else."""
    ended = document(run(*shlex.split(line)[1:], "--json", cwd=tmp_path))
    assert ended["exit"] == InputError.exit_code
    describes = "release describe" in line
    wants = "gateway is not" if describes else "inventories/production.yaml can't be read"
    assert wants in ended["what"], ended


def test_the_configuration_goes_where_the_service_looks_for_it(inventory: Path) -> None:
    fleet = load_inventory(inventory)
    (place,) = (fleet.expand(path, "gateway1") for path in fleet.config_files)
    assert f"cat >{place}'" in SECTION
    assert place in fleet.argv(fleet.service.start, "gateway1")


def keys(kind: type[BaseModel]) -> set[str]:
    return set(kind.model_fields)


def test_the_example_has_every_key_that_there_is() -> None:
    """Those that most leave out stand there as comments."""
    text = (ROOT / "inventories/example.yaml").read_text()
    kinds = (
        *(
            model.Inventory,
            model.Service,
            model.FlagCommands,
            model.GatewayConfig,
            model.Membership,
        ),
        *(model.Silence, model.RehearsalDemand, model.SshOptions),
    )
    absent = {key for kind in kinds for key in keys(kind) if not re.search(rf"\b{key}:", text)}
    assert absent == set()
    head = text[text.index("\nhosts:") :].splitlines()[1]
    assert all(key in head or f"{key}:" in text for key in keys(model.HostSpec))
