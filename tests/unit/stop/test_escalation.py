"""The ladder against helpers of every bad kind: real processes, on real pipes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from deploytool.stop import escalation, table
from deploytool.stop.escalation import escalate_all, in_words
from deploytool.stop.model import End, Event, HostOutcome, Rung, StopRequest
from deploytool.stop.table import stopped
from deploytool.stop.targets import Target

from .bad import ACTIVE, AGENT, EMPTY, FENCED, HALTED, KILLED, TWICE, says

pytestmark = pytest.mark.slow


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a fifth: a helper that hangs hangs for ever anyway."""
    monkeypatch.setattr(escalation, "DEADLINE_S", {k: v / 5 for k, v in table.DEADLINE_S.items()})
    monkeypatch.setattr(escalation, "FIRST_WORD_S", 1.0)
    monkeypatch.setattr(escalation, "CONNECT_S", 1.0)


def press(tmp_path: Path, **says: object) -> tuple[HostOutcome, list[str]]:
    script, log = tmp_path / "helper.py", tmp_path / "log"
    script.write_text(AGENT)
    log.touch()
    usual: dict[str, object] = {
        "halt": HALTED,
        "fence": FENCED,
        "kill": KILLED,
        "look": EMPTY,
        "only": "",
    }
    usual |= says
    only = str(usual.pop("only"))
    said = json.dumps({**usual, "log": str(log)})
    target = Target("router1", (sys.executable, "-I", str(script), said))
    order = StopRequest("me@here", "runaway", "ab", time.time(), only)
    (climbed,) = escalate_all([target], order, ends=time.monotonic() + 30)
    return climbed, log.read_text().split()


def test_p6_a_router_that_says_so_is_halted_and_nothing_more_is_done(tmp_path: Path) -> None:
    climbed, asked = press(tmp_path)
    assert (climbed.end, asked) == (End.HALTED, ["halt"])


@pytest.mark.parametrize(
    "halt",
    [
        HALTED,
        says({"trading_state": "HALTED"}),
        says({"trading_state": "HALTED", "latch": "ab", "on_disk": True}, synced=False),
        says({"trading_state": "HALTED", "latch": "ab", "on_disk": True}, latched=False),
    ],
    ids=str,
)
def test_p6_halted_needs_a_latch_on_disk_the_host_s_or_the_artifact_s(
    tmp_path: Path, halt: object
) -> None:
    climbed, asked = press(tmp_path, halt=halt)
    assert (climbed.end, asked) == (End.HALTED, ["halt"])


HALT_SAID: dict[str, object] = {"trading_state": "HALTED"}


@pytest.mark.parametrize(
    "halt",
    [
        ACTIVE,
        {"latched": True},
        says(""),
        says("nobody answers"),
        says(HALT_SAID | {"latch": "ab"}, code=1),
        says(HALT_SAID | {"latch": "ab"}, code=None),
        says(HALT_SAID, strays=[{"pid": 4711, "role": "acts", "ways": ["executes"]}]),
        says(HALT_SAID, strays=[{"pid": 4711, "role": "unseen"}]),
        says(HALT_SAID | {"on_disk": False}),
        TWICE,
        {},
        {"odd": 1},
        "no JSON",
        says(HALT_SAID, latched="yes"),
        says(HALT_SAID, latched=False),
        says(HALT_SAID | {"latch": "ab"}, synced=False),
        says(HALT_SAID | {"on_disk": True}, latched=False),
        says(HALT_SAID | {"on_disk": True, "latch": ""}, latched=False),
        says(HALT_SAID | {"on_disk": True, "latch": None}, latched=False),
        says(HALT_SAID | {"on_disk": "yes", "latch": "ab"}, latched=False),
        "refuse",
        "die",
    ],
    ids=str,
)
def test_p6_whatever_is_less_than_halted_is_fenced_and_killed(tmp_path: Path, halt: object) -> None:
    climbed, asked = press(tmp_path, halt=halt)
    assert (climbed.end, asked) == (End.DEAD, ["halt", "fence", "kill", "look"])


