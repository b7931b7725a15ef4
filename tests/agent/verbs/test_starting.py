"""Resume: two people let a stopped host in, for the stop that holds; a later stop wins (P6)."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent import marks
from deploytool.agent.linux.files import LinuxFiles
from deploytool.agent.model import Asked, Latch, Released
from deploytool.agent.record import Malformed
from deploytool.agent.requests import Halt, LetIn, Probe, Resume, Resumed
from deploytool.agent.verbs.starting import SignedStart, is_of, objection, parse_signed
from deploytool.simulation.memory.commands import MemoryCommands
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import Points, SentBytes, killed, loses_power
from deploytool.simulation.memory.run import Run, RunEnded
from deploytool.simulation.memory.service import MemorySystemd
from deploytool.simulation.memory.signing import sign

from .ground import ONE, SHA, Ground

NAMESPACE = "start.deploytool"
FIRST = Latch(latch="ab12", by="me@here", reason="runaway orders", since=1)
SECOND = Latch(latch="cd34", by="you@there", reason="again", since=2)


def text_of(latch: Latch) -> str:
    return marks.text_of(latch)


class Stopped:
    """A host that was deployed and stopped, and what a second person signed for that stop."""

    def __init__(self, ground: Ground, *, fenced: bool = True, resume: bool = True) -> None:
        self.ground = ground
        if ground.serves is None:
            ground.deploy(ONE)
        self.stop(FIRST, fenced=fenced)
        if not resume:
            ground.change(resume=None)

    def stop(self, latch: Latch, *, fenced: bool) -> None:
        """A stop, as its verbs do it: the latch first, then the artifact, then the fence."""
        ground, service = self.ground, self.ground.host.service
        ground.write("halted", text_of(latch))
        mind = service.speaker()
        if mind is not None:
            mind.halted = True
        path = f"{ground.root}/state/service/halted"
        if ground.host.computer.find(path) is None:
            ground.host.computer.put(path, b"own-1\n")
        ground.write("halted", text_of(latch.but(artifact="own-1")))
        if fenced:
            ground.write("fenced")
            if isinstance(service, MemorySystemd):
                service.mask()
            service.stop()

    @property
    def said(self) -> dict[str, Any]:
        now = int(self.ground.host.computer.clock)
        return {
            "by": "bob@example.com",
            "expires": now + 600,
            "fleet": "simulated",
            "host": "router1",
            "issued": now,
            "latch": "own-1",
            "reason": "fixed",
            "stop": "ab12",
        }

    def signed(self, signer: str = "ann@example.com", **changes: Any) -> bytes:
        said = {**self.said, **changes}
        line = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
        return line.encode() + sign(signer, line.encode(), NAMESPACE).encode()

    def resume(self, content: bytes | None = None, latch: str | None = "ab12", **how: Any) -> Any:
        content = self.signed() if content is None else content
        return self.ground.done(Resume(latch=latch, size=len(content)), content, **how)

    def refused(self, content: bytes | None = None, latch: str | None = "ab12", **how: Any) -> str:
        content = self.signed() if content is None else content
        return self.ground.refused(Resume(latch=latch, size=len(content)), content, **how)

    @property
    def trades(self) -> bool:
        """Whether a process of the service runs that is not halted."""
        service = self.ground.host.service
        computer = self.ground.host.computer
        return any(computer.alive(task) and not m.halted for task, m in service.minds.items())


@pytest.fixture(params=[True, False], ids=["fenced", "halted"])
def stopped(request: pytest.FixtureRequest, ground: Ground) -> Stopped:
    return Stopped(ground, fenced=request.param)


@pytest.fixture
def fenced(ground: Ground) -> Stopped:
    return Stopped(ground)


def test_p6_a_stopped_host_is_let_in(stopped: Stopped) -> None:
    answer = stopped.resume()
    assert isinstance(answer, Resumed)
    assert answer.released
    assert answer.said is not None
    assert stopped.ground.serves == ONE.release
    assert stopped.trades
    for name in ("halted", "fenced", "meant"):
        assert stopped.ground.mark(name) is None
    assert not [n for n in stopped.ground.names("state") if n.startswith(".")]


def test_an_artifact_that_can_t_resume_is_let_in_by_two_people(ground: Ground) -> None:
    stopped = Stopped(ground, resume=False)
    assert stopped.refused(stopped.signed("bob@example.com")) == "not-signed"
    answer = stopped.resume()
    assert (answer.released, answer.said) == (True, None)


def test_a_host_without_signers_is_let_in_by_who_may_log_in(ground: Ground) -> None:
    stopped = Stopped(ground, resume=False)
    ground.change(signers=None)
    assert stopped.resume(stopped.signed("stranger")).released


@pytest.mark.parametrize("fenced", [True, False])
def test_p6_a_start_that_was_interrupted_starts_what_is_not_there(
    ground: Ground, *, fenced: bool
) -> None:
    """Its fence may be gone, and the service not started."""
    stopped = Stopped(ground)
    if not fenced:
        ground.host.computer.remove(f"{ground.host.service.root}/state/fenced")
    assert stopped.resume().released
    assert ground.serves == ONE.release


BY_ROOT = LetIn(by="root@router1", reason="nobody can sign")


def test_p6_root_lets_a_host_in_where_nobody_can_sign_and_that_is_written_down(
    stopped: Stopped,
) -> None:
    ground = stopped.ground
    assert ground.refused(BY_ROOT) == "signers", "where somebody can, two people do"
    ground.change(signers=None)
    answer = ground.done(BY_ROOT)
    assert isinstance(answer, Resumed)
    assert answer.released
    assert ground.serves == ONE.release
    for name in ("halted", "fenced", "meant"):
        assert ground.mark(name) is None
    assert "by root@router1 latch ab12 reason nobody can sign" in str(ground.mark("let-in"))
    assert ground.refused(BY_ROOT) == "not-halted"


def test_p6_a_stop_that_comes_while_root_lets_a_host_in_holds(ground: Ground) -> None:
    stopped = Stopped(ground)
    ground.change(signers=None)
    again = marks.text_of(Latch(latch="cd34", by="you", reason="again", since=2))

    def hook(run: Run, what: str) -> None:
        if what in {"unmask", "remove fenced"}:
            run.computer.put(f"{ground.host.service.root}/state/halted", again.encode())

    assert ground.refused(BY_ROOT, hook=hook) == "other-latch"
    assert "cd34" in str(ground.mark("halted"))
    assert stopped.ground.mark("fenced") is not None


def test_an_artifact_that_refuses_keeps_the_latch(ground: Ground) -> None:
    stopped = Stopped(ground, fenced=False)
    answer = stopped.resume(stopped.signed(latch="own-2"))
    assert answer.released is False
    assert "OTHER_LATCH" in answer.said.errors
    assert ground.mark("halted") is not None
    assert not stopped.trades


def test_p6_an_answer_counts_only_with_its_exit_code(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Stopped(ground, fenced=False)
    says = Asked(way="command", code=1, answer='{"trading_state":"ACTIVE"}')
    monkeypatch.setattr(MemoryCommands, "run", lambda *_, **__: says)
    assert stopped.resume().released is False
    assert ground.mark("halted") is not None


def test_a_host_that_nobody_stopped_has_nothing_to_end(ground: Ground) -> None:
    stopped = Stopped(ground, fenced=False, resume=False)
    ground.remove("halted")
    assert stopped.refused(stopped.signed(stop="none")) == "not-halted"


def test_an_artifact_that_halted_by_itself_is_asked(ground: Ground) -> None:
    stopped = Stopped(ground, fenced=False)
    ground.remove("halted")
    answer = stopped.resume(stopped.signed(stop="none"), latch=None)
    assert answer.released
    assert stopped.trades


# --- what is signed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"signer": "stranger@example.com"},
        {"signer": "ann@example.com", "by": "ann@example.com"},
        {"signer": "ann@example.com", "by": "Ann@Example.com"},
        {"fleet": "another"},
        {"host": "router2"},
        {"latch": "own-2"},
        {"expires": 1, "issued": 0},
        {"issued": 0},
    ],
)
def test_p6_what_no_second_person_signed_for_this_stop_lets_nobody_in(
    fenced: Stopped, changes: dict[str, Any]
) -> None:
    assert fenced.refused(fenced.signed(**changes)) == "not-signed"
    assert fenced.ground.mark("fenced") is not None
    assert fenced.ground.serves is None


def test_p6_a_signature_of_something_else_is_none(fenced: Stopped) -> None:
    signature = fenced.signed().partition(b"\n")[2]
    line = fenced.signed(reason="another").partition(b"\n")[0]
    assert fenced.refused(line + b"\n" + signature) == "not-signed"
    assert fenced.refused(fenced.signed().partition(b"\n")[0] + b"\n") == "not-signed"


def test_a_stop_that_left_no_latch_is_stopped_again(fenced: Stopped) -> None:
    fenced.ground.remove("halted")
    assert fenced.refused(fenced.signed(stop="none"), latch=None) == "not-signed"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}\n",
        b"[]\n",
        b"no json\n",
        b"\xff\xfe\n",
        b"{" * 40 + b"\n",
    ],
)
def test_what_is_no_request_is_refused(stopped: Stopped, content: bytes) -> None:
    assert stopped.refused(content) == "bad-request"


@pytest.mark.parametrize("change", [(b":", b": "), (b",", b", "), (b"{", b'{"stop":"x",')])
def test_a_request_has_one_spelling(stopped: Stopped, change: tuple[bytes, bytes]) -> None:
    line, _, signature = stopped.signed().partition(b"\n")
    altered = line.replace(*change, 1)
    assert stopped.refused(altered + b"\n" + signature) == "bad-request"


def test_a_request_that_does_not_arrive_changes_nothing(stopped: Stopped) -> None:
    content = stopped.signed()
    before = stopped.ground.snapshot()
    request = Resume(latch="ab12", size=len(content))
    assert stopped.ground.refused(request, content[:-1]) == "short-copy"
    assert stopped.ground.refused(request, SentBytes(content, stalls_at=5)) == "slow-copy"
    assert stopped.ground.refused(Resume(latch="ab12", size=65537), b"") == "bad-request"
    assert stopped.ground.snapshot() == before


# --- which stop ----------------------------------------------------------------------------------


@pytest.mark.parametrize("latch", [None, "cd34"])
def test_p6_a_request_for_another_stop_releases_nothing(
    stopped: Stopped, latch: str | None
) -> None:
    assert stopped.refused(latch=latch) == "other-latch"
    assert stopped.ground.mark("halted") is not None


def test_p6_a_request_of_before_a_second_stop_releases_nothing(stopped: Stopped) -> None:
    """The artifact keeps its latch through it; the request names the new stop."""
    stopped.stop(SECOND, fenced=False)
    assert stopped.refused(latch="cd34") == "other-latch"
    assert stopped.refused(latch="ab12") == "other-latch"
    assert stopped.ground.marked("halted")["latch"] == "cd34"


def test_p6_a_latch_that_can_t_be_read_is_ended_by_nobody(stopped: Stopped) -> None:
    stopped.ground.spoil("halted")
    for latch in ("ab12", None):
        assert stopped.refused(latch=latch) == "damaged"
        assert stopped.refused(stopped.signed(stop="none"), latch=latch) == "damaged"


class Strike:
    """Another stop, as a whole, at one point of the verb."""

    def __init__(self, stopped: Stopped, kind: str, at: int) -> None:
        self._stopped, self._kind, self._at = stopped, kind, at
        self.points: list[str] = []

    def __call__(self, _: Run, what: str) -> None:
        self.points.append(what)
        if len(self.points) == self._at:
            self._stopped.stop(SECOND, fenced=self._kind == "fence")
            if self._kind == "spoiled":
                self._stopped.ground.spoil("halted")

    @property
    def came_before_the_latch_went(self) -> bool:
        lifts = [p.startswith("rename halted") for p in self.points]
        return True not in lifts or self._at <= lifts.index(True) + 1


@pytest.mark.parametrize("kind", ["halt", "fence", "spoiled"])
def test_p6_a_stop_at_any_moment_of_a_start_wins(ground: Ground, kind: str) -> None:
    """Afterwards it holds, nothing trades, and a start that it came before has failed."""
    for at in itertools.count(1):
        fresh = Ground(ground.supervisor, ONE)
        stopped = Stopped(fresh)
        strike = Strike(stopped, kind, at)
        content = stopped.signed()
        answer = fresh.ask(Resume(latch="ab12", size=len(content)), content, hook=strike)
        if len(strike.points) < at:
            break
        told = (at, strike.points[at - 1], answer)
        assert fresh.mark("halted") is not None, told
        if kind != "spoiled":
            assert fresh.marked("halted")["latch"] == "cd34", told
        assert not stopped.trades, told
        released = isinstance(answer, Resumed) and answer.released
        assert not (released and strike.came_before_the_latch_went), told
        if kind == "fence":
            assert fresh.mark("fenced") is not None, told
            fresh.host.reboot()
            assert fresh.serves is None, told
    assert at > 40


@pytest.mark.parametrize("kind", ["halt", "fence", "fence mark alone"])
def test_p6_an_artifact_of_a_host_that_was_stopped_again_is_not_asked_to_resume(
    fenced: Stopped, kind: str
) -> None:
    """It would trade for the moment until it is halted again."""
    points: list[str] = []

    def strike(_: Run, what: str) -> None:
        points.append(what)
        if what == "restart" and kind == "fence mark alone":
            fenced.ground.write("fenced")
        elif what == "restart":
            fenced.stop(SECOND, fenced=kind == "fence")

    code = fenced.refused(hook=strike)
    assert code == ("other-latch" if kind == "halt" else "halted")
    assert "restart" in points
    assert not [what for what in points if what.startswith("run ") and "resume" in what]


def test_p6_a_halt_that_ends_late_leaves_a_later_stop_its_latch(ground: Ground) -> None:
    """Else a request for the earlier stop would end the later one."""
    ground.deploy(ONE)

    def strike(_: Run, what: str) -> None:
        if what.startswith("run ") and "halt" in what and what.endswith("done"):
            ground.write("halted", text_of(SECOND))

    halt = Halt(latch="ab12", by="me@here", reason="runaway", since=1, seconds=2)
    ground.done(halt, hook=strike)
    assert ground.marked("halted")["latch"] == SECOND.latch


STRIKES = {
    "killed": killed,
    "power lost, nothing kept": loses_power(Fate(keeps=0.0)),
    "power lost, all kept": loses_power(Fate(keeps=1.0)),
    "power lost, some kept": loses_power(Fate(seed=3)),
}


@pytest.mark.parametrize("strike", STRIKES)
def test_p7_a_start_that_is_cut_short_trades_only_where_the_artifact_agreed(
    ground: Ground, strike: str
) -> None:
    """And whatever it left, stopping the host again and starting it leads out of it."""
    for at in itertools.count(1):
        fresh = Ground(ground.supervisor, ONE)
        stopped = Stopped(fresh)
        fresh.host.computer.sync()
        points = Points(at, STRIKES[strike])
        content = stopped.signed()
        with contextlib.suppress(RunEnded):
            fresh.ask(Resume(latch="ab12", size=len(content)), content, hook=points)
        if len(points.seen) < at:
            break
        told = (at, points.seen[-1])
        if strike != "killed":
            fresh.host.reboot()
        agreed = fresh.host.computer.find(f"{fresh.root}/state/service/halted") is None
        assert agreed or not stopped.trades, told
        stopped.stop(SECOND, fenced=True)
        answer = stopped.resume(stopped.signed(stop="cd34"), latch="cd34")
        assert answer.released, told
        assert stopped.trades, told
        assert not [n for n in fresh.names("state") if n.startswith(".lifted")], told
    assert at > 40


# --- disks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "name"), [("remove", "fenced"), ("remove", "meant"), ("rename", "halted")]
)
def test_a_mark_that_can_t_be_removed_is_told_and_holds(
    fenced: Stopped, operation: str, name: str
) -> None:
    fenced.ground.write("meant", f"{SHA}\n")
    fenced.ground.host.computer.disk.failing[operation, name] = errno.EIO
    assert fenced.refused() == "cannot-write"
    assert fenced.ground.mark("halted") is not None


def test_p6_a_lawful_start_leaves_of_which_stop_and_by_whom(stopped: Stopped) -> None:
    assert stopped.resume().released
    shown = stopped.ground.done(Probe()).evidence.marks.released
    assert [(one.latch, one.stopped, one.by) for one in shown] == [("ab12", 1, "bob@example.com")]
    assert shown[0].signer in (None, "ann@example.com")


def test_p6_who_signed_is_kept_where_the_host_checked_it(fenced: Stopped) -> None:
    assert fenced.resume().released
    assert (fenced.ground.mark("released") or "").endswith(" bob@example.com ann@example.com\n")


def test_p6_a_start_that_can_t_be_noted_lets_nothing_go(fenced: Stopped) -> None:
    """The other hosts of that stop would never hear that it ended here."""
    fenced.ground.host.computer.disk.failing["create", "released.new"] = errno.EIO
    assert fenced.refused() == "cannot-write"
    assert fenced.ground.mark("halted") is not None


def test_the_latest_stops_that_ended_are_kept_and_names_are_one_word_each(tmp_path: Path) -> None:
    state = LinuxFiles().open_root(str(tmp_path))
    for number in range(20):
        ended = Released(latch="ab", stopped=number, since=9, by="Ann B\nC", signer="x" * 4096)
        marks.add_released(state, ended)
    kept = marks.read_released(state)
    assert [one.stopped for one in kept] == [*range(4, 20)]
    assert {one.by for one in kept} == {"Ann+B+C"}
    (tmp_path / "released").write_text("ab\n")
    with pytest.raises(Malformed):
        marks.read_released(state)
    assert marks.read_all(state).unreadable == ("released",)


# --- the rules, over their whole space -----------------------------------------------------------


def test_p6_only_one_combination_of_stops_is_the_same() -> None:
    said = {"by": "b", "fleet": "f", "host": "h", "latch": "l", "reason": "r"}
    latches = (None, *(FIRST.but(latch=latch) for latch in ("ab12", "cd34")))
    for stop, named, latch in itertools.product(
        ("none", "ab12", "cd34"), (None, "ab12", "cd34"), latches
    ):
        start = SignedStart(**said, stop=stop, issued=1, expires=2)
        same = is_of(start, named, latch)
        assert same == (stop == "none" if latch is None else stop == latch.latch == named)


def test_p6_every_part_of_a_request_counts() -> None:
    start = SignedStart(
        by="bob", fleet="f", host="h", latch="own", reason="r", stop="ab12", issued=100, expires=200
    )
    latch = FIRST.but(artifact="own")
    right: dict[str, Any] = {"signer": "ann", "latch": latch, "fleet": "f", "host": "h", "now": 150}
    assert objection(start, **right) == ""
    wrong: dict[str, tuple[Any, ...]] = {
        "signer": (None, "bob", "BOB"),
        "latch": (None, FIRST, FIRST.but(artifact="another")),
        "fleet": ("g",),
        "host": ("i",),
        "now": (201,),
    }
    for key, values in wrong.items():
        for value in values:
            assert objection(start, **{**right, key: value}), (key, value)
    for times in ({"issued": 200}, {"issued": 300}, {"expires": 3701}):
        assert objection(start.but(**times), **right)
    assert objection(start.but(latch="ab12"), **{**right, "latch": FIRST}) == ""


def test_a_request_is_parsed_in_one_spelling_alone() -> None:
    said = {"by": "é", "expires": 2, "fleet": "f", "host": "h", "issued": 1, "latch": "l"}
    said |= {"reason": '"stop":"none"}', "stop": "ab12"}
    for ascii_only, blanks in itertools.product((True, False), ((",", ":"), (", ", ": "))):
        line = json.dumps(said, sort_keys=True, ensure_ascii=ascii_only, separators=blanks).encode()
        if not ascii_only and blanks == (",", ":"):
            start, signed, signature = parse_signed(line + b"\nsigned\n")
            assert (start.stop, signed, signature) == ("ab12", line + b"\n", "signed\n")
        else:
            with pytest.raises(Malformed):
                parse_signed(line + b"\n")
    with pytest.raises(Malformed):
        parse_signed(json.dumps({**said, "more": 1}, sort_keys=True).encode())
