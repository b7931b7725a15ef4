"""What the running process is asked on its own socket, and what falls back to a command."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from deploytool.agent.model import Asked
from deploytool.agent.requests import Halt, Halted, RenewLease, Told
from deploytool.agent.settings import SocketSetting
from deploytool.simulation.memory import artifact
from deploytool.simulation.memory.commands import MemoryCommands

from .ground import ONE, Ground

PATH = "/opt/router/state/service/control.sock"
SOCKET = SocketSetting(path=PATH, status="status", halt="halt {by} {reason}", lease="lease {nonce}")
HALT = Halt(latch="ab12", by="ann@here", reason='"quoted" \\ reason', since=5, seconds=2)


@pytest.fixture
def serving(ground: Ground) -> Ground:
    ground.deploy(ONE)
    ground.change(socket=SOCKET)
    return ground


def halt(ground: Ground) -> Asked:
    answer = ground.done(HALT)
    assert isinstance(answer, Halted)
    assert answer.said is not None
    return answer.said


def lease(ground: Ground, nonce: str | None = None) -> Asked:
    answer = ground.done(RenewLease(nonce=nonce))
    assert isinstance(answer, Told)
    return answer.said


def test_a_halt_and_a_lease_are_asked_on_the_socket(serving: Ground) -> None:
    first = lease(serving)
    assert (first.way, first.code) == ("socket", 0)
    again = lease(serving, json.loads(first.answer)["nonce"])
    assert json.loads(again.answer)["left_s"] > 0
    said = halt(serving)
    assert (said.way, json.loads(said.answer)["trading_state"]) == ("socket", "HALTED")


def test_words_are_filled_in_as_in_a_json_string(
    serving: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.change(
        socket=SOCKET.but(halt='{{"command": "halt", "reason": "{reason}", "by": "{by}"}}')
    )
    heard: list[str] = []

    def listens(_service: object, line: str) -> str:
        heard.append(line)
        return ""

    monkeypatch.setattr(artifact, "on_socket", listens)
    halt(serving)
    assert json.loads(heard[0]) == {"command": "halt", "reason": HALT.reason, "by": HALT.by}


@pytest.mark.parametrize("answer", ['{"ok": false}', "", "[]", "no JSON"])
def test_what_the_socket_does_not_answer_the_command_is_asked_for(
    serving: Ground, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(artifact, "on_socket", lambda *_: answer)
    assert [halt(serving).way, lease(serving).way] == ["command", "command"]
    assert json.loads(halt(serving).answer)["trading_state"] == "HALTED"


def test_a_refused_renewal_has_the_words_of_the_command(serving: Ground) -> None:
    said = lease(serving, "1-77")
    assert (said.way, said.code) == ("command", 1)
    assert "LEASE_NONCE" in said.errors


def test_p6_a_process_that_lets_the_time_pass_is_not_asked_twice(
    serving: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: object) -> Asked:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    def asked(*_: object, **__: object) -> Asked:
        raise AssertionError("its command asks the very same process")

    monkeypatch.setattr(MemoryCommands, "ask_socket", hangs)
    monkeypatch.setattr(MemoryCommands, "run", asked)
    said = halt(serving)
    assert (said.code, said.errors) == (None, f"no answer on {PATH} within 2 s")


def test_a_halt_where_nothing_serves_is_the_command_s(serving: Ground) -> None:
    serving.host.service.crash()
    said = halt(serving)
    assert said.way == "command"
    assert json.loads(said.answer)["running"] is False


def test_p6_a_process_that_stalls_on_its_socket_does_not_get_the_time_twice(
    serving: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    run = MemoryCommands.run

    def stalls(*_: object) -> Asked:
        serving.host.computer.time.tick(1.9)
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    def asked(self: MemoryCommands, argv: tuple[str, ...], **how: Any) -> Asked:
        given.append(how["deadline_s"])
        return run(self, argv, **how)

    monkeypatch.setattr(MemoryCommands, "ask_socket", stalls)
    monkeypatch.setattr(MemoryCommands, "run", asked)
    halt(serving)
    assert given == [0.5]