def test_p6_a_host_of_deploytool_0_1_0_is_fenced_and_killed(tmp_path: Path) -> None:
    climbed, asked = press(tmp_path, old=True)
    assert (climbed.end, asked) == (End.DEAD, ["fence", "kill", "look"])
    assert "0.1.0" in climbed.steps[0].text


@pytest.mark.usefixtures("swift")
def test_p6_a_host_that_hangs_on_a_rung_is_told_the_next_over_another_line(tmp_path: Path) -> None:
    climbed, asked = press(tmp_path, halt="hang", fence="hang")
    assert (climbed.end, asked) == (End.DEAD, ["halt", "fence", "kill", "look"])
    assert [step.event for step in climbed.steps[:2]] == [Event.LATE, Event.LATE]


@pytest.mark.parametrize("code", [0, 1, 137])
def test_p6_a_host_whose_python_dies_without_a_word_is_fenced_and_killed(
    tmp_path: Path, code: int
) -> None:
    climbed, asked = press(tmp_path, halt="arrived, dies", code=code)
    assert (climbed.end, asked) == (End.DEAD, ["halt", "fence", "kill", "look"])
    assert climbed.steps[0].event is Event.LOST
    assert "0.1.0" not in climbed.steps[0].text


def test_p6_a_host_whose_python_hangs_is_fenced_and_killed_after_the_stated_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(escalation, "FIRST_WORD_S", 1000.0)
    monkeypatch.setattr(escalation, "ANSWERS_S", 0.4)
    climbed, asked = press(tmp_path, halt="arrived")
    assert (climbed.end, asked) == (End.DEAD, ["halt", "fence", "kill", "look"])
    assert climbed.steps[0].event is Event.LATE
    assert "its agent did not answer within" in climbed.steps[0].text


