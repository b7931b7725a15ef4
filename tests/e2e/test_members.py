"""The fleet is more than a file: its hosts say who belongs, who left, and who came."""

from __future__ import annotations

import re

import pytest

from .workstation import NEW, OLD, Workstation, runs

pytestmark = pytest.mark.containers
DARK, GONE = "router7", "router8"


def test_p1_seven_of_eight_are_no_fleet_until_the_eighth_was_taken_off_the_list(
    desk: Workstation,
) -> None:
    names = [host.name for host in desk.record.hosts]
    # Words, not paths: the desk makes no fleet of what these list.
    eight = str(desk.inventory)
    seven = str(desk.write_inventory("seven.yaml", [n for n in names if n != GONE]))
    began = desk.tool("deploy", "-i", desk.inventory, OLD)
    assert began.code == 0, began

    status = desk.tool("status", "-i", seven)
    assert status.code == 5, status
    assert f"not in it: {GONE}" in status.err
    assert f"List {GONE} in" in status.now
    refused = desk.tool("deploy", "-i", seven, NEW)
    assert refused.code == 3, refused
    assert f"not in it: {GONE}" in refused.err
    assert all(runs(look, desk.digest(OLD)) for look in desk.looks(tuple(names)).values())

    for host in (DARK, GONE):
        desk.root(host, "systemctl stop ssh.socket ssh.service sshd.service 2>/dev/null || true")
    admin = ("--admin", "root", "--admin-key", desk.containers.folder / "admin_ed25519")
    left = desk.tool("host", "retire", GONE, "-i", seven, "--gone", *admin)
    assert left.code == 0, left
    assert f"members: {DARK} did not show its list" in left.out
    epoch = int(re.findall(r"members: epoch (\d+) ", left.out)[0])
    for host in (DARK, GONE):
        desk.root(host, "systemctl start ssh.service")

    absent = desk.tool("status", "-i", seven)
    assert absent.code == 5, absent
    assert f"epoch {epoch - 1}, which epoch {epoch} replaced" in absent.err
    assert {line.split(":")[0].strip() for line in _lines(absent.err)} == {DARK}
    assert "host prepare" in absent.now
    given = desk.prepare("-i", seven)
    assert given.code == 0, given
    assert f"written to {DARK}" in given.out
    proven = desk.tool("status", "-i", seven)
    assert proven.code == 0, proven

    returns = desk.tool("status", "-i", eight)
    assert returns.code == 5, returns
    assert "taken off it, or never on it" in returns.err
    enters = desk.prepare("-i", eight, "--host", GONE)
    assert enters.code == 0, enters
    assert f"members: epoch {epoch + 1} " in enters.out
    proven = desk.tool("status", "-i", eight)
    assert proven.code == 0, proven


def _lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("  router")]


def test_p1_a_fleet_that_was_prepared_before_gets_its_list_from_host_prepare(
    desk: Workstation,
) -> None:
    names = [host.name for host in desk.record.hosts]
    for host in names:
        desk.root(host, "rm /etc/deploytool/router/members")
    refused = desk.tool("deploy", "-i", desk.inventory, NEW)
    assert refused.code == 3, refused
    assert "list of members" in refused.err
    assert "host prepare" in desk.tool("status", "-i", desk.inventory).now
    assert desk.prepare("-i", desk.inventory).code == 0
    assert desk.tool("status", "-i", desk.inventory).code == 0


_BACK = """
rm -f /opt/router/state/halted /opt/router/state/fenced /opt/router/state/service/latch.json
systemctl unmask --quiet router; systemctl reset-failed router; systemctl restart router
"""


def test_p6_a_stop_tells_its_targets_and_then_names_a_member_that_it_was_not_told_of(
    desk: Workstation,
) -> None:
    names = [host.name for host in desk.record.hosts]
    seven = str(desk.write_inventory("seven.yaml", [n for n in names if n != GONE]))
    try:
        ended = desk.tool("stop", "-i", seven, "--all", "--json")
    finally:
        for host in names:
            desk.root(host, _BACK)
    assert ended.code == 6, ended
    rows = {row["host"]: row["stopped"] for row in ended.document["hosts"]}
    assert rows == {name: True for name in names if name != GONE}
    untold = f"list of members has {GONE} too, and NOTHING was told there"
    assert any(untold in line for line in ended.document["trouble"]), ended
