"""A rehearsal's processes: they answer or say why not, and none outlives who started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploytool.errors import EnvironmentProblem
from deploytool.market.control import ask
from deploytool.market.process import MarketProcess

from .peers import eventually

VENUE = "deploytool.market.venue"
ARGUMENTS = ["--listen", "XA=127.0.0.1:0", "--quote", "ACME=9.99:10.01"]


def market(folder: Path, arguments: list[str] | None = None) -> MarketProcess:
    return MarketProcess(VENUE, arguments or ARGUMENTS, folder / "m.sock", folder / "log")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_runs_for_the_length_of_the_block(tmp_path: Path) -> None:
    with market(tmp_path) as process:
        pid = process.pid
        assert pid is not None
        assert set(process.ask("sessions")["addresses"]) == {"XA"}
    assert gone(pid)
    assert not (tmp_path / "m.sock").exists()
    process.stop()  # a second time is no harm


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as caught, market(tmp_path, ["--listen", "nowhere"]):
        pass
    assert "ended" in caught.value.what
    assert any("nowhere" in line for line in caught.value.details)
    assert str(tmp_path / "log") in caught.value.now


def test_an_address_that_is_taken_is_an_error_and_not_a_market(tmp_path: Path) -> None:
    with market(tmp_path) as first:
        taken = first.ask("sessions")["addresses"]["XA"]
        arguments = ["--listen", f"XB={taken}", *ARGUMENTS[2:]]
        second = MarketProcess(VENUE, arguments, tmp_path / "n.sock", tmp_path / "log2")
        with pytest.raises(EnvironmentProblem), second:
            pass
        assert first.ask("sessions")


def test_a_live_control_socket_is_not_taken_over_and_a_dead_one_is(tmp_path: Path) -> None:
    with market(tmp_path) as first:
        with pytest.raises(EnvironmentProblem) as caught, market(tmp_path):
            pass
        assert any("another process listens" in line for line in caught.value.details)
        assert first.ask("sessions")["addresses"]
    left = tmp_path / "m.sock"
    subprocess.run(
        [sys.executable, "-c", "import socket,sys; socket.socket(1).bind(sys.argv[1])", str(left)],
        check=True,
    )
    assert left.exists()
    with market(tmp_path) as again:
        assert again.ask("sessions")["addresses"]


def test_a_path_too_long_for_a_socket_is_refused_with_advice(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(EnvironmentProblem, match="107") as caught, market(deep):
        pass
    assert "TMPDIR" in caught.value.now


def test_a_market_ends_when_the_one_who_started_it_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from deploytool.market.process import MarketProcess\n"
        f"with MarketProcess({VENUE!r}, {ARGUMENTS!r}, Path({str(tmp_path / 'm.sock')!r}),"
        f" Path({str(tmp_path / 'log')!r})) as p:\n"
        "    print(p.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert ask(tmp_path / "m.sock", "books")["books"] == []
        starter.kill()
    eventually(lambda: gone(pid))


def test_one_that_hangs_is_killed_after_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploytool.market import process as module

    monkeypatch.setattr(module, "_STOP_S", 0.3)
    with market(tmp_path) as process:
        pid = process.pid
        assert pid is not None
        subprocess.run(["kill", f"-{signal.SIGSTOP.value}", str(pid)], check=True)
        before = time.monotonic()
    assert time.monotonic() - before < 3
    assert gone(pid)
