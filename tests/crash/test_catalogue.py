"""The catalogue is whole, the sample can be drawn again, and the count can't be fooled."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deploytool.errors import InputError
from deploytool.rehearsal.faults.cases import every_case, sample, select
from deploytool.rehearsal.faults.catalogue import CATALOGUE, NOT_ON_REAL_HOSTS, NOT_SIMULATED
from deploytool.rehearsal.faults.relay import Relay
from deploytool.rehearsal.faults.report import Campaign, PlayedCase
from deploytool.rehearsal.faults.strikes import STRIKES
from deploytool.rehearsal.faults.whole import CASES, verdict
from deploytool.simulation.faults import Fault

HOSTS = ("router1", "router2", "router3")


def test_every_fault_of_either_side_is_one_of_the_other_or_it_is_said_why_not() -> None:
    here = {entry.name for entry in CATALOGUE}
    simulated = {fault.name.lower().replace("_", "-") for fault in Fault}
    assert simulated - here == set(NOT_ON_REAL_HOSTS)
    assert here - simulated == set(NOT_SIMULATED)
    for reason in NOT_SIMULATED.values():
        named = [word for word in reason.split() if word.startswith("tests/")]
        assert all((Path(__file__).parents[2] / word).is_file() for word in named), reason
    assert len(here) == len(CATALOGUE), "a name stands twice"


def test_every_fault_can_be_brought() -> None:
    assert {entry.name for entry in CATALOGUE} == set(STRIKES)


def test_there_are_more_cases_than_are_asked_for() -> None:
    assert len(every_case(select(("all",), "container"), HOSTS)) >= CASES["container"] >= 200
    assert len(every_case(select(("all",), "local"), HOSTS)) >= CASES["local"]


def test_a_sample_can_be_drawn_again_and_leaves_no_fault_out() -> None:
    faults = select(("all",), "container")
    cases = every_case(faults, HOSTS)
    drawn = sample(cases, 200, 7)
    assert drawn == sample(cases, 200, 7) != sample(cases, 200, 8)
    assert len(set(map(id, drawn))) == len(drawn) == 200
    assert {case.fault.name for case in drawn} == {entry.name for entry in faults}


def test_a_fault_that_is_unknown_or_impossible_is_bad_input() -> None:
    for word in ("no-such-fault", "clock-wrong", "hangs"):
        with pytest.raises(InputError) as caught:
            select((word,), "local")
        assert caught.value.details[0].startswith(f"{word}: ")


def _played(**said: str) -> PlayedCase:
    return PlayedCase("case", "hangs", struck=True, code=0, mended_by=(), seconds=1.0, **said)


@pytest.mark.parametrize("said", [{"lie": "x"}, {"unresolved": "x"}, {"odd": "x"}])
def test_p1_one_bad_case_fails_a_campaign(said: dict[str, str]) -> None:
    good = Campaign("local", 3, 1, possible=2, planned=2, played=[_played(), _played()])
    assert verdict(good) is None
    bad = Campaign("local", 3, 1, possible=2, planned=2, played=[_played(), _played(**said)])
    error = verdict(bad)
    assert error is not None
    assert error.exit_code == 5
    assert "x" in error.details[0]


def test_p2_a_campaign_that_played_nothing_or_not_all_has_not_passed() -> None:
    assert verdict(Campaign("local", 3, 1, possible=0, planned=0)) is not None
    assert verdict(Campaign("local", 3, 1, possible=2, planned=2, played=[_played()])) is not None


def test_a_relay_passes_everything_on_until_it_is_told_to_break() -> None:
    with socket.create_server(("127.0.0.1", 0)) as echo:
        threading.Thread(target=_echo, args=(echo,), daemon=True).start()
        relay = Relay(*echo.getsockname())
        try:
            with _connected(relay) as client:
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"
                relay.cut()
                assert _is_over(client)
            with _connected(relay) as client:
                relay.lose_answer()
                client.sendall(b"hello")
                assert _is_over(client)
            relay.refuse()
            with pytest.raises(ConnectionRefusedError):
                _connected(relay)
            relay.heal()
            with _connected(relay) as client:
                relay.alter()
                client.sendall(b"hello")
                assert client.recv(5) == b"helln"
        finally:
            relay.close()


def _connected(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=10)


def _is_over(client: socket.socket) -> bool:
    try:
        return client.recv(5) == b""
    except ConnectionResetError:
        return True


def _echo(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            while data := connection.recv(100):
                connection.sendall(data)


@pytest.mark.sshd
@pytest.mark.slow
def test_rehearse_faults_prints_the_counts(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "deploytool.cli.main", "rehearse", "--fleet", "local"]
    argv += ["--faults", "link-switched", "--faults", "deployer-killed", "--cases", "2"]
    argv += ["--seed", "5", "--source", str(Path("router_binary").absolute()), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["seed"], len(said["cases"]), said["planned"]) == (5, 2, 2)
    assert (said["false_successes"], said["unresolved"], said["unexpected_ends"]) == (0, 0, 0)
    assert "seed 5" in done.stderr
