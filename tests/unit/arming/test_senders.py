"""Commands on the operator's machine: real programs, bounded in time and size, never believed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploytool.arming.senders import SenderCommands, read_census, read_senders, senders_of
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet import local_commands
from deploytool.fleet.model import GatewayConfig, Inventory, Membership

from .fleets import declared

SHA = "a" * 64


def say(text: str) -> tuple[str, ...]:
    """A command that prints this."""
    return ("printf", "%s", text)


def fleet(**commands: Any) -> Inventory:
    gateway = {"use": ("true",), "withdraw": ("true",), "observe": ("true",), "timeout_s": 2.0}
    membership = commands.pop("membership", None)
    made = GatewayConfig(**{**gateway, **commands})
    census = None if membership is None else Membership(command=membership, timeout_s=2.0)
    return declared().model_copy(update={"gateway": made, "membership": census})


def fault(act: Callable[[], object]) -> HostFault:
    with pytest.raises(HostFault) as caught:
        act()
    assert caught.value.text
    return caught.value


def test_what_is_told_and_where(tmp_path: Path) -> None:
    """No shell, the placeholders filled in as whole words, in the inventory's folder."""
    (tmp_path / "gate").write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" >told\n')
    (tmp_path / "gate").chmod(0o755)
    words = ("./gate", "use", "{flag}", "$(id) {bit}", "{release}", "{fleet}")
    made = SenderCommands(fleet(use=words, withdraw=("./gate", "{flag}", "{bit}")), tmp_path)
    made.use("RETAIL", 4, SHA)
    told = (tmp_path / "told").read_text().splitlines()
    assert told == [str(tmp_path), "use", "RETAIL", "$(id) 4", SHA, "simulated"]
    made.withdraw("RETAIL", 4)
    assert (tmp_path / "told").read_text().splitlines()[1:] == ["RETAIL", "4"]


def test_a_bit_that_nobody_knows_is_told_only_where_it_is_not_asked_for(tmp_path: Path) -> None:
    by_bit = SenderCommands(fleet(withdraw=("true", "{bit}")), tmp_path)
    assert "which bit" in str(fault(lambda: by_bit.withdraw("RETAIL", None)))
    SenderCommands(fleet(withdraw=("true", "{flag}")), tmp_path).withdraw("RETAIL", None)


def test_senders_and_census_are_read(tmp_path: Path) -> None:
    seen = {"taken": 5.5, "bits": [0, 4], "sessions": {"router1": [SHA]}}
    census = say(json.dumps({"taken": 7, "serving": ["router1", "router2"]}))
    made = SenderCommands(fleet(observe=say(json.dumps(seen)), membership=census), tmp_path)
    gateway = made.observe()
    assert gateway.taken == 5.5
    assert gateway.bits == {0, 4}
    assert gateway.sessions == {"router1": {SHA}}
    assert made.census().serving == {"router1", "router2"}


@pytest.mark.parametrize("ago_s", [29, -29])
def test_p5_bits_that_are_in_use_now_are_known(ago_s: float, tmp_path: Path) -> None:
    seen = {"taken": time.time() - ago_s, "bits": [0, 4], "sessions": {"router1": [SHA]}}
    made = SenderCommands(fleet(observe=say(json.dumps(seen))), tmp_path)
    assert made.bits_in_use() == {0, 4}


@pytest.mark.parametrize("ago_s", [31, -31, 1e9])
def test_p5_an_answer_that_is_not_of_now_is_none(ago_s: float, tmp_path: Path) -> None:
    seen = {"taken": time.time() - ago_s, "bits": [], "sessions": {"router1": [SHA]}}
    made = SenderCommands(fleet(observe=say(json.dumps(seen))), tmp_path)
    assert made.observe().bits == set(), "it can be looked at, and says when it is of"
    assert "not of now" in str(fault(made.bits_in_use))


@pytest.mark.parametrize(
    ("argv", "kind", "word"),
    [
        (("./no-such-program",), FaultKind.UNREACHABLE, "can't be run"),
        (("sh", "-c", "echo why >&2; exit 7"), FaultKind.REFUSED, "ended with 7: why"),
        (("sh", "-c", "kill -9 $$"), FaultKind.REFUSED, "ended with -9"),
        (("sleep", "60"), FaultKind.TIMEOUT, "did not end within 2 s"),
        (("sh", "-c", "sleep 60 & exit 0"), FaultKind.TIMEOUT, "did not end within 2 s"),
        (("yes",), FaultKind.PROTOCOL, "too much"),
        (("sh", "-c", "yes >&2"), FaultKind.PROTOCOL, "too much"),
        (say("hello"), FaultKind.PROTOCOL, "no JSON"),
        (say("[1]"), FaultKind.PROTOCOL, "no JSON object"),
        (("sh", "-c", "head -c 100000 /dev/zero | tr '\\0' '['"), FaultKind.PROTOCOL, "no JSON"),
        (("true",), FaultKind.PROTOCOL, "no JSON"),
    ],
)
def test_whatever_else_it_does_is_a_fault_in_time(
    argv: tuple[str, ...], kind: FaultKind, word: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    found = fault(SenderCommands(fleet(observe=argv), tmp_path).observe)
    assert (found.kind, word in found.text) == (kind, True), found
    assert time.monotonic() - began < 20


def test_what_a_command_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    script = "sleep 60 >/dev/null 2>&1 & echo $!; exec 1>&- 2>&-; sleep 0.2"
    pid = int(local_commands.ask(("sh", "-c", script), {}, tmp_path, 5))
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            break
        if state == "Z":
            break
        time.sleep(0.05)
    else:
        os.kill(pid, 9)
        pytest.fail("it goes on")


GATEWAY: dict[str, Any] = {"taken": 1, "bits": [], "sessions": {}}
ODD_TIMES: tuple[object, ...] = (None, "1", True, float("nan"), float("inf"))
ODD_BITS: tuple[object, ...] = (None, "4", [16], [-1], [True], ["4"], [1.0])
ODD_SESSIONS: tuple[object, ...] = (None, [], {"h": SHA}, {"h": ["short"]}, {"h": [1]})


@pytest.mark.parametrize(
    "changes",
    [
        *({"taken": value} for value in ODD_TIMES),
        *({"bits": value} for value in ODD_BITS),
        *({"sessions": value} for value in ODD_SESSIONS),
    ],
    ids=str,
)
def test_an_odd_word_of_the_senders_is_not_believed(changes: dict[str, Any]) -> None:
    assert read_senders(GATEWAY).bits == set()
    assert fault(lambda: read_senders({**GATEWAY, **changes})).kind is FaultKind.PROTOCOL


@pytest.mark.parametrize("serving", [None, "a", ["a", "a"], [1], {"a": 1}])
def test_an_odd_census_is_not_believed(serving: object) -> None:
    assert fault(lambda: read_census({"taken": 1, "serving": serving})).text
    assert fault(lambda: read_census({"serving": []})).text


def test_where_the_inventory_names_nobody_nobody_is_asked(tmp_path: Path) -> None:
    made = SenderCommands(declared(), tmp_path)
    for act in (made.observe, made.census, lambda: made.use("A", 1, SHA)):
        assert "the inventory names no" in fault(act).text
    assert senders_of(declared(), tmp_path) is None
    assert senders_of(fleet(), tmp_path) is not None
