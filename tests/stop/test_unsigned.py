"""A fleet without signers: what a stop shuts, only root on the host opens, and all say so (P6)."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploytool.agent.protocol import request_bytes
from deploytool.agent.requests import LetIn
from deploytool.fleet.agent_settings import agent_path
from deploytool.fleet.inventory import load_inventory

from .conftest import HOSTS, Desk, Ended

pytestmark = pytest.mark.sshd
COMMAND = "deploytool host let-in "


def without_signers(desk: Desk) -> Path:
    """The inventory, and nothing in it that needs signers."""
    said = yaml.safe_load(Path(desk.inventory).read_text())
    del said["signers"], said["service"]["flags"]
    start = said["service"]["start"]
    at = start.index("--signers")
    del start[at : at + 2]
    place = desk.fleet.folder / "unsigned.yaml"
    place.write_text(yaml.safe_dump(said, sort_keys=False))
    return place


@pytest.fixture
def unsigned(desk: Desk) -> Iterator[str]:
    """The same hosts, prepared by an inventory that names no signers."""
    place = without_signers(desk)
    prepared = desk.tool("host", "prepare", "-i", str(place))
    assert prepared.code == 0, prepared
    for host in HOSTS:
        desk.signal(host, signal.SIGKILL)
    deployed = desk.tool("deploy", "-i", str(place), "2026.0", "--store", desk.store)
    assert deployed.code == 0, deployed
    yield str(place)
    prepared = desk.tool("host", "prepare", "-i", desk.inventory)
    assert prepared.code == 0, prepared


def advised(ended: Ended, host: str) -> list[str]:
    """The command that was printed for a host, as a person would paste it."""
    lines = (line.strip() for line in (ended.out + ended.err).splitlines())
    (found,) = {line for line in lines if line.startswith(f"{COMMAND}{host} ")}
    return shlex.split(found.replace("TEXT", "'the cause is gone'"))[1:]


def test_p6_what_was_stopped_is_let_in_by_what_stop_itself_advises(
    desk: Desk, unsigned: str
) -> None:
    before = desk.tool("host", "check", "-i", unsigned)
    assert f"{COMMAND}HOST" in before.out, before
    planned = desk.tool("plan", "-i", unsigned, "2026.1", "--store", desk.store)
    assert f"{COMMAND}HOST" in planned.out, planned
    desk.signal("router2", signal.SIGSTOP)
    ended = desk.tool("stop", "-i", unsigned, "--host", "router1", "--host", "router2")
    assert "names no signers" in ended.out, ended
    refused = desk.tool("start", "-i", unsigned, "--all", "--reason", "x", "--by", "me")
    assert COMMAND in refused.err, refused
    for host in ("router1", "router2"):
        assert desk.latch(host) is not None
        let = desk.tool(*advised(ended, host))
        assert let.code == 0, let
        assert desk.latch(host) is None
        assert desk.main(host)
        kept = (desk.root(host) / "state" / "let-in").read_text()
        assert "reason the+cause+is+gone" in kept
        assert desk.tool(*advised(ended, host)).code == 5, "it was not stopped any more"


def test_p6_only_the_helper_itself_under_sudo_is_the_deploy_account(
    desk: Desk, unsigned: str
) -> None:
    """That is all that its sudo allows; an administrator comes by a shell under sudo."""
    desk.tool("stop", "-i", unsigned, "--host", "router1")
    helper = agent_path(load_inventory(Path(unsigned)), "router1")
    call = request_bytes(LetIn(by="me", reason="r"), "0" * 32)

    def asked(sudo_command: str) -> bytes:
        env = {"PATH": os.environ["PATH"], "SUDO_COMMAND": sudo_command}
        return subprocess.run([helper], env=env, input=call, capture_output=True, timeout=60).stdout

    assert b'"code":"rights"' in asked(helper)
    assert desk.latch("router1") is not None
    assert b" end ok" in asked(f"/usr/bin/sh -c {helper}")
    assert desk.latch("router1") is None


def test_p6_a_host_that_knows_signers_is_not_let_in_past_them(desk: Desk) -> None:
    desk.stop("--host", "router2")
    words = ("host", "let-in", "router2", "--reason", "x")
    assert desk.tool(*words, "-i", desk.inventory).code == 3
    ended = desk.tool(*words, "-i", str(without_signers(desk)))
    assert ended.code == 5, ended
    assert "this host knows signers" in ended.err
    assert desk.latch("router2") is not None
