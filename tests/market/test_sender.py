"""Senders are a part of safety: what carries a flag is held back, and goes where it was certified.

The command line is the one that an inventory names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deploytool.arming.checks import SenderObservation as Seen
from deploytool.market import sender, soup
from deploytool.market.gateway import ClientGateway, ClientGatewayConfig
from deploytool.market.link import RouterAddress

from .hosts import RELEASE, RawHost, Rig
from .peers import eventually, running

BIT, WORD, OTHER = 4, 0b10000, "cd" * 32
ARMED = 0b10011


def type_(senders: Rig, *words: str, code: int = 0) -> Any:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "deploytool.market.sender"]
    done = subprocess.run(
        [*command, "--control", str(senders.control), *words],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def observe(senders: Rig, capsys: pytest.CaptureFixture[str]) -> Any:
    assert sender.main(["--control", str(senders.control), "observe"]) == 0
    return json.loads(capsys.readouterr().out)


def up(senders: Rig, accepted: int = ARMED, release: str = RELEASE) -> None:
    for number, host in enumerate(senders.hosts):
        host.accept(release, session=release[:10], accepted=accepted)
        eventually(lambda n=number: senders.member(n)["standing"] == "trusted")  # type: ignore[misc]


def test_p3_what_must_carry_a_flag_waits_until_the_senders_are_told(senders: Rig) -> None:
    up(senders)
    senders.load(2, flags=WORD)
    senders.load(2)
    plain = [host.order() for host in senders.hosts]
    assert [flags for _, _, flags in plain] == [0, 0], "others go on"
    assert senders.ask("observe")["held_back"] == 2
    assert senders.states() == {"sent": 2, "waiting": 2}
    senders.ask("use", bit=BIT, release=RELEASE)
    assert [host.order()[2] for host in senders.hosts] == [WORD, WORD]
    assert senders.ask("observe")["held_back"] == 0


@pytest.mark.parametrize("why", ["another release", "not obeyed"])
def test_p3_flagged_ones_go_only_where_the_login_showed_what_was_certified(
    senders: Rig, why: str
) -> None:
    """The second host is trusted; it is another release, or says that the flag is off on it."""
    one, two = senders.hosts
    senders.ask("trust", releases=[RELEASE, OTHER])
    one.accept(accepted=ARMED)
    if why == "another release":
        two.accept(OTHER, session=OTHER[:10], accepted=ARMED)
    else:
        two.accept(accepted=0b11)
    eventually(lambda: senders.member(1)["standing"] == "trusted")
    senders.ask("use", bit=BIT, release=RELEASE)
    senders.load(4, flags=WORD)
    assert [one.order()[2] for _ in range(4)] == [WORD] * 4
    assert senders.member(1)["sent"] == 0
    if why == "not obeyed":  # until it says that it obeys
        two.send(soup.frame(soup.UNSEQUENCED, two.info(RELEASE, "router2", accepted=ARMED)))
        eventually(lambda: senders.member(1)["accepted_flags"] == ARMED)
        senders.load(2, flags=WORD)
        assert two.order()[2] == WORD


def test_p3_what_was_lost_on_the_way_is_not_sent_again_to_a_router_that_was_restarted(
    senders: Rig,
) -> None:
    one = senders.hosts[0]
    one.accept(accepted=ARMED)
    senders.ask("use", bit=BIT, release=RELEASE)
    senders.load(1, flags=WORD)
    name, kind, flags = one.order()
    assert (kind, flags) == (b"D", WORD)
    one.accept(accepted=0b11)  # it was restarted: its flags are off
    assert one.order()[:2] == (name, b"H")
    one.answer(name, b"I", b"8", 100, 0, 0, 0, 0, 30, 0)
    eventually(lambda: senders.states() == {"waiting": 1})
    one.send(soup.frame(soup.UNSEQUENCED, one.info(RELEASE, "router1", accepted=ARMED)))
    assert one.order() == (name, b"D", WORD)


def test_p5_a_bit_counts_until_the_last_order_that_carries_it_is_over(
    senders: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    one = senders.hosts[0]
    assert observe(senders, capsys)["bits"] == []
    one.accept(accepted=ARMED)
    senders.ask("use", bit=BIT, release=RELEASE)
    assert observe(senders, capsys)["bits"] == [BIT], "new messages would carry it"
    senders.load(1, flags=WORD)
    name, _, _ = one.order()
    senders.ask("withdraw", bit=BIT)
    assert observe(senders, capsys)["bits"] == [BIT], "sent, and never acknowledged"
    one.answer(name, b"0", b"0", 100, 0, 0, 0, 100, 0, 0)
    eventually(lambda: senders.states() == {"open": 1})
    assert observe(senders, capsys)["bits"] == [BIT], "open"
    one.answer(name, b"I", b"U", 100, 0, 0, 40, 60, 0, 0)
    eventually(lambda: senders.ask("report")["in_doubt"] == 1)
    assert observe(senders, capsys)["bits"] == [BIT], "in doubt"
    one.answer(name, b"4", b"4", 100, 0, 0, 40, 0, 42, 60)
    eventually(lambda: senders.states() == {"done": 1})
    assert observe(senders, capsys)["bits"] == []
    senders.load(1, flags=WORD)
    assert observe(senders, capsys)["bits"] == [], "held back is not sent"


def test_the_command_line_tells_and_asks(senders: Rig) -> None:
    up(senders)
    used = type_(senders, "use", str(BIT), "--release", RELEASE)
    assert used["bits"] == [BIT]
    seen = type_(senders, "observe")
    assert set(seen) == {"taken", "bits", "sessions"}
    assert abs(seen["taken"] - time.time()) < 30
    assert seen["sessions"] == {"router1": [RELEASE], "router2": [RELEASE]}
    shown = Seen(seen["taken"], frozenset(seen["bits"]), seen["sessions"])
    assert shown.bits == {BIT}
    census = type_(senders, "membership")
    assert set(census) == {"taken", "serving"}
    assert census["serving"] == ["router1", "router2"]
    assert type_(senders, "withdraw", str(BIT))["bits"] == []
    assert "refused" in type_(senders, "use", str(BIT), "--release", "latest", code=1)
    assert type_(senders, "observe")["bits"] == []


def test_a_host_that_is_left_or_gone_is_no_member(
    senders: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = senders.hosts
    one.accept()
    two.accept(OTHER, session=OTHER[:10])  # not trusted: its session is ended
    eventually(lambda: senders.member(1)["standing"] == "refused")
    assert observe(senders, capsys)["sessions"] == {"router1": [RELEASE]}
    one.close()
    eventually(lambda: senders.member()["standing"] == "down")
    assert observe(senders, capsys)["sessions"] == {}


def test_p3_all_senders_are_told_and_each_has_to_answer(
    senders: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gateway that nobody can ask is no gateway that uses nothing."""
    other = tmp_path / "h.sock"
    host = RawHost("router9")
    router = RouterAddress("router9", "127.0.0.1", host.port)
    both = ["--control", str(other), "--control", str(senders.control)]
    with running(ClientGateway(ClientGatewayConfig("GATE02", "secret", (router,)), other)):
        up(senders)
        assert sender.main([*both, "use", str(BIT), "--release", RELEASE]) == 0
        seen = json.loads(capsys.readouterr().out)
        assert (seen["bits"], sorted(seen["sessions"])) == ([BIT], ["router1", "router2"])
        assert sender.main(["--control", str(other), "withdraw", str(BIT)]) == 0
        capsys.readouterr()
        assert sender.main([*both, "observe"]) == 0
        assert json.loads(capsys.readouterr().out)["bits"] == [BIT], "one still uses it"
    host.close()
    for words in (["observe"], ["membership"], ["withdraw", str(BIT)]):
        assert sender.main([*both, *words]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert str(other) in told.err
    assert senders.ask("observe")["bits"] == [], "those that answer are told all the same"
