"""A halt that needs no client, and one that needs no router (P6)."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Router

Configure = Callable[..., dict[str, Any]]
CLOSED = 1  # nothing listens there


@pytest.fixture
def running(router: Router, config: Configure) -> Router:
    router.configure(config(CLOSED))
    router.start()
    return router


def status(router: Router) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(router.run("status", "--json").stdout)
    return found


def halted(router: Router) -> dict[str, Any]:
    until = time.monotonic() + 10
    while (found := status(router))["trading_state"] != "HALTED":
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return found


def test_p6_a_signal_halts_at_once_and_is_latched_on_disk(running: Router) -> None:
    assert running.process is not None
    running.process.send_signal(signal.SIGUSR1)
    found = halted(running)
    assert (found["reason"], found["by"]) == ("signal USR1", "")
    assert json.loads((running.state / "latch.json").read_text())["latch"] == found["latch"]


def test_p6_a_halt_says_why_for_the_signal_that_came_before_it(running: Router) -> None:
    assert running.process is not None
    running.process.send_signal(signal.SIGUSR1)
    latch = halted(running)["latch"]
    done = running.run("halt", "--reason", "runaway", "--by", "me@here")
    assert json.loads(done.stdout)["latch"] == latch
    found = status(running)
    assert (found["reason"], found["by"], found["latch"]) == ("runaway", "me@here", latch)
    assert json.loads((running.state / "latch.json").read_text())["reason"] == "runaway"
    running.process.send_signal(signal.SIGUSR1)
    running.run("halt", "--reason", "another", "--by", "you@there")
    assert status(running)["reason"] == "runaway", "the first reason stays"


def test_p6_a_halt_without_a_router_is_latched_for_the_next_one(
    router: Router, config: Configure
) -> None:
    router.configure(config(CLOSED))
    router.state.mkdir(parents=True)
    done = router.run("halt", "--reason", "runaway", "--by", "me@here")
    said = json.loads(done.stdout)
    assert (done.returncode, said["trading_state"], said["running"]) == (0, "HALTED", False)
    router.start()
    found = status(router)
    assert (found["trading_state"], found["latch"]) == ("HALTED", said["latch"])


def test_p6_a_halt_that_can_t_be_written_down_says_so_until_it_can(running: Router) -> None:
    """Stopped is stopped; but whoever asks must know that a restart would trade."""
    blocked = running.state / "latch.new"
    blocked.mkdir()  # as a full disk or one that is read-only: no draft can be opened there
    said = json.loads(running.run("halt", "--reason", "runaway").stdout)
    assert (said["trading_state"], said["on_disk"]) == ("HALTED", False)
    assert not (running.state / "latch.json").exists()
    assert "NOT on disk" in status(running)["reason"]
    blocked.rmdir()
    again = json.loads(running.run("halt", "--reason", "once more").stdout)
    assert (again["latch"], again["on_disk"]) == (said["latch"], True)
    assert json.loads((running.state / "latch.json").read_text())["reason"] == "runaway"
    assert status(running)["reason"] == "runaway"


def test_p6_a_router_that_hangs_is_not_called_halted(running: Router) -> None:
    assert running.process is not None
    os.kill(running.process.pid, signal.SIGSTOP)
    try:
        done = running.run("halt", "--reason", "runaway")
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
    assert (done.returncode, done.stdout) == (1, "")
    assert not (running.state / "latch.json").exists() or halted(running)
