"""Wherever an inventory is, whatever its files are called, ``stop`` reaches what ``status`` does.

Against real hosts and the stock client, which expands, splits and unquotes paths of its own accord.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import HOSTS, Desk

pytestmark = pytest.mark.sshd

FILES = ("inventory.yaml", "known_hosts", "id_ed25519", "id_ed25519.pub", "signers")
ODD = ("plain", "release%2F7.2", "a${X}b", "${HOME}", "%d%h%%", "two  blanks", "tab\there",
       "quo\"te'd", "back\\slash", "#hash", "=equals", "~", "été", "-option",
       "new\nline")  # fmt: skip
FILES_ODD = ('my %d ${X} "key"', "ключ", "k.${HOME}")


def ends(desk: Desk, inventory: Path, **given: Any) -> set[str]:
    """Where a cold stop of all hosts led."""
    ended = desk.tool("stop", "-i", str(inventory), "--all", "--json", **given)
    assert len(ended.document["hosts"]) == len(HOSTS), ended
    return {row["end"] for row in ended.document["hosts"]}


def moved(desk: Desk, folder: Path, **names: str) -> Path:
    """A copy of the fleet's inventory and of what it names, some of it under other names."""
    folder.mkdir(parents=True)
    text = Path(desk.inventory).read_text()
    for name in FILES:
        if (desk.fleet.folder / name).exists():
            shutil.copy(desk.fleet.folder / name, folder / names.get(name, name))
    for name, other in names.items():
        assert f": {name}" in text
        quoted = "'" + other.replace("'", "''") + "'"
        text = text.replace(f": {name}", f": {quoted}")
    (folder / "inventory.yaml").write_text(text)
    return folder / "inventory.yaml"


def named_oddly(desk: Desk, folder: Path, name: str) -> Path:
    """The fleet's inventory, whose every file has an odd name."""
    inventory = moved(desk, folder, known_hosts=f"{name} hosts", id_ed25519=f"{name} id")
    (folder / f"{name} config").write_text("Host *\n  LogLevel ERROR\n")
    text = inventory.read_text()
    assert "ssh: {" in text
    inventory.write_text(text.replace("ssh: {", f"ssh: {{config_file: '{name} config', "))
    return inventory


def test_p6_a_stop_reaches_what_status_reaches_whatever_folders_and_files_are_called(
    desk: Desk, tmp_path: Path
) -> None:
    places = [moved(desk, tmp_path / name / "deeper") for name in ODD]
    places += [named_oddly(desk, tmp_path / f"{n}", name) for n, name in enumerate(FILES_ODD)]
    for inventory in places:
        assert desk.tool("status", "-i", str(inventory)).code == 0, inventory
    assert {str(inventory): ends(desk, inventory) for inventory in places} == {
        str(inventory): {"HALTED"} for inventory in places
    }


def test_p6_an_inventory_that_is_reached_by_a_link_is_one_place_for_all_commands(
    desk: Desk, tmp_path: Path
) -> None:
    inventory = moved(desk, tmp_path / "real" / "%h")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "fleet.yaml"
    link.symlink_to(inventory)
    specs = tmp_path / "specs"
    specs.mkdir()
    (specs / "test_true.py").write_text("def test_true(host): assert host.run('true').rc == 0\n")
    for words in (("status",), ("verify", "--spec", str(specs)), ("host", "check")):
        ended = desk.tool(*words, "-i", str(link))
        assert ended.code == 0, ended
    with desk.watching("-i", str(link)):
        pass  # it has seen every host a MATCH
    assert ends(desk, link) == {"HALTED"}
    assert ends(desk, Path("fleet.yaml"), cwd=link.parent) == {"HALTED"}


@contextmanager
def agent_with(key: Path) -> Iterator[dict[str, str]]:
    """An agent that holds a key, as the environment names it."""
    said = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    found = dict(word.split("=", 1) for word in said.replace(";", "\n").split("\n") if "=" in word)
    env = {**os.environ, "SSH_AUTH_SOCK": found["SSH_AUTH_SOCK"]}
    try:
        subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, capture_output=True)
        yield env
    finally:
        os.kill(int(found["SSH_AGENT_PID"]), signal.SIGTERM)


def test_p6_a_key_that_only_an_agent_has_is_offered_by_its_public_half(
    desk: Desk, tmp_path: Path
) -> None:
    whole = desk.fleet.folder / "id_ed25519"
    half = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(whole)], capture_output=True, check=True
    ).stdout
    places = {name: moved(desk, tmp_path / f"at {name}", id_ed25519=name) for name in ("a", "b %")}
    for name, inventory in places.items():
        inventory.with_name(name).unlink()
        inventory.with_name(f"{name}.pub").write_bytes(half)
    with agent_with(whole) as env:
        for inventory in places.values():
            assert desk.tool("status", "-i", str(inventory), env=env).code == 0
        for inventory in places.values():
            assert ends(desk, inventory, env=env) == {"HALTED"}


def test_p6_all_commands_look_for_keys_in_the_home_that_ssh_uses(
    desk: Desk, tmp_path: Path
) -> None:
    """The account's, whatever $HOME says: a container job sets one that ssh(1) does not read."""
    inventory = moved(desk, tmp_path / "at")
    text = inventory.read_text()
    inventory.write_text(text.replace(": id_ed25519", ": ~/.ssh/id_ed25519"))
    assert inventory.read_text() != text
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    shutil.copy(desk.fleet.folder / "id_ed25519", home / ".ssh" / "id_ed25519")
    env = {**os.environ, "HOME": str(home)}
    env.pop("SSH_AUTH_SOCK", None)
    reached = desk.tool("host", "check", "-i", str(inventory), env=env).code == 0
    assert reached == (ends(desk, inventory, env=env) == {"HALTED"})