def test_p6_a_slow_agent_of_a_host_that_is_slow_to_let_us_in_is_not_raced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has at least as long as it took to get there: then the host is slow, not broken."""
    monkeypatch.setattr(escalation, "ANSWERS_S", 0.0)
    slow = {"halt": "arrived, late", "before_s": 2.0, "late_s": 0.5, "then": HALTED}
    climbed, asked = press(tmp_path, **slow)
    assert (climbed.end, asked) == (End.HALTED, ["halt"])


def test_p6_a_halt_that_was_acknowledged_keeps_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(escalation, "ANSWERS_S", 0.0)
    monkeypatch.setattr(escalation, "FIRST_WORD_S", 1000.0)
    climbed, asked = press(tmp_path, halt="begun, late", late_s=1.0, then=HALTED)
    assert (climbed.end, asked) == (End.HALTED, ["halt"])


@pytest.mark.usefixtures("swift")
def test_p6_a_host_that_never_says_a_word_is_out_of_reach(tmp_path: Path) -> None:
    climbed, _ = press(tmp_path, halt="mute")
    assert climbed.end is End.OUT_OF_REACH
    assert [step.rung for step in climbed.steps] == [Rung.QUIESCE, Rung.AGAIN]


@pytest.mark.parametrize(
    "look",
    [[*EMPTY, "alive"], ["open 7001", "open 7001"], ["latched no", "latched no"], "refuse"],
    ids=str,
)
def test_p6_a_look_that_is_odd_shows_nothing(tmp_path: Path, look: object) -> None:
    climbed, _ = press(tmp_path, halt=ACTIVE, fence=[*FENCED, *FENCED], look=look)
    assert climbed.end is End.NOT_SHOWN


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("survey", ["hang", "die", "refuse", "no JSON", {"odd": 1}], ids=str)
def test_p6_an_agent_that_can_t_look_leaves_that_to_the_shell(
    tmp_path: Path, survey: object
) -> None:
    climbed, asked = press(tmp_path, halt=ACTIVE, survey=survey)
    assert (climbed.end, stopped(climbed)) == (End.DEAD, True)
    assert asked == ["halt", "fence", "kill", "look", "look"]


def test_p6_strays_that_the_shell_does_not_find_are_ended_by_the_agent(tmp_path: Path) -> None:
    stray = {"pid": 7, "parent": 1, "start": 1, "state": "S", "account": 0, "command": "x"}
    acts = {"pid": 7, "role": "acts", "ways": ["venue"], "detail": "192.0.2.9:1"}
    survey = {"survey": {"alive": [stray], "others": [acts], "fenced": True}}
    climbed, asked = press(tmp_path, halt=ACTIVE, survey=survey)
    assert (climbed.end, climbed.steps[-1].text) == (End.NOT_SHOWN, "process 7")
    assert asked == ["halt", "fence", "kill", "look", "kill", "look"]
    assert climbed.steps[-2].text == "1 processes killed", "by the agent"


def test_p6_what_survives_is_not_called_dead(tmp_path: Path) -> None:
    climbed, asked = press(tmp_path, halt=ACTIVE, look=["alive 4711", "open 7001"])
    assert climbed.end is End.NOT_SHOWN
    assert asked == ["halt", "fence", "kill", "look", "kill", "look"]
    assert "4711" in climbed.steps[-1].text


def test_p6_an_open_port_is_not_dead(tmp_path: Path) -> None:
    assert press(tmp_path, halt=ACTIVE, look=["open 7001"])[0].end is End.NOT_SHOWN


def test_p6_dead_and_not_fenced_is_not_stopped(tmp_path: Path) -> None:
    climbed, _ = press(tmp_path, halt=ACTIVE, fence=["masked no", "fenced no"])
    assert climbed.end is End.DEAD
    assert not table.stopped(climbed)


@pytest.mark.parametrize("rung", ["halt", "fence", "kill"])
def test_p6_a_host_that_says_one_thing_twice_keeps_no_other_from_stopping(
    tmp_path: Path, rung: str
) -> None:
    twice = ["halt e30=", "halt e30=", "latched yes", "latched no", *FENCED, *FENCED]
    climbed, asked = press(tmp_path, **{"halt": ACTIVE, rung: [*twice, "killed 1", "killed 2"]})
    assert (climbed.end, asked) == (End.DEAD, ["halt", "fence", "kill", "look"])
    assert stopped(climbed) is (rung != "fence"), "two words about the fence are none"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("fence", ["hang", "die", "refuse", []])
def test_p6_dead_and_nobody_knows_whether_it_is_fenced_is_not_stopped(
    tmp_path: Path, fence: object
) -> None:
    climbed, _ = press(tmp_path, halt=ACTIVE, fence=fence)
    assert (climbed.end, stopped(climbed)) == (End.DEAD, False)
    climbed, _ = press(tmp_path, halt=ACTIVE, fence=fence, look=[*EMPTY, "fenced "])
    assert (climbed.end, stopped(climbed)) == (End.DEAD, True), "the host shows it at last"


def test_a_client_that_is_not_there_is_a_host_out_of_reach() -> None:
    order = StopRequest("me@here", "runaway", "ab", time.time())
    gone = [Target("a", ("/no/such/client",)), Target("b", ("/bin/false",))]
    ended = escalate_all(gone, order, ends=time.monotonic() + 10)
    assert {one.end for one in ended} == {End.OUT_OF_REACH}


@pytest.mark.usefixtures("swift")
def test_p6_one_host_that_hangs_delays_no_other(tmp_path: Path) -> None:
    script = tmp_path / "helper.py"
    script.write_text(AGENT)
    log = tmp_path / "log"
    good, bad = (json.dumps({"halt": said, "log": str(log)}) for said in (HALTED, "mute"))
    targets = [
        Target(f"router{n}", (sys.executable, "-I", str(script), bad if n == 1 else good))
        for n in range(1, 5)
    ]
    order = StopRequest("me@here", "runaway", "ab", time.time())
    ended = {one.host: one for one in escalate_all(targets, order, ends=time.monotonic() + 30)}
    assert ended["router1"].end is End.OUT_OF_REACH
    others = [one for host, one in ended.items() if host != "router1"]
    assert all(one.end is End.HALTED for one in others)
    assert max(one.at_s for one in others) < ended["router1"].at_s


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("flood", ["flood", "flood beside"])
def test_p6_one_host_that_floods_us_delays_no_other(tmp_path: Path, flood: str) -> None:
    script, log = tmp_path / "helper.py", tmp_path / "log"
    script.write_text(AGENT)
    good, bad = (json.dumps({"halt": said, "log": str(log)}) for said in (HALTED, flood))
    targets = [
        Target(f"router{n}", (sys.executable, "-I", str(script), bad if n == 1 else good))
        for n in range(1, 4)
    ]
    order = StopRequest("me@here", "runaway", "ab", time.time())
    began = time.monotonic()
    ended = {one.host: one for one in escalate_all(targets, order, ends=time.monotonic() + 20)}
    assert time.monotonic() - began < 10
    assert ended["router1"].end is End.OUT_OF_REACH
    assert all(ended[host].end is End.HALTED for host in ("router2", "router3"))
    assert max(ended[host].at_s for host in ("router2", "router3")) < ended["router1"].at_s


BROKEN = """
import sys
if "-F" in sys.argv:
    exec(open(sys.argv[sys.argv.index("-F") + 2]).read())
