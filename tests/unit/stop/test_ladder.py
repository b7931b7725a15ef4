"""The ladder against helpers of every bad kind: real processes, on real pipes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from deploytool.stop import ladder, rules
from deploytool.stop.card import Target
from deploytool.stop.ladder import climb_all, in_words
from deploytool.stop.model import Climbed, End, Event, Order, Rung
from deploytool.stop.rules import stopped

HELPER = """
import base64, json, os, sys, time
SAYS = json.loads(sys.argv[1])
while True:
    first = sys.stdin.readline()
    if not first:
        break
    _, nonce, verb = first.split()
    asked = {}
    while (line := sys.stdin.readline().rstrip()) != ".":
        key, _, value = line.partition(" ")
        asked[key] = value
    with open(SAYS["log"], "a") as log:
        log.write(verb + "\\n")
    answer = SAYS.get(verb)
    if answer == "hang":
        print(f"\\ndeploytool {nonce} begin", flush=True)
        time.sleep(60)
    if answer == "mute":
        time.sleep(60)
    if answer == "die":
        print(f"\\ndeploytool {nonce} begin", flush=True)
        sys.exit(1)
    if answer == "refuse":
        print(f"\\ndeploytool {nonce} begin\\ndeploytool {nonce} end refused x no", flush=True)
        sys.exit(0)
    body = "".join(f"{line}\\n" for line in answer)
    print(f"\\ndeploytool {nonce} begin\\n{body}deploytool {nonce} end ok", flush=True)
"""
HALTED = ["halt eyJsYXRjaCI6ICJhYiIsICJ0cmFkaW5nX3N0YXRlIjogIkhBTFRFRCJ9", "latched yes"]
ACTIVE = ["halt eyJ0cmFkaW5nX3N0YXRlIjogIkFDVElWRSJ9", "latched yes"]
FENCED, KILLED, EMPTY = ["masked yes", "fenced yes"], ["killed 1"], ["halted latch ab"]


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a fifth: a helper that hangs hangs for ever anyway."""
    monkeypatch.setattr(ladder, "DEADLINE_S", {k: v / 5 for k, v in rules.DEADLINE_S.items()})
    monkeypatch.setattr(ladder, "FIRST_WORD_S", 1.0)
    monkeypatch.setattr(ladder, "CONNECT_S", 1.0)


def press(tmp_path: Path, **says: object) -> tuple[Climbed, list[str]]:
    import json

    script, log = tmp_path / "helper.py", tmp_path / "log"
    script.write_text(HELPER)
    log.touch()
    usual = {"quiesce": HALTED, "fence": FENCED, "kill": KILLED, "look": EMPTY}
    said = json.dumps({**usual, **says, "log": str(log)})
    target = Target("router1", (sys.executable, "-I", str(script), said))
    order = Order("me@here", "runaway", "ab", time.time())
    (climbed,) = climb_all([target], order, ends=time.monotonic() + 30)
    return climbed, log.read_text().split()


def test_p6_a_router_that_says_so_is_halted_and_nothing_more_is_done(tmp_path: Path) -> None:
    climbed, asked = press(tmp_path)
    assert (climbed.end, asked) == (End.HALTED, ["quiesce"])


@pytest.mark.parametrize(
    "quiesce",
    [
        ACTIVE,
        ["halt none", "latched yes"],
        ["halt -", "latched yes"],
        ["halt bm9ib2R5IGFuc3dlcnM=", "latched yes"],
        [*HALTED, "stray 4711"],
        ["latched yes"],
        "refuse",
        "die",
    ],
    ids=str,
)
def test_p6_whatever_is_less_than_halted_is_fenced_and_killed(
    tmp_path: Path, quiesce: object
) -> None:
    climbed, asked = press(tmp_path, quiesce=quiesce)
    assert (climbed.end, asked) == (End.DEAD, ["quiesce", "fence", "kill", "look"])


@pytest.mark.usefixtures("swift")
def test_p6_a_host_that_hangs_on_a_rung_is_told_the_next_over_another_line(tmp_path: Path) -> None:
    climbed, asked = press(tmp_path, quiesce="hang", fence="hang")
    assert (climbed.end, asked) == (End.DEAD, ["quiesce", "fence", "kill", "look"])
    assert [step.event for step in climbed.steps[:2]] == [Event.LATE, Event.LATE]


