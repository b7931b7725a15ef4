"""What stands on hosts is rendered with every value quoted: nothing in an inventory breaks out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploytool.fleet.helper import host_files, invocation
from deploytool.fleet.inventory import parse_inventory
from deploytool.fleet.model import Inventory
from deploytool.simulation import fleet

SYSTEMD, PROCESS = fleet.inventory(2, "systemd"), fleet.inventory(2, "process")


def saying(inventory: Inventory, argv: tuple[str, ...]) -> Inventory:
    return inventory.model_copy(
        update={"service": inventory.service.model_copy(update={"status": argv})}
    )


def words(inventory: Inventory, current: str = "/opt/router/current") -> list[str]:
    """The words that the rendered function really gives to a program, by a real sh."""
    helper = host_files(inventory, "router1", "deploy").helper
    function = next(line for line in helper.splitlines() if line.startswith("run_status() {"))
    script = f"{function}\nCUR=$1\nrun_status printf '%s\\0'"
    done = subprocess.run(
        ["sh", "-c", script, "sh", current], capture_output=True, text=True, timeout=10, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split("\0")[:-1]


HOSTILE = [
    "$(touch /tmp/no)",
    "`id`",
    "; id",
    "a b",
    "'",
    '"',
    "\\",
    "*",
    "$HOME",
    "&&",
    "#",
    "~",
    "-n",
    "!",
    "é",
    "}",
    "{}",
    "%s",
    "'; exit 1; '",
]


@pytest.mark.parametrize("word", HOSTILE)
def test_no_argument_breaks_out_of_the_helper(word: str) -> None:
    argv = ("{current}/router", word, f"x{{current}}{word}") if word != "{}" else ("{current}/r",)
    got = words(saying(SYSTEMD, argv))
    assert got == [a.replace("{current}", "/opt/router/current") for a in argv]


SAFE = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="{}"), min_size=1
)


@settings(max_examples=40, deadline=None)
@given(st.lists(SAFE, min_size=1, max_size=4), SAFE)
def test_any_arguments_come_out_as_they_went_in(argv: list[str], current: str) -> None:
    got = words(saying(SYSTEMD, ("{current}", *argv)), current)
    assert got == [current, *argv]


@pytest.mark.parametrize("inventory", [SYSTEMD, PROCESS], ids=["systemd", "process"])
def test_the_helper_is_a_posix_script(inventory: Inventory, tmp_path: Path) -> None:
    files = host_files(inventory, "router1", "deploy")
    assert "#@SETTINGS@" not in files.helper
    path = tmp_path / "helper"
    path.write_text(files.helper)
    done = subprocess.run(["sh", "-n", path], capture_output=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, b"")


def test_p1_any_change_of_the_service_is_another_helper() -> None:
    digest = host_files(SYSTEMD, "router1", "deploy").helper_digest
    assert host_files(SYSTEMD, "router1", "another").helper_digest == digest
    assert host_files(PROCESS, "router1", "deploy").helper_digest != digest
    assert host_files(saying(SYSTEMD, ("x",)), "router1", "deploy").helper_digest != digest


def test_sudo_allows_the_helper_and_no_arguments() -> None:
    files = host_files(SYSTEMD, "router1", "deploy")
    assert files.sudoers is not None
    rules = [line for line in files.sudoers.splitlines() if line.startswith("deploy ")]
    assert rules == [f'deploy ALL=(root) NOPASSWD: {files.helper_path} ""']
    assert "*" not in files.sudoers
    assert invocation(SYSTEMD, "router1") == f"exec sudo -n {files.helper_path}"
    assert not files.helper_path.startswith(SYSTEMD.root("router1")), "root's, not the fleet's"


def test_without_systemd_there_is_no_unit_and_no_sudo() -> None:
    files = host_files(PROCESS, "router1", "deploy")
    assert (files.unit, files.unit_path, files.sudoers, files.unit_digest) == (None,) * 4
    assert "sudo" not in invocation(PROCESS, "router1")


def test_the_unit_starts_exactly_the_words_of_the_inventory() -> None:
    argv = ("{current}/router", 'a "b"', "$HOME", "100%", "back\\slash")
    service = SYSTEMD.service.model_copy(update={"start": argv})
    unit = host_files(SYSTEMD.model_copy(update={"service": service}), "router1", "d").unit
    assert unit is not None
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    wanted = r'"/opt/router/current/router" "a \"b\"" "$$HOME" "100%%" "back\\slash"'
    assert line == f"ExecStart={wanted}"


def test_a_request_cant_name_a_path() -> None:
    """The helper takes no argument, and its request's keys are words and digests."""
    helper = host_files(PROCESS, "router1", "deploy").helper
    done = subprocess.run(["sh", "-c", helper, "sh", "probe"], capture_output=True, timeout=10)
    assert (done.returncode, done.stdout) == (64, b"")


def test_each_host_has_its_own_values() -> None:
    text = """
fleet: f
expect: 1
release_root: /srv/{host}
service: {name: r, supervisor: process, start: ["{x}"], version: [v], status: ["{state}", "{root}"]}
ssh: {known_hosts: k}
waves: [rest]
hosts: {one: {address: a, vars: {x: "$(id)"}}}
"""
    inventory = parse_inventory(text, "f.yaml")
    helper = host_files(inventory, "one", "d").helper
    assert "run_start() { \"$@\" '$(id)'; }" in helper
    assert 'run_status() { "$@" /srv/one/state/service /srv/one; }' in helper
