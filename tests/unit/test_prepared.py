"""What stands on hosts is rendered with every value quoted: nothing in an inventory breaks out."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploytool.agent.marks import text_of
from deploytool.agent.model import Deadman
from deploytool.agent.settings import Settings
from deploytool.fleet.inventory import parse_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepared import host_files, invocation
from deploytool.simulation import fleet

SYSTEMD, PROCESS = fleet.inventory(2, "systemd"), fleet.inventory(2, "process")


def saying(inventory: Inventory, argv: tuple[str, ...]) -> Inventory:
    return inventory.model_copy(
        update={"service": inventory.service.model_copy(update={"status": argv})}
    )


def words(inventory: Inventory, current: str = "/opt/router/current") -> list[str]:
    """The words that the agent really gives to a program: out of its own file, filled in."""
    _, _, packed = host_files(inventory, "router1", "deploy").agent.partition(b"\n#@AGENT@\n")
    _, _, parts = packed.partition(b"\n\n")
    read = Settings.from_json(json.loads(parts[: parts.index(b"\n")]), strict=True)
    return list(read.status.filled(current=current))


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
def test_no_argument_breaks_out_of_the_agent_s_settings(word: str) -> None:
    argv = ("{current}/router", word, f"x{{current}}{word}") if word != "{}" else ("{current}/r",)
    got = words(saying(SYSTEMD, argv))
    assert got == [a.replace("{current}", "/opt/router/current") for a in argv]


SAFE = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="{}"), min_size=1
)


@settings(max_examples=40)
@given(st.lists(SAFE, min_size=1, max_size=4), SAFE)
def test_any_arguments_come_out_as_they_went_in(argv: list[str], current: str) -> None:
    got = words(saying(SYSTEMD, ("{current}", *argv)), current)
    assert got == [current, *argv]


def test_p1_any_change_of_the_service_is_another_agent() -> None:
    digest = host_files(SYSTEMD, "router1", "deploy").agent_digest
    assert host_files(SYSTEMD, "router1", "another").agent_digest == digest
    assert host_files(PROCESS, "router1", "deploy").agent_digest != digest
    assert host_files(saying(SYSTEMD, ("x",)), "router1", "deploy").agent_digest != digest


def test_sudo_allows_the_agent_and_no_arguments() -> None:
    files = host_files(SYSTEMD, "router1", "deploy")
    assert files.sudoers is not None
    rules = [line for line in files.sudoers.splitlines() if line.startswith("deploy ")]
    assert rules == [f'deploy ALL=(root) NOPASSWD: {files.agent_path} ""']
    assert "*" not in files.sudoers
    assert invocation(SYSTEMD, "router1") == f"exec sudo -n {files.agent_path}"
    assert not files.agent_path.startswith(SYSTEMD.root("router1")), "root's, not the fleet's"


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


@pytest.mark.parametrize("stopped", [True, False])
def test_p6_root_s_mark_of_a_stop_has_the_artifact_halt_before_it_starts(
    tmp_path: Path, *, stopped: bool
) -> None:
    service = SYSTEMD.service.model_copy(update={"halt": ("echo", "{by}", "{reason}", 'a "$b"')})
    unit = host_files(SYSTEMD.model_copy(update={"service": service}), "router1", "d").unit
    assert unit is not None
    (line,) = [text for text in unit.splitlines() if text.startswith("ExecStartPre=-")]
    mark = tmp_path / "halted"
    if stopped:
        mark.touch()
    words = shlex.split(line.removeprefix("ExecStartPre=-").replace("$$", "$"))
    assert words[3] == "/opt/router/state/halted"
    ran = subprocess.run([*words[:3], str(mark), *words[4:]], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, 'root stopped a "$b"\n' if stopped else "")
    without = SYSTEMD.service.model_copy(update={"halt": None})
    plain = host_files(SYSTEMD.model_copy(update={"service": without}), "router1", "d").unit
    assert "ExecStartPre" not in str(plain)


def test_a_request_cant_name_a_path(tmp_path: Path) -> None:
    """The agent takes no argument, and its requests' fields are words and digests."""
    agent = host_files(PROCESS, "router1", "deploy").agent
    (tmp_path / "agent").write_bytes(agent)
    done = subprocess.run(["sh", tmp_path / "agent", "probe"], capture_output=True, timeout=10)
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
    said = host_files(inventory, "one", "d").settings
    assert said.start.filled() == ("$(id)",)
    assert said.status.filled() == ("/srv/one/state/service", "/srv/one")
    assert said.root == "/srv/one"


@pytest.mark.parametrize("seen", ["another", "this"])
def test_p7_the_unit_starts_what_awaits_a_confirmation_in_the_boot_of_its_activation_alone(
    seen: str, tmp_path: Path
) -> None:
    unit = host_files(SYSTEMD, "router1", "d").unit
    assert unit is not None
    (line,) = [text for text in unit.splitlines() if "boot_id" in text]
    script = shlex.split(line.removeprefix("ExecCondition=").replace("$$", "$"))[2]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    awaited = Deadman(boot=boot if seen == "this" else "b" * 8, token=3, seconds=60, armed=1)
    mark = tmp_path / "deadman"
    for there, starts in ((False, True), (True, seen == "this")):
        if there:
            mark.write_text(text_of(awaited))
        done = subprocess.run(["/bin/sh", "-c", script, mark], timeout=10)
        assert (done.returncode == 0) is starts