@pytest.mark.usefixtures("swift")
def test_p6_a_host_that_never_says_a_word_is_out_of_reach(tmp_path: Path) -> None:
    climbed, _ = press(tmp_path, quiesce="mute")
    assert climbed.end is End.OUT_OF_REACH
    assert [step.rung for step in climbed.steps] == [Rung.QUIESCE, Rung.AGAIN]


def test_p6_what_survives_is_not_called_dead(tmp_path: Path) -> None:
    climbed, asked = press(tmp_path, quiesce=ACTIVE, look=["alive 4711", "open 7001"])
    assert climbed.end is End.NOT_SHOWN
    assert asked == ["quiesce", "fence", "kill", "look", "kill", "look"]
    assert "4711" in climbed.steps[-1].text


def test_p6_an_open_port_is_not_dead(tmp_path: Path) -> None:
    assert press(tmp_path, quiesce=ACTIVE, look=["open 7001"])[0].end is End.NOT_SHOWN


def test_p6_dead_and_not_fenced_is_not_stopped(tmp_path: Path) -> None:
    climbed, _ = press(tmp_path, quiesce=ACTIVE, fence=["masked no", "fenced no"])
    assert climbed.end is End.DEAD
    assert not rules.stopped(climbed)


@pytest.mark.parametrize("rung", ["quiesce", "fence", "kill"])
def test_p6_a_host_that_says_one_thing_twice_keeps_no_other_from_stopping(
    tmp_path: Path, rung: str
) -> None:
    twice = ["halt e30=", "halt e30=", "latched yes", "latched no", *FENCED, *FENCED]
    climbed, asked = press(tmp_path, **{"quiesce": ACTIVE, rung: [*twice, "killed 1", "killed 2"]})
    assert (climbed.end, asked) == (End.DEAD, ["quiesce", "fence", "kill", "look"])
    assert stopped(climbed) is (rung != "fence"), "two words about the fence are none"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("fence", ["hang", "die", "refuse", []])
def test_p6_dead_and_nobody_knows_whether_it_is_fenced_is_not_stopped(
    tmp_path: Path, fence: object
) -> None:
    climbed, _ = press(tmp_path, quiesce=ACTIVE, fence=fence)
    assert (climbed.end, stopped(climbed)) == (End.DEAD, False)
    climbed, _ = press(tmp_path, quiesce=ACTIVE, fence=fence, look=[*EMPTY, "fenced "])
    assert (climbed.end, stopped(climbed)) == (End.DEAD, True), "the host shows it at last"


def test_a_client_that_is_not_there_is_a_host_out_of_reach() -> None:
    order = Order("me@here", "runaway", "ab", time.time())
    gone = [Target("a", ("/no/such/client",)), Target("b", ("/bin/false",))]
    ended = climb_all(gone, order, ends=time.monotonic() + 10)
    assert {one.end for one in ended} == {End.OUT_OF_REACH}


@pytest.mark.usefixtures("swift")
def test_p6_one_host_that_hangs_delays_no_other(tmp_path: Path) -> None:
    script = tmp_path / "helper.py"
    script.write_text(HELPER)
    log = tmp_path / "log"
    good = f'{{"quiesce": {HALTED!s}, "log": "{log}"}}'.replace("'", '"')
    bad = f'{{"quiesce": "mute", "log": "{log}"}}'
    targets = [
        Target(f"router{n}", (sys.executable, "-I", str(script), bad if n == 1 else good))
        for n in range(1, 5)
    ]
    order = Order("me@here", "runaway", "ab", time.time())
    ended = {one.host: one for one in climb_all(targets, order, ends=time.monotonic() + 30)}
    assert ended["router1"].end is End.OUT_OF_REACH
    others = [one for host, one in ended.items() if host != "router1"]
    assert all(one.end is End.HALTED for one in others)
    assert max(one.at_s for one in others) < ended["router1"].at_s


@pytest.mark.parametrize(
    ("text", "said"),
    [("runaway orders", "runaway+orders"), ("a/b; $(reboot)\n", "a+b+reboot"), ("", "none")],
)
def test_a_reason_has_the_alphabet_of_requests(text: str, said: str) -> None:
    assert in_words(text) == said
