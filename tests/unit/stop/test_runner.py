"""Whatever is wrong on the operator's side, hosts are told, and nothing is claimed (P6)."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.requests import Answer
from deploytool.cli import stopnow
from deploytool.fleet.protocol import Reply
from deploytool.stop import escalation, runner
from deploytool.stop.model import Event, Rung
from deploytool.stop.silence import WATCH_AT_MOST_S

from .bad import ACTIVE, TWICE, UNCOUNTED, halted
from .conftest import HOSTS, Keys

pytestmark = pytest.mark.slow


def all_halted(keys: Keys) -> bool:
    return all(keys.told(host) == ["halt"] for host in HOSTS)


def test_it_ends_with_0_where_all_stopped_and_the_silence_was_seen(keys: Keys) -> None:
    ended = keys.press()
    assert ended.code == 0, ended
    assert set(ended.ends.values()) == {"HALTED"}
    assert all(row["silent"] for row in ended.document["hosts"])


# --- words ----------------------------------------------------------------------------------------


def test_p6_a_name_that_nobody_has_keeps_nobody_else_from_being_stopped(keys: Keys) -> None:
    ended = keys.press("--host", "router1", "--host", "rotuer2", "--host", "router3")
    assert ended.code == 6
    assert ended.ends == {"router1": "HALTED", "router3": "HALTED"}
    assert ended.document["unknown"] == ["rotuer2"]
    assert "rotuer2" in ended.document["what"]
    assert keys.told("router2") == []


def test_p6_only_names_that_nobody_has_are_an_error(keys: Keys) -> None:
    ended = keys.press("--host", "rotuer1")
    assert ended.code == 2
    assert ended.document["means"] == "NOTHING WAS STOPPED."
    assert not any(keys.told(host) for host in HOSTS)


def test_p6_a_host_that_is_named_twice_is_told_once(keys: Keys) -> None:
    ended = keys.press("--host", "router1", "--host", "router1")
    assert (ended.code, ended.ends) == (0, {"router1": "HALTED"})
    assert keys.told("router1") == ["halt"]


# --- this machine ---------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_p6_closed_streams_stop_nothing(keys: Keys, closed: str) -> None:
    keys.declare()
    ended = keys.press(begin=("sh", "-c", f'exec "$@" {closed}', "sh"))
    assert ended.code == 6, "nobody saw the silence"
    assert all_halted(keys)


def test_p6_a_machine_out_of_descriptors_uses_all_that_it_may(keys: Keys) -> None:
    ended = keys.press(begin=("sh", "-c", 'ulimit -S -n 12; exec "$@"', "sh"))
    assert ended.code == 0, ended


def test_p6_a_folder_that_is_gone_stops_nothing(keys: Keys) -> None:
    gone = keys.folder / "gone"
    gone.mkdir()
    ended = keys.press(begin=("sh", "-c", f'rmdir {gone}; exec "$@"', "sh"), cwd=gone)
    assert ended.code == 0, ended


def test_p6_a_reason_in_no_alphabet_stops_nothing(keys: Keys) -> None:
    ended = keys.press("--all", "--reason", os.fsdecode(b"\xff\xfe under\nattack"))
    assert ended.code == 0, ended


def test_p6_a_terminal_that_hangs_up_leaves_no_host_on_the_ladder(keys: Keys) -> None:
    keys.says("router1", 1, halt=ACTIVE, fence="slow")
    process = keys.pressed()
    until = time.monotonic() + 20
    while "fence" not in keys.told("router1"):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert keys.told("router1") == ["halt", "fence", "kill", "look"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_breaks_it_off_is_told_what_is_left(keys: Keys, number: int) -> None:
    keys.says("router1", 1, halt="mute")
    process = keys.pressed()
    until = time.monotonic() + 20
    while not all(keys.told(host) for host in HOSTS):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "was told to stop" in out


# --- the inventory --------------------------------------------------------------------------------


def test_p6_a_host_whose_entry_is_of_no_use_is_named_and_the_others_are_stopped(
    keys: Keys,
) -> None:
    text = keys.inventory.read_text()
    keys.inventory.write_text(text.replace("address: 192.0.2.2", "adress: 192.0.2.2"))
    ended = keys.press()
    assert ended.code == 6
    assert ended.ends == {"router1": "HALTED", "router2": "OUT OF REACH", "router3": "HALTED"}
    assert "could not be told" in ended.out


def test_p6_both_entries_of_a_host_that_is_declared_twice_are_told(keys: Keys) -> None:
    text = keys.inventory.read_text()
    keys.inventory.write_text(text.replace("  router3:\n", "  router2:\n"))
    ended = keys.press("--host", "router2")
    assert all(keys.told(host) == ["halt"] for host in ("router2", "router3"))
    assert ended.code == 6, "the witness knows one of them only"


def test_p6_a_lease_that_can_t_be_one_names_no_instant(keys: Keys) -> None:
    keys.says("router1", 1, halt="hang", fence="hang", kill="hang", look="hang")
    keys.declare(lease_s=float("inf"))
    (keys.folder / "says" / "192.0.2.1").unlink()  # its client ends at once, as if unreachable
    ended = keys.press("--host", "router1")
    (row,) = ended.document["hosts"]
    assert (ended.code, row["end"], row["lease_end"]) == (6, "OUT OF REACH", None)


def test_p6_the_end_of_a_lease_is_named_before_anybody_else_is_waited_for(keys: Keys) -> None:
    (keys.folder / "says" / "192.0.2.1").unlink()
    keys.says("router2", 2, halt=ACTIVE, fence="slow")
    keys.declare(lease_s=20.0)
    began = time.time()
    process = keys.pressed("--host", "router1", "--host", "router2")
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "router1: OUT OF REACH" in first
    assert "its lease ends by " in first
    assert process.poll() is None, "the other host is still on its ladder"
    out, _ = process.communicate(timeout=30)
    named = [row["lease_end"] for row in json.loads(out)["hosts"] if row["host"] == "router1"]
    assert began + 20 <= named[0] <= time.time() + 20


# --- hosts ----------------------------------------------------------------------------------------


def test_p6_a_host_that_says_things_twice_spoils_nobody_else(keys: Keys) -> None:
    keys.says("router1", 1, halt=TWICE, kill=["killed 1"] * 2)
    ended = keys.press()
    assert ended.code == 0, ended
    assert ended.ends == {"router1": "DEAD", "router2": "HALTED", "router3": "HALTED"}


# --- the witness ----------------------------------------------------------------------------------


def saying(code: str) -> list[str]:
    """A witness that knows the time, and all hosts."""
    known = "import json, time; t = time.time(); h = ['router1', 'router2', 'router3']; "
    return [sys.executable, "-c", f"{known}print(json.dumps({code}))"]


@pytest.mark.parametrize(
    ("witness", "words"),
    [
        ([sys.executable, "-c", "import time; time.sleep(60)"], "did not answer within 0.5 s"),
        (saying("{'taken': 10, 'last_child': dict.fromkeys(h)}"), "may be old"),
        (saying("{'taken': t, 'last_child': dict.fromkeys(h[:1])}"), "router2"),
    ],
    ids=["hangs", "stale", "misses two hosts"],
)
def test_p6_a_witness_of_no_use_is_named_and_waited_for_no_longer_than_it_may(
    keys: Keys, witness: list[str], words: str
) -> None:
    keys.witness(witness, timeout_s=0.5)
    began = time.monotonic()
    ended = keys.press()
    assert time.monotonic() - began < 15
    assert ended.code == 6, ended
    assert set(ended.ends.values()) == {"HALTED"}
    assert words in ended.out


def test_a_witness_that_is_slow_is_asked_twice_all_the_same(keys: Keys) -> None:
    keys.witness(saying("{'taken': t, 'last_child': dict.fromkeys(h), 'x': time.sleep(3.1)}"))
    assert keys.press("--host", "router1").code == 0


def test_a_silence_that_has_begun_is_watched_to_its_end_by_a_slow_witness(keys: Keys) -> None:
    """It takes 2.5 s to answer, and the host's rate asks for 4.9 s."""
    keys.says("router1", 1, halt=halted(children=9, counted_s=60, last_ago_s=1, gap_s=0.35))
    said = saying("{'taken': t, 'last_child': {'router1': t0}, 'x': time.sleep(2.5)}")
    keys.witness([*said[:2], f"{halted_at(keys)}{said[2]}"])
    ended = keys.press("--host", "router1")
    assert ended.code == 0, ended
    assert ended.document["hosts"][0]["watched_s"] >= 4.9


