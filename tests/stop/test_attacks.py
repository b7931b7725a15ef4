"""What may be wrong around a stop, brought about for real: whom it reaches, it stops (P6)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deploytool.stop.watch_client import ask

from .conftest import HOSTS, Desk

pytestmark = pytest.mark.sshd

HANGS = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n"


def _replace(path: Path, text: str) -> None:
    """As editors do it: another file is put in its place."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


def test_p6_a_watch_stops_what_it_knows_when_the_inventory_is_broken_meanwhile(desk: Desk) -> None:
    inventory = Path(desk.inventory)
    whole = inventory.read_text()
    with desk.watching():
        # Named twice: its line carries one question at a time.
        order = {"only": "", "latch": "ab12", "by": "me", "reason": "twice", "pressed": time.time()}
        warm, trouble = ask(desk.inventory, {"stop": ["router1", "router1"], **order})
        assert warm is not None, trouble
        warm.listen(20)
        assert warm.climbed["router1"]["end"] == "HALTED"
        assert warm.over
        warm.close()
        _replace(inventory, "{hosts: [")
        try:
            ended = desk.stop("--all", "--reason", "half saved")
        finally:
            _replace(inventory, whole)
        assert (ended.code, {h["end"] for h in ended.document["hosts"]}) == (6, {"HALTED"})
        assert "NOTHING WAS STOPPED" not in ended.out + ended.err
        assert all(desk.latch(host) is not None for host in HOSTS)


def test_p6_hosts_on_which_much_is_broken_are_stopped_or_named(desk: Desk) -> None:
    """No link to what runs; a helper that is not ours any more; no socket, a halt that hangs."""
    linkless, strange, hangs = HOSTS
    victims = {host: desk.main(host) for host in HOSTS}
    (desk.root(linkless) / "current").unlink()
    helper = desk.root(strange) / "libexec" / "helper"
    whole = helper.read_bytes()
    helper.chmod(0o755)
    helper.write_text("#!/bin/sh\necho welcome\n")
    odd = desk.root(hangs) / "odd"
    odd.mkdir()
    (odd / "router").write_text(HANGS)
    (odd / "router").chmod(0o755)
    (desk.root(hangs) / "current").unlink()
    (desk.root(hangs) / "current").symlink_to("odd")
    (desk.root(hangs) / "state" / "service" / "control.sock").unlink()
    try:
        ended = desk.stop("--all", "--reason", "much is broken")
        assert ended.code == 6
        row = ended.row(linkless)
        assert (row["end"], row["stopped"]) == ("HALTED", True), "its process has a socket"
        assert desk.main(linkless) == victims[linkless]
        assert (desk.root(linkless) / "state" / "service" / "latch.json").exists()
        row = ended.row(hangs)
        assert (row["end"], row["stopped"]) == ("DEAD", True), row
        assert desk.main(hangs) == 0
        row = ended.row(strange)
        assert (row["end"], row["stopped"]) == ("OUT OF REACH", False), row
        assert desk.main(strange) == victims[strange], "nothing else was done to it"
    finally:
        helper.write_bytes(whole)
        (odd / "router").unlink()
        odd.rmdir()


def test_p6_a_host_whose_key_is_not_the_pinned_one_is_told_nothing_and_named(desk: Desk) -> None:
    folder = desk.fleet.folder
    pinned = (folder / "known_hosts").read_text().splitlines()
    keys = [line.split(" ", 1) for line in pinned]
    other = next(key for _, key in keys if key != keys[1][1])
    swapped = [f"{keys[1][0]} {other}" if at == 1 else line for at, line in enumerate(pinned)]
    (folder / "swapped").write_text("\n".join([*swapped, ""]))
    text = Path(desk.inventory).read_text()
    (folder / "swapped.yaml").write_text(
        text.replace("known_hosts: known_hosts", "known_hosts: swapped")
    )
    ended = desk.tool("stop", "-i", str(folder / "swapped.yaml"), "--all", "--json")
    ends = {h["host"]: h["end"] for h in ended.document["hosts"]}
    assert sorted(ends.values()) == ["HALTED", "HALTED", "OUT OF REACH"]
    (victim,) = (host for host, end in ends.items() if end == "OUT OF REACH")
    assert desk.latch(victim) is None
    assert "ost key" in ended.row(victim)["how"]


def test_p6_a_client_that_refuses_the_person_s_own_configuration_is_gone_around(
    desk: Desk, tmp_path: Path
) -> None:
    """The stock client ends at once over an unknown word in what we have it include."""
    broken, first = tmp_path / "config", tmp_path / "first"
    broken.write_text("NoSuchOption yes\n")
    first.touch()
    client = tmp_path / "ssh"
    client.write_text(
        f"#!/bin/sh\nrm {first} 2>/dev/null && exec /usr/bin/ssh -F {broken} nowhere\n"
        'exec /usr/bin/ssh "$@"\n'
    )
    client.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = desk.stop("--host", "router1", env=env)
    assert ended.row("router1")["end"] == "HALTED", ended
    assert "configuration" in ended.row("router1")["steps"][0]["text"]
