"""Stop on real hosts: halted, killed, kept so, warm and cold, and started by two people (P6)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import HOSTS, TOOL, Desk

pytestmark = pytest.mark.sshd


def test_p6_a_stop_needs_nothing_of_the_operator_s_machine(desk: Desk) -> None:
    """No home, no room where it prints, a journal that is damaged, a folder it can't write to."""
    journal = desk.folder / ".deploytool" / "journal"
    journal.mkdir(parents=True, exist_ok=True)
    for file in journal.iterdir():
        file.write_bytes(b"damaged")
    bare = {"PATH": os.environ["PATH"], "TMPDIR": "/nowhere", "HOME": "/nowhere"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [TOOL, "stop", "-i", desk.inventory, "--all", "--reason", "runaway orders"],
            stdout=full, stderr=full, stdin=subprocess.DEVNULL, cwd="/proc", env=bare, timeout=60,
        )  # fmt: skip
    assert done.returncode == 6, "nobody else has seen the silence"
    for host in HOSTS:
        latch = desk.latch(host)
        assert latch is not None
        assert (latch["state"], latch["reason"]) == ("HALTED", "runaway orders")
        assert desk.main(host), "what halts when it is asked is not killed"
    for file in journal.iterdir():
        file.unlink()


def test_p6_a_router_that_hangs_is_killed_and_two_people_start_it_again(desk: Desk) -> None:
    desk.signal("router2", signal.SIGSTOP)
    hung = desk.main("router2")
    ended = desk.stop("--host", "router2", "--reason", "hung")
    row = ended.row("router2")
    assert (row["end"], row["stopped"], row["silent"]) == ("DEAD", True, False), row
    assert [step["rung"] for step in row["steps"]][-3:] == ["fence", "kill", "look"]
    assert desk.main("router2") == 0, f"{hung} is still there"
    assert desk.latch("router1") is None, "nobody else was stopped"
    status = desk.tool("status", "-i", desk.inventory)
    assert "deploytool start" in status.err
    refused = desk.deploy("2026.1")
    assert refused.code == 3, refused
    assert desk.main("router2") == 0, "a deployment revives nothing that was fenced"
    began = desk.start("router2", folder="hung")
    assert began.code == 0, began
    assert desk.latch("router2") is None
    assert desk.main("router2")
    assert desk.tool("status", "-i", desk.inventory).code == 0, "and it is a MATCH again"


def test_p6_nobody_starts_alone_or_by_an_old_or_altered_request(desk: Desk) -> None:
    desk.stop("--all", "--reason", "runaway")
    place = desk.folder / "alone"
    ask = ("start", "-i", desk.inventory, "--host", "router1", "--reason", "mended")
    asked = desk.tool(*ask, "--by", "rehearsal", "--out", str(place))
    assert asked.code == 0, asked
    request = place / "router1.request"
    begin = ("start", "-i", desk.inventory, "--json", "--request", str(request))

    desk.sign(request, "rehearsal")
    assert desk.tool(*begin).document["rule"] == "START_SECOND_PERSON"
    desk.sign(request, "second")
    whole = request.read_bytes()
    request.write_bytes(whole.replace(b"mended", b"mendex"))
    assert desk.tool(*begin).document["rule"] == "START_SIGNATURE"
    request.write_bytes(whole)
    stranger = desk.tool(*ask, "--by", "nobody", "--out", str(desk.folder / "stranger"), "--json")
    assert stranger.document["rule"] == "START_PERSON"

    desk.stop("--host", "router1", "--reason", "again")
    assert desk.tool(*begin).document["rule"] == "START_STOPPED_AGAIN"
    assert all(desk.latch(host) is not None for host in HOSTS)

    began = desk.start(folder="together")
    assert began.code == 0, began
    assert all(desk.latch(host) is None for host in HOSTS)
    replayed = desk.tool(*begin).document["rule"]
    assert replayed in {"START_NOT_STOPPED", "START_LATCH"}


def test_p6_a_rollout_that_is_under_way_holds_and_switches_nothing_more(desk: Desk) -> None:
    # It proves so late that the stop comes before that, on a slow machine too.
    late = desk.fleet.folder / "late.yaml"
    late.write_text(Path(desk.inventory).read_text().replace("soak_s: 0.2", "soak_s: 5"))
    words = [TOOL, "deploy", "-i", str(late), "2026.1", "--store", desk.store]
    rollout = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=desk.folder
    )
    assert rollout.stdout is not None
    said = ""
    while "router1: verified" not in said:  # the canary
        line = rollout.stdout.readline()
        assert line, said
        said += line
    desk.stop("--all", "--reason", "the canary runs away")
    rest, _ = rollout.communicate(timeout=120)
    assert rollout.returncode == 5, said + rest
    assert "A host was stopped meanwhile" in rest
    for host in HOSTS:
        assert (desk.root(host) / "state" / "lock").exists(), "its locks are kept"
        assert desk.latch(host) is not None or not desk.main(host)
    mixed = desk.tool(
        *("start", "-i", desk.inventory, "--all", "--reason", "never mind", "--json"),
        *("--by", "rehearsal", "--out", str(desk.folder / "mixed")),
    )
    releases = {(desk.root(host) / "current").readlink() for host in HOSTS}
    if len(releases) > 1:
        assert mixed.document["rule"] == "START_MIXED"


def test_p6_a_watch_is_asked_first_and_one_that_hangs_delays_nothing(desk: Desk) -> None:
    with desk.watching() as watch:
        before = time.time()
        desk.stop("--host", "router1", "--reason", "warm")
        assert desk.latch("router1") is not None
        until = time.monotonic() + 20
        said = ""
        assert watch.stdout is not None
        while "router1: HALTED" not in said:
            assert time.monotonic() < until, said
            said += watch.stdout.readline()
        assert "asked by" in said
        watch.send_signal(signal.SIGSTOP)
        try:
            ended = desk.stop("--host", "router2", "--reason", "cold beside it")
            assert ended.row("router2")["end"] == "HALTED"
        finally:
            watch.send_signal(signal.SIGCONT)
        assert time.time() - before < 60


def test_p6_hosts_are_stopped_by_what_they_run(desk: Desk) -> None:
    release = (desk.root("router1") / "current").readlink().name
    other = desk.stop("--release", "0" * 12)
    assert {h["end"] for h in other.document["hosts"]} == {"OTHER RELEASE"}
    assert other.code == 6, "nothing was stopped: that is no success"
    assert all(desk.latch(host) is None for host in HOSTS)
    desk.stop("--release", release[:12])
    assert all(desk.latch(host) is not None for host in HOSTS)
