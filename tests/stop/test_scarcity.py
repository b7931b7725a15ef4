"""More hosts than this machine has room for at once are told in turns, and each is told (P6)."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unable import unable

from .conftest import TOOL, Desk, Ended

pytestmark = pytest.mark.sshd

MANY = 40


def many(desk: Desk, count: int = MANY, **more: Any) -> Path:
    """An inventory of so many hosts, all of which are router1: what is theirs is told to it."""
    said = yaml.safe_load(Path(desk.inventory).read_text())
    one = said["hosts"]["router1"]
    said |= {
        "expect": count,
        "release_root": str(desk.root("router1")),
        "hosts": {f"host{n:03}": {**one, **more} for n in range(count)},
    }
    path = desk.fleet.folder / "many.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def limited(kind: int, most: int) -> Callable[[], None]:
    """Sets a limit in the child, before it becomes the tool."""
    return lambda: resource.setrlimit(kind, (most, most))


def all_halted(ended: Ended, count: int = MANY) -> bool:
    assert ended.code == 6, "nobody saw the silence"
    assert len(ended.document["hosts"]) == count
    return {row["end"] for row in ended.document["hosts"]} == {"HALTED"}


def test_p6_with_few_descriptors_hosts_are_told_in_turns(desk: Desk) -> None:
    """In each case several times as many hosts as there is room for at once."""
    for most, hosts in ((14, 6), (16, 8), (24, 12), (64, MANY)):
        ended = desk.tool(
            *("stop", "-i", str(many(desk, hosts)), "--all", "--json"),
            preexec_fn=limited(resource.RLIMIT_NOFILE, most),
        )
        assert all_halted(ended, hosts), ended


def processes(user: int) -> int:
    """How many processes and threads this user has."""
    count = 0
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        try:
            count += task.stat().st_uid == user
        except OSError:
            continue
    return count


def test_p6_with_few_processes_hosts_are_told_in_turns(desk: Desk) -> None:
    """There is room for a few lines at once, and for what they need."""
    hosts = 12
    words = [TOOL, "stop", "-i", str(many(desk, hosts)), "--all", "--json"]
    user = os.getuid()
    if user == 0:  # root has no limit of processes: another account has one, with root's files
        user = 65534
        caps = "+dac_override,+dac_read_search"
        words = [
            "setpriv",
            f"--reuid={user}",
            f"--inh-caps={caps}",
            f"--ambient-caps={caps}",
            *words,
        ]
        if subprocess.run([*words[:4], "true"], capture_output=True).returncode != 0:
            unable("setpriv can't keep root's access to files here")
    room = limited(resource.RLIMIT_NPROC, processes(user) + 5)
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, preexec_fn=room, cwd=desk.folder
    )
    assert all_halted(Ended(done.returncode, done.stdout, done.stderr), hosts), done


def test_p6_who_never_got_a_turn_is_named_and_not_called_stopped(desk: Desk) -> None:
    """The first host's line hangs, and there is room for no second one until time is up."""
    client = desk.folder / "bin" / "ssh"
    client.parent.mkdir(exist_ok=True)
    client.write_text("#!/bin/sh\nexec sleep 300\n")
    client.chmod(0o755)
    code = (
        "import deploytool.stop.runner as runner; runner.STOP_S = 3.0; "
        "from deploytool.cli.entry import main; main()"
    )
    python = str(Path(TOOL).with_name("python"))
    done = subprocess.run(
        [python, "-c", code, "stop", "-i", str(many(desk, 4)), "--all", "--json"],
        capture_output=True, text=True, timeout=60, cwd=desk.folder,
        env={**os.environ, "PATH": f"{client.parent}:{os.environ['PATH']}"},
        preexec_fn=limited(resource.RLIMIT_NOFILE, 14),
    )  # fmt: skip
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert ended.code == 6, ended
    ends = {row["host"]: (row["end"], row["how"]) for row in ended.document["hosts"]}
    assert len(ends) == 4
    assert {end for end, _ in ends.values()} == {"OUT OF REACH"}
    untold = [how for _, how in ends.values() if "no room for one more connection" in how]
    assert len(untold) == 3, ends
    assert all(re.search("Too many open files", how) for how in untold)


def test_p6_a_watch_without_room_says_so_and_leaves_the_hosts_to_the_stop(desk: Desk) -> None:
    watched = desk.tool(
        *("watch", "-i", desk.inventory, "--for", "3", "--every", "1"),
        preexec_fn=limited(resource.RLIMIT_NOFILE, 22),
    )
    assert watched.code == 5, watched
    assert "no room for one more connection" in watched.out + watched.err


@pytest.mark.parametrize("room_mb", [16, 18, 20, 40])
def test_p6_with_little_memory_each_host_is_told_or_it_says_why(desk: Desk, room_mb: int) -> None:
    """The room is the tool's own and each ``ssh``'s: the less there is, the fewer can be told."""
    ended = desk.tool(
        *("stop", "-i", str(many(desk, 12)), "--all", "--json"),
        preexec_fn=limited(resource.RLIMIT_AS, room_mb << 20),
    )
    assert ended.code == 6, ended
    rows = ended.document.get("hosts", [])
    assert {row["stopped"] for row in rows} == ({True} if room_mb == 40 else set()), ended
    assert len(rows) == 12 or "other machine" in ended.err or "elsewhere" in ended.err, ended