print("/home/me/.ssh/config: terminating, 1 bad configuration options", file=sys.stderr)
sys.exit(255)
"""


def test_p6_a_person_s_own_broken_ssh_configuration_is_gone_around(tmp_path: Path) -> None:
    script, log = tmp_path / "helper.py", tmp_path / "log"
    script.write_text(AGENT)
    said = json.dumps({"halt": HALTED, "log": str(log)})
    argv = (sys.executable, "-I", "-c", BROKEN, said)
    order = StopRequest("me@here", "runaway", "ab", time.time())

    def end(spare: tuple[str, ...]) -> End:
        target = Target("router1", argv, spare)
        return escalate_all([target], order, ends=time.monotonic() + 20)[0].end

    assert end((*argv, "-F", "none", str(script))) is End.HALTED
    assert end(()) is End.OUT_OF_REACH


@pytest.mark.usefixtures("swift")
def test_p6_an_agent_that_never_answers_is_gone_around(tmp_path: Path) -> None:
    script, log = tmp_path / "helper.py", tmp_path / "log"
    script.write_text(AGENT)
    mute, good = (json.dumps({"halt": said, "log": str(log)}) for said in ("mute", HALTED))
    argv = (sys.executable, "-I", str(script))
    order = StopRequest("me@here", "runaway", "ab", time.time())
    target = Target("router1", (*argv, mute), (*argv, good))
    assert escalate_all([target], order, ends=time.monotonic() + 20)[0].end is End.HALTED


def test_p6_a_host_that_was_named_twice_comes_to_an_end_twice(tmp_path: Path) -> None:
    script, log = tmp_path / "helper.py", tmp_path / "log"
    script.write_text(AGENT)
    good = json.dumps({"halt": HALTED, "log": str(log)})
    target = Target("router1", (sys.executable, "-I", str(script), good))
    order = StopRequest("me@here", "runaway", "ab", time.time())
    ended = escalate_all([target, target], order, ends=time.monotonic() + 20)
    assert [one.end for one in ended] == [End.HALTED, End.HALTED]


@pytest.mark.parametrize(
    ("text", "said"),
    [("runaway orders", "runaway+orders"), ("a/b; $(reboot)\n", "a+b+reboot"), ("", "none")],
)
def test_a_reason_has_the_alphabet_of_requests(text: str, said: str) -> None:
    assert in_words(text) == said


LATCHED = "halted latch ab by me@here reason runaway since 1"


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize(
    ("fence", "look", "guarded"),
    [
        (["masked yes", "fenced no"], [], False),
        (["masked yes"], [], False),
        (["masked yes", "fenced no"], [LATCHED.replace("ab", "cd")], False),
        (["masked yes", "fenced no"], [LATCHED.replace("ab", "abc")], False),
        (["masked runtime", "fenced no"], [LATCHED], False),
        (["masked no", "fenced no"], [LATCHED], False),
        (["fenced no"], [LATCHED], False),
        (["masked yes", "fenced no"], [LATCHED], True),
        (["masked no", "fenced unsynced"], [], True),
        (["masked no", "fenced yes"], [], True),
        (["masked no", "fenced no"], [LATCHED, "fenced"], True),
    ],
    ids=str,
)
def test_p6_a_mask_that_a_deployment_may_lift_is_no_fence(
    tmp_path: Path, fence: list[str], look: list[str], guarded: bool
) -> None:
    climbed, _ = press(tmp_path, halt=ACTIVE, fence=fence, look=look)
    assert (climbed.end, stopped(climbed)) == (End.DEAD, guarded)
    assert any(note.startswith(table.UNGUARDED) for note in climbed.notes) is not guarded


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize(
    ("halt", "only", "known"),
    [
        ("hang", "7d29364f", False),
        ("die", "7d29364f", False),
        ("refuse", "7d29364f", False),
        ("hang", "", True),
        (ACTIVE, "7d29364f", True),
    ],
    ids=str,
)
def test_what_was_stopped_without_having_said_what_it_runs_says_so(
    tmp_path: Path, halt: object, only: str, known: bool
) -> None:
    verb = "halt_release" if only else "halt"
    climbed, asked = press(tmp_path, only=only, **{verb: halt})
    assert (climbed.end, stopped(climbed)) == (End.DEAD, True), "in doubt it is stopped"
    assert asked == [verb, "fence", "kill", "look"]
    assert ("its release was not known" in climbed.notes) is not known


CROWDED = """
n=$(ls "$1" | wc -l)
if [ "$n" -lt "$2" ]; then touch "$1/$n"; printf '%s\n' "$3" >&2; exit 255; fi
shift 3
exec "$@"
"""
AT_JUMP = (
    "kex_exchange_identification: read: Connection reset by peer\n"
    "Connection reset by 192.0.2.1 port 22\n"
    "kex_exchange_identification: Connection closed by remote host\n"
    "Connection closed by UNKNOWN port 65535"
)


def crowded(tmp_path: Path, said: str, times: int) -> tuple[HostOutcome, int]:
    """What becomes of a host whose first logins end with these words; and how many there were."""
    script, log, tries = tmp_path / "helper.py", tmp_path / "log", tmp_path / "tries"
    script.write_text(AGENT)
    tries.mkdir()
    good = json.dumps({"halt": HALTED, "log": str(log)})
    agent = (sys.executable, "-I", str(script), good)
    target = Target("router1", ("sh", "-c", CROWDED, "sh", str(tries), str(times), said, *agent))
    order = StopRequest("me@here", "runaway", "ab", time.time())
    (ended,) = escalate_all([target], order, ends=time.monotonic() + 20)
    return ended, len(list(tries.iterdir()))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escalation, "_TURNED_AWAY_S", (0.01,) * 6)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("said", [AT_JUMP.splitlines()[0], AT_JUMP])
def test_p6_a_host_that_has_no_room_for_one_more_login_is_tried_again(
    tmp_path: Path, said: str
) -> None:
    ended, tries = crowded(tmp_path, said, 4)
    assert (ended.end, tries) == (End.HALTED, 4)


@pytest.mark.usefixtures("impatient")
def test_p6_a_host_that_always_hangs_up_is_out_of_reach_and_its_limit_is_named(
    tmp_path: Path,
) -> None:
    ended, _ = crowded(tmp_path, AT_JUMP, 1000)
    assert ended.end is End.OUT_OF_REACH
    assert "MaxStartups" in ended.steps[-1].text


def test_p6_a_jump_host_whose_key_is_refused_is_not_taken_for_a_crowded_one(
    tmp_path: Path,
) -> None:
    ended, tries = crowded(tmp_path, f"Host key verification failed.\n{AT_JUMP}", 1000)
    assert (ended.end, tries) == (End.OUT_OF_REACH, 2), "the first knock, and the second"
