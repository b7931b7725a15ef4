"""A start that was killed half-way: what is said is true, and the advice leads out (P6, P7)."""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Callable

import pytest

from .conftest import Desk, Ended

pytestmark = pytest.mark.sshd
HOST = "router2"


def fence_gone(desk: Desk) -> None:
    """It was fenced; the fence was taken away, and the start of the process never came."""
    (desk.root(HOST) / "state" / "fenced").unlink()


def started(desk: Desk) -> None:
    """The process was started, and comes up halted; nobody released its latch."""
    fence_gone(desk)
    place = desk.root(HOST) / "state" / "halted"
    text = place.read_text()
    place.unlink()
    assert desk.deploy("2026.0").code == 0
    place.write_text(text)


def trading(desk: Desk) -> None:
    """The router was released, and the stop's latch was not removed yet."""
    place = desk.root(HOST) / "state" / "halted"
    text = place.read_text()
    began = desk.start(HOST, folder=f"half-{time.time_ns()}")
    assert began.code == 0, began
    place.write_text(text)


def locked(desk: Desk) -> None:
    """All was done, and the lock under which its process is verified was not given back."""
    began = desk.start(HOST, folder=f"half-{time.time_ns()}")
    assert began.code == 0, began
    release = (desk.root(HOST) / "current").readlink().name
    (desk.root(HOST) / "state" / "lock").write_text(
        "token 99\nholder ann@desk\npurpose start\nplan start\nsince 1\n"
    )
    (desk.root(HOST) / "state" / "token").write_text("99\n")
    (desk.root(HOST) / "state" / "rollout").write_text(
        f"plan start\ntarget {release}\nbefore {release}\nphase locked\nsince 1\n"
    )


CASES: dict[str, tuple[Callable[[Desk], None], str]] = {
    "fence gone": (fence_gone, "nothing runs there"),
    "trading": (trading, "it trades, although"),
    "locked": (
        locked,
        "a start that was interrupted leaves that: 'deploytool rollback'",
    ),
}


def trades(desk: Desk) -> bool:
    """Whether it may send, past deploytool: a process of its own, and no latch of the router's."""
    return bool(desk.main(HOST)) and desk.latch(HOST) is None


def follow(desk: Desk, said: Ended) -> Ended | None:
    """Does what is advised, literally; None where there is nothing left to do."""
    if said.code == 0:
        return None
    now = said.err.split("What to do now:", 1)[-1] if "What to do now:" in said.err else said.err
    commands = re.findall(r"deploytool (\w+ -i [^;,(]*)", " ".join(now.split()))
    assert commands, said
    words = shlex.split(commands[0])
    if words[0] == "start":
        return desk.start(HOST, folder=f"follow-{time.time_ns()}")
    return desk.tool(*words)


@pytest.mark.parametrize("case", CASES)
def test_p6_p7_what_an_interrupted_start_left_is_said_and_ended(desk: Desk, case: str) -> None:
    leave, words = CASES[case]
    desk.signal(HOST, signal.SIGSTOP)
    desk.stop("--host", HOST, "--reason", "hung")
    leave(desk)
    true = trades(desk)
    status = desk.tool("status", "-i", desk.inventory)
    told = " ".join((status.out + status.err).split())
    assert words in told, told
    assert ("it trades" in told) <= true, told
    place = desk.folder / f"ask-{time.time_ns()}"
    ask = ("start", "-i", desk.inventory, "--host", HOST, "--reason", "x", "--by", "rehearsal")
    asked = desk.tool(*ask, "--out", str(place))
    assert ("does not trade" in asked.err.lower()) <= (not true), asked
    for _ in range(6):
        status = desk.tool("status", "-i", desk.inventory)
        if follow(desk, status) is None:
            break
    assert status.code == 0, status
    if "deploytool rollback" in status.out:
        back = desk.tool("rollback", "-i", desk.inventory, "--store", desk.store)
        assert back.code == 0, back
        status = desk.tool("status", "-i", desk.inventory)
        assert (status.code, "locked" in status.out) == (0, False), status
    if not trades(desk):  # it is in parity, and was stopped
        began = desk.start(HOST, folder=f"again-{time.time_ns()}")
        assert began.code == 0, began
    assert trades(desk)