def test_p6_who_does_not_wait_for_the_witness_keeps_the_answer(keys: Keys, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    code = f"import pathlib, time; pathlib.Path({str(asked)!r}).touch(); time.sleep(60)"
    keys.witness([sys.executable, "-c", code], timeout_s=30)
    process = keys.pressed()
    until = time.monotonic() + 20
    while not asked.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 6
    assert "you interrupted it" in out
    assert '"HALTED"' in out


def heard_too(keys: Keys, name: str, at: str, others: list[str]) -> None:
    """A witness that sees the silence of all hosts, and names one more."""
    said = f"{{'taken': t, 'last_child': {{**dict.fromkeys(h), {name!r}: {at}}}}}"
    command = saying(said)
    keys.declare(silence={"command": command, "others": others})


def test_p6_a_sender_that_is_no_host_of_the_fleet_is_named_and_is_no_stop(keys: Keys) -> None:
    heard_too(keys, "OLD-SMARS", "t", [])
    ended = keys.press()
    assert ended.code == 6
    assert set(ended.ends.values()) == {"HALTED"}
    assert "The market heard OLD-SMARS, which is not in this fleet." in ended.document["what"]
    assert "stopped, and seen to be silent" not in ended.out + ended.err
    assert "silence.others" in ended.document["now"]
    assert list(ended.document["strangers"]) == ["OLD-SMARS"]
    one = keys.press("--host", "router1")
    assert (one.code, list(one.document["strangers"])) == (6, ["OLD-SMARS"])


def test_p6_a_sender_of_another_fleet_is_shown_and_not_judged(keys: Keys) -> None:
    heard_too(keys, "OLD-SMARS", "t", ["OLD-SMARS"])
    ended = keys.press()
    assert ended.code == 0, ended
    assert "OLD-SMARS: not judged" in ended.err
    assert ended.document["elsewhere"] == ["OLD-SMARS"]


def test_a_name_that_was_silent_long_before_is_no_sender(keys: Keys) -> None:
    heard_too(keys, "OLD-SMARS", "5", [])
    assert keys.press().code == 0


def test_p6_a_witness_of_another_fleet_shows_nothing(keys: Keys) -> None:
    keys.witness(saying("{'taken': t, 'last_child': {'smars1': 5, 'smars2': None}}"))
    ended = keys.press()
    assert ended.code == 6
    assert "names none of this fleet's hosts (it names smars1, smars2)" in ended.out


def test_p6_a_router_that_can_t_be_asked_for_its_last_order_is_not_called_silent(
    keys: Keys,
) -> None:
    keys.says("router1", 1, halt=UNCOUNTED)
    ended = keys.press("--host", "router1")
    (row,) = ended.document["hosts"]
    assert (ended.code, row["end"], row["silent"]) == (6, "HALTED", False)
    assert row["watched_s"] >= WATCH_AT_MOST_S
    assert "does not say when its own last order left" in ended.document["details"][0]
    assert f"no order of it for {row['watched_s']:.1f} s" in ended.document["details"][0]


def halted_at(keys: Keys) -> str:
    """Code that has in t0 when the first host was told to halt, less a second."""
    return f"import os; t0 = os.path.getmtime({str(keys.folder / 'router1')!r}) - 1; "


def test_p6_a_witness_that_saw_another_last_order_than_the_router_shows_no_silence(
    keys: Keys,
) -> None:
    """It repeats what it knew when the router had sent more since: a drop copy that lags."""
    keys.says("router1", 1, halt=halted(children=9, counted_s=60, last_ago_s=1, gap_s=0.01))
    for at, code in (("t0", 0), ("t0 - 20", 6)):
        said = saying(f"{{'taken': t, 'last_child': {{'router1': {at}}}}}")
        keys.witness([*said[:2], f"{halted_at(keys)}{said[2]}"])
        ended = keys.press("--host", "router1")
        assert ended.code == code, ended


# --- bugs of ours ---------------------------------------------------------------------------------


@pytest.fixture
def in_here(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], tuple[int, dict[str, Any]]]:
    """Presses the key in this very process, whose parts can be broken; what it printed, and why."""
    words = ["-i", str(keys.inventory), "--all", "--json"]
    monkeypatch.setattr(stopnow, "_hold_on", lambda: None)
    monkeypatch.setattr(sys, "argv", ["deploytool", "stop", *words])
    monkeypatch.setenv("PATH", f"{keys.folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(keys.folder))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def press() -> tuple[int, dict[str, Any]]:
        code = stopnow.run(words)
        return code, json.loads(capsys.readouterr().out)

    return press


def breaks(*_arguments: object, **_named: object) -> Any:
    raise LookupError("a bug")


InHere = Callable[[], tuple[int, dict[str, Any]]]


@pytest.mark.parametrize(
    ("part", "means"),
    [
        ("_witness", "All 3 say that they stopped"),
        ("make_row", "All 3 say that they stopped"),
        ("read_targets", "Whether any host was stopped is not known"),
    ],
)
def test_p6_what_breaks_behind_the_ladder_names_whom_it_leaves_open(
    keys: Keys, in_here: InHere, monkeypatch: pytest.MonkeyPatch, part: str, means: str
) -> None:
    monkeypatch.setattr(runner, part, breaks)
    code, said = in_here()
    assert code == said["exit"] == 6
    assert "LookupError: a bug" in said["what"]
    assert said["means"].startswith(means)
    (report,) = keys.folder.glob("deploytool-bug-*.txt")
    assert str(report) in said["now"]
    assert "Traceback" in report.read_text()


def test_p6_what_can_t_be_said_of_a_host_leaves_no_other_on_its_ladder(
    keys: Keys, in_here: InHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    (keys.folder / "says" / "192.0.2.1").unlink()  # out of reach: the end of its lease is named
    keys.says("router2", 2, halt=ACTIVE, fence="slow", look=["alive 7"])
    keys.says("router3", 3, halt=ACTIVE, fence="slow")
    monkeypatch.setattr(runner, "lease_end", breaks)
    code, said = in_here()
    assert code == 6
    assert "NOT shown to have stopped: router1, router2." in said["means"]
    assert said["unended"] == ["router1", "router2"]
    assert keys.told("router3") == ["halt", "fence", "kill", "look"]
    assert "router3: DEAD" in said["details"]


def test_p6_a_bug_that_meets_one_host_stands_in_its_row_alone(
    keys: Keys, in_here: InHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.says("router2", 2, halt=ACTIVE)
    keys.says("router3", 3, halt=ACTIVE, fence="slow")
    whole = escalation.event_of

    def event_of(rung: Rung, reply: Reply | Answer) -> tuple[Event, str]:
        odd = isinstance(reply, Reply) and rung is Rung.FENCE and reply.one("masked")
        return breaks() if odd else whole(rung, reply)

    monkeypatch.setattr(escalation, "event_of", event_of)
    code, said = in_here()
    ends = {row["host"]: (row["end"], row["how"]) for row in said["hosts"]}
    assert code == 6
    assert ends["router1"][0] == "HALTED"
    assert ends["router2"] == ("NOT SHOWN", "a bug of deploytool: LookupError('a bug')")
    assert ends["router3"][0] == "DEAD"


def test_p6_a_watch_whose_answer_breaks_us_is_gone_past(
    keys: Keys, in_here: InHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopnow, "ask", breaks)
    code, said = in_here()
    assert (code, [row["end"] for row in said["hosts"]]) == (0, ["HALTED"] * 3)
    assert "LookupError" in said["trouble"][0]
    assert all_halted(keys)
