"""P3 on simulated hosts: all off, or all on, or the odd ones named, whatever happens and when."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from deploytool.agent.requests import Answer, FlagStep, Request, TakeLock
from deploytool.agent.requests import Told as Answered
from deploytool.arming.asking import in_use
from deploytool.arming.hosts import FlagHosts
from deploytool.arming.report import SENDERS, Report
from deploytool.arming.table import ENDS, Purpose, State
from deploytool.errors import DeploytoolError, FaultKind, HostFault, InputError
from deploytool.fleet.host import Payload
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepared import HostFiles
from deploytool.parity.evidence import read_evidence
from deploytool.parity.judge import judge, shown_manifest
from deploytool.parity.remedies import remedy
from deploytool.parity.round import probe_request
from deploytool.parity.table import judge_host
from deploytool.simulation import board, fleet
from deploytool.simulation.events import EVENTS
from deploytool.simulation.faults import AFTER, BEFORE, CallPoint, Fault, possible
from deploytool.simulation.flags import board_of
from deploytool.simulation.host import SimulatedHost, kind_of

from .fleets import NAMES, NEW_BUILD, OLD_BUILD, declared, rendered
from .worlds import BIT, FLAG, Market, Told, World, code


def inline(
    jobs: Mapping[str, Callable[[], Any]],
    *,
    deadline_s: float,
    done: Callable[[str, Any], None] = lambda _name, _outcome: None,
) -> dict[str, Any]:
    """``fanout`` without threads: the same order each time."""
    assert deadline_s > 0
    outcomes: dict[str, Any] = {}
    for name, job in jobs.items():
        try:
            outcomes[name] = job()
        except HostFault as fault:
            outcomes[name] = fault
        done(name, outcomes[name])
    return outcomes


class Inline:
    """A thread that has done all when it was started: simulated hosts are asked one at a time."""

    def __init__(self, *, target: Callable[[], None], name: str, daemon: bool) -> None:
        assert name
        assert daemon
        self.start = target


@pytest.fixture(autouse=True)
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    def before(_inventory: Inventory, host: str, _account: str) -> HostFiles:
        return rendered().files[host]

    monkeypatch.setattr("deploytool.parity.judge.host_files", before)
    monkeypatch.setattr("deploytool.arming.hosts.threading", SimpleNamespace(Thread=Inline))
    for module in ("arming.hosts", "arming.asking", "parity.round"):
        monkeypatch.setattr(f"deploytool.{module}.fanout", inline)


def test_eight_of_eight_arm_and_disarm() -> None:
    world = World()
    report, error = world.change(Purpose.ARM)
    assert (code(error), report.state) == (0, State.ARMED)
    assert world.all_on
    assert BIT in world.market.bits
    assert world.odd_by_status() == set()
    report, error = world.change(Purpose.DISARM)
    assert (code(error), report.state) == (0, State.OFF)
    assert world.all_off
    assert world.market.bits == {0}


def test_the_senders_are_told_last_and_first() -> None:
    world = World()
    told: list[str] = []

    def heard(what: str) -> None:
        if what in {"use", "withdraw"}:
            told.append(f"{what} {'on' if world.all_on else 'off'}")

    world.market.heard = heard
    world.change(Purpose.ARM)
    world.change(Purpose.DISARM)
    assert told == ["use on", "withdraw on"]


def test_epochs_grow_also_where_every_router_was_restarted() -> None:
    world, epochs = World(), []
    for _ in range(3):
        report, error = world.change(Purpose.ARM)
        assert error is None
        epochs.append(report.epoch or 0)
        world.change(Purpose.DISARM)
    assert epochs == sorted(set(epochs))


# --- who may not ----------------------------------------------------------------------------------


class Recorded:
    """A host that shows what it showed once, and notes whatever else it is asked."""

    def __init__(self, name: str, answer: Answer | None) -> None:
        self.name = name
        self.answer = answer
        self.asked: list[str] = []

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        del insist
        assert deadline_s > 0
        assert payload is None
        if self.answer is None:
            raise HostFault(FaultKind.TIMEOUT, "no SSH session within 5 s")
        if request.verb != "probe":
            self.asked.append(kind_of(request))
            raise HostFault(FaultKind.REFUSED, "enough was seen")
        return self.answer

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_of_all_6561_fleets_of_new_old_and_unreachable_hosts_one_is_asked_for_nonces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In every other one the operator is refused (exit 3), and no router heard of it."""
    everybody: dict[tuple[str, str], Recorded] = {}
    for name, (state, made) in product(NAMES, {"new": NEW_BUILD, "old": OLD_BUILD}.items()):
        shown = fleet.running(name, rendered(), *made).call(probe_request(), deadline_s=5)
        everybody[name, state] = Recorded(name, shown)
        everybody[name, "unreachable"] = Recorded(name, None)
    monkeypatch.setattr("deploytool.parity.round.read_evidence", _once(read_evidence))
    monkeypatch.setattr("deploytool.parity.judge.judge_host", _once(judge_host))
    market, asked = Market(), []
    for states in product(("new", "old", "unreachable"), repeat=len(NAMES)):
        hosts = {n: everybody[n, state] for n, state in zip(NAMES, states, strict=True)}
        world = World(hosts, market)  # type: ignore[arg-type] # recorded ones are hosts too
        report, error = world.change(Purpose.ARM)
        assert code(error) == 3
        if report.path[-2] is not State.CHECKING:
            asked.append(states)
            continue
        assert {o.host for o in report.obstacles} & {*NAMES}
    assert {name for (name, _), host in everybody.items() if host.asked} == {*NAMES}
    assert all(host.asked == ["flag_prepare"] for host in everybody.values() if host.asked)
    assert asked == [("new",) * len(NAMES)]
    assert market.bits == {0}


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, asked once for the same things."""
    known: dict[object, Any] = {}

    def told(first: object, *rest: object) -> Any:
        # A host's name and what it showed, or an answer alone.
        key = (first, id(rest[1])) if isinstance(first, str) else (id(first),)
        if key not in known:
            known[key] = (function(first, *rest), first, rest)
        return known[key][0]

    return told


@pytest.mark.parametrize("state", ["old", "unreachable"])
def test_one_host_of_eight_that_is_not_on_the_new_build_is_named_and_no_router_changed(
    state: str,
) -> None:
    world = World()
    world.hosts["router5"] = fleet.running("router5", rendered(), *OLD_BUILD)
    if state == "unreachable":
        world.hosts["router5"].strikes = {CallPoint("probe", 1, BEFORE): Fault.CONNECT_TIMEOUT}
    report, error = world.change(Purpose.ARM)
    assert code(error) == 3
    assert error is not None
    assert any(line.startswith("router5: ") for line in error.details)
    assert "Nothing was changed" in error.means
    assert world.all_off
    assert {moment.verb for host in world.hosts.values() for moment in host.moments} == {"probe"}
    assert report.path == [State.CHECKING, State.REFUSED]


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda world: world.market.bits.add(BIT), "ARM_GATEWAY"),
        (lambda world: world.market.sessions.pop("router3"), "ARM_GATEWAY"),
        (lambda world: setattr(world.market, "serving", frozenset(NAMES[1:])), "ARM_CENSUS"),
        (lambda world: setattr(world.market, "serving", frozenset({*NAMES, "x"})), "ARM_CENSUS"),
        (lambda world: setattr(world.market, "skew_s", -3600.0), "ARM_CENSUS"),
        (lambda world: setattr(world.market, "skew_s", 3600.0), "ARM_CENSUS"),
        (lambda world: world.market.wrong.update(census=Told.LOST_BEFORE), "ARM_CENSUS"),
        (lambda world: world.market.wrong.update(observe=Told.LOST_BEFORE), "ARM_GATEWAY"),
        (lambda world: _lock(world.hosts["router2"]), "ARM_LOCKED"),
    ],
)
def test_what_stands_in_the_way_is_refused_before_any_router_hears_of_it(
    spoil: Callable[[World], object], rule: str
) -> None:
    world = World()
    spoil(world)
    report, error = world.change(Purpose.ARM)
    assert code(error) == 3
    assert rule in {o.rule for o in report.obstacles}
    assert report.path == [State.CHECKING, State.REFUSED]
    assert world.all_off


def _lock(host: SimulatedHost) -> None:
    request = TakeLock(holder="you@there", purpose="deploy", plan="p", release="a" * 64)
    host.call(request, deadline_s=5)


def test_a_stranger_s_certificate_is_refused_by_every_router_and_they_say_so() -> None:
    world = World()
    report, error = world.change(Purpose.ARM, sign=board.sign("mallory"))
    assert code(error) == 3
    assert error is not None
    assert len(error.details) == len(NAMES)
    assert all("mallory may not sign" in line for line in error.details)
    assert report.path[-2] is State.PREPARING
    assert world.all_off


def test_nothing_is_armed_without_a_signature() -> None:
    def cant(_content: bytes) -> str:
        raise InputError("the key can't sign", "-", "-")

    for sign, word in ((cant, "the key can't sign"), (lambda _c: "x", "no armoured")):
        world = World()
        report, error = world.change(Purpose.ARM, sign=sign)
        assert code(error) == 3
        assert word in report.trouble["operator"].text
        assert world.all_off


def test_a_router_whose_clock_is_wrong_is_refused() -> None:
    world = World()
    world.hosts["router4"].skew_s = 3600
    report, error = world.change(Purpose.ARM)
    assert code(error) == 3
    assert any(o.host == "router4" and "clock" in o.text for o in report.obstacles)


def test_a_flag_that_no_build_has_is_bad_input_and_one_that_is_always_on_is_named() -> None:
    world = World()
    assert code(world.change(Purpose.ARM, flag="NOWHERE")[1]) == 3
    assert code(world.change(Purpose.DISARM, flag="NOWHERE")[1]) == 2
    _, error = world.change(Purpose.DISARM, flag="HIDDEN")
    assert code(error) == 5
    assert "always" in str(error.details if error else "")


# --- faults at every moment -----------------------------------------------------------------------

VERBS = (
    ("flag_prepare", 1),
    ("flag_prepare", 2),
    ("flag_commit", 1),
    ("flag_observe", 1),
    ("flag_settle", 1),
    ("flag_observe", 2),
    ("flag_observe", 3),
)
FAULTS = (
    *(Fault.CONNECTION_REFUSED, Fault.CONNECTION_LOST, Fault.ANSWER_CUT, Fault.HANGS, Fault.LATE),
    *(Fault.GONE, Fault.RESTARTED, Fault.CRASHES, Fault.SILENT, Fault.REBOOT, Fault.CLOCK_WRONG),
    *(Fault.OTHER_DEPLOYER, Fault.SHELL_NOISE, Fault.DISK_FULL),
)

UNSEEN = {Fault.GONE, Fault.SILENT, Fault.CRASHES}
"""They leave a host of which nobody can say what it obeys."""


def cases() -> Iterator[tuple[str, CallPoint, Fault]]:
    for (verb, nth), part, fault in product(VERBS, (BEFORE, "told", AFTER), FAULTS):
        moment = CallPoint(verb, nth, part)
        if possible(fault, moment):
            for host in (NAMES[0], NAMES[4]):
                yield host, moment, fault


@pytest.mark.slow
@pytest.mark.parametrize(("host", "moment", "fault"), list(cases()), ids=str)
def test_whatever_is_cut_and_whenever(host: str, moment: CallPoint, fault: Fault) -> None:
    world = World()
    world.hosts[host].strikes = {moment: fault}
    report, error = world.change(Purpose.ARM)
    _honest(world, report, error)
    if code(error) == 5:
        assert fault in UNSEEN, "what could be brought back and seen was not"
    _ended_by_a_fresh_disarm(world)


def _honest(world: World, report: Report, error: DeploytoolError | None) -> None:
    """What the end claims is what is true, once what was not settled has lapsed."""
    text = f"{report.path}, {report.trouble}, {world.truth}"
    # Another hand that restarts a process, or a host that dies, after all was proven: the next
    # round's to find, and it does.
    struck_late = [h for h in world.hosts.values() for m in h.struck if _was_last_look(h, m)]
    if code(error) == 0:
        assert world.all_on or struck_late, text
        assert BIT in world.market.bits
        if not world.all_on:
            assert world.odd_by_status() & {h.name for h in struck_late}, text
        return
    world.pass_time(board.COMMIT_S + board.PROMISE_S + 1)
    assert BIT not in world.market.bits, text
    assert code(error) in {3, 4, 5}, text
    if code(error) in {3, 4}:
        assert world.all_off, text
    else:
        assert error is not None
        on = {name for name, state in world.truth.items() if state == "on"}
        named = {line.split(":")[0] for line in error.details}
        assert on <= named, text
        assert named, text
    if code(error) == 4:
        assert len(report.seen) == len(NAMES)


def _was_last_look(host: SimulatedHost, moment: CallPoint) -> bool:
    shown = "flag show, done"  # the process has answered; what becomes of it now is not in it
    looks = [i for i, m in enumerate(host.moments) if m.part.endswith(shown)]
    return host.moments.index(moment) >= looks[-1] if looks else False


def _ended_by_a_fresh_disarm(world: World) -> None:
    """From another machine, when every host answers again."""
    for host in world.hosts.values():
        host.strikes = {}
        host._gone = False
        host.service.quirks.clear()
    report, error = world.change(Purpose.DISARM)
    silent = {h.name for h in world.hosts.values() if board_of(h.service) is None}
    gone = {h.name for h in world.hosts.values() if not h.service.of_this_root()}
    assert world.all_off
    assert BIT not in world.market.bits
    assert {host for host, text in report.flag_states.items() if text == "not running"} == gone
    if silent == gone:
        assert code(error) == 0, error
    else:
        assert code(error) == 5
        assert error is not None
        assert {line.split(":")[0] for line in error.details} == silent - gone


@pytest.mark.parametrize(
    ("what", "wrong", "ends"),
    [
        ("use", Told.LOST_BEFORE, 4),
        ("use", Told.LOST_AFTER, 4),
        ("use", Told.IGNORED, 4),
    ],
)
def test_senders_that_can_t_be_told_or_seen(what: str, wrong: Told, ends: int) -> None:
    world = World()
    world.market.wrong[what] = wrong
    report, error = world.change(Purpose.ARM)
    assert code(error) == ends
    assert State.CLOSING in report.path, "they are told to withdraw before the hosts disarm"
    assert world.all_off
    assert world.market.bits == {0}


@pytest.mark.parametrize("wrong", [Told.LOST_BEFORE, Told.IGNORED])
def test_senders_that_don_t_withdraw_are_named_and_the_hosts_are_off(wrong: Told) -> None:
    world = World()
    world.change(Purpose.ARM)
    world.market.wrong["withdraw"] = wrong
    report, error = world.change(Purpose.DISARM)
    assert code(error) == 5
    assert error is not None
    assert "still use it" in error.means
    assert any(line.startswith(f"{SENDERS}:") for line in error.details)
    assert world.all_off
    assert report.in_use


def _says_another_bit(world: World, name: str, bit: int) -> None:
    """From now on that process says that the flag is another bit than it is."""
    host = world.hosts[name]
    asked = host.call

    def call(
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        answer = asked(request, deadline_s=deadline_s, payload=payload, insist=insist)
        if not isinstance(answer, Answered) or kind_of(request) != "flag_observe":
            return answer
        said = json.loads(answer.said.answer)
        for flag in said["flags"]:
            flag["bit"] = bit if flag["name"] == FLAG else flag["bit"]
        return answer.but(said=answer.said.but(answer=json.dumps(said)))

    host.call = call  # type: ignore[method-assign] # this one host lies


@pytest.mark.parametrize("skew_s", [0, 31, -31])
def test_p5_an_old_word_of_the_senders_says_nothing_of_which_flags_are_in_use(
    skew_s: float,
) -> None:
    world = World(market=Market(bits={0, BIT}, skew_s=skew_s))
    assert world.all_off
    found = in_use(declared(), world.hosts, world.market)
    assert found == ({} if skew_s else {FLAG: frozenset({BIT})})


@pytest.mark.parametrize("liar", [NAMES[0], NAMES[-1]])
def test_p3_one_host_s_word_about_the_bit_is_no_proof_that_the_senders_withdrew(liar: str) -> None:
    world = World()
    world.change(Purpose.ARM)
    _says_another_bit(world, liar, 9)
    report, error = world.change(Purpose.DISARM)
    assert (code(error), report.state) == (5, State.NAMED)
    assert world.all_off
    assert report.in_use is (BIT in world.market.bits)
    odd = liar if liar != NAMES[0] else NAMES[1]
    assert "bit" in report.trouble[odd].text


def test_disarming_with_one_host_out_of_reach_says_so() -> None:
    world = World()
    world.change(Purpose.ARM)
    verbs = [("flag_disarm", n) for n in (1, 2, 3)] + [("flag_observe", n) for n in (4, 5)]
    world.hosts["router8"].strikes = {
        CallPoint(verb, n, BEFORE): Fault.CONNECT_TIMEOUT for verb, n in verbs
    }
    _, error = world.change(Purpose.DISARM)
    assert code(error) == 5
    assert error is not None
    assert [line.split(":")[0] for line in error.details] == ["router8"]
    assert "router8" in error.what
    assert [n for n, s in world.truth.items() if s == "on"] == ["router8"]
    assert world.market.bits == {0}, "nobody sends what it would obey"
    _ended_by_a_fresh_disarm(world)


def test_disarming_where_a_router_is_dead_is_proven_by_a_look_and_only_by_that() -> None:
    world = World()
    world.change(Purpose.ARM)
    world.hosts["router2"].service.crash()
    report, error = world.change(Purpose.DISARM)
    assert code(error) == 0, error
    assert report.flag_states["router2"] == "not running"
    assert world.all_off
    # The look is lost: nobody answers, and that nothing runs is no more than a guess.
    unlucky = World()
    unlucky.change(Purpose.ARM)
    unlucky.hosts["router2"].service.crash()
    unlucky.hosts["router2"].strikes = {
        CallPoint("probe", n, BEFORE): Fault.CONNECT_TIMEOUT for n in (2, 3)
    }
    _, error = unlucky.change(Purpose.DISARM)
    assert code(error) == 5
    assert error is not None
    assert [line.split(":")[0] for line in error.details] == ["router2"]


# --- the operator is gone -------------------------------------------------------------------------


class Killed(BaseException):
    """The operator's process ends here."""


class Mortal:
    """A host whose caller is killed before or after one call."""

    def __init__(self, host: SimulatedHost, count: list[int], at: int, *, after: bool) -> None:
        self.service, self.computer = host.service, host.computer
        self.name, self._host = host.name, host
        self._count, self._at, self._after = count, at, after

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        self._count[0] += 1
        dies = self._count[0] == self._at
        if dies and not self._after:
            raise Killed
        answer = self._host.call(request, deadline_s=deadline_s, payload=payload, insist=insist)
        if dies:
            raise Killed
        return answer

    def close(self) -> None:
        pass


def _calls_of_one_arming() -> int:
    world, count = World(), [0]
    hosts = world.hosts
    world.hosts = {n: Mortal(h, count, 0, after=False) for n, h in hosts.items()}  # type: ignore[misc]
    world.change(Purpose.ARM)
    return count[0]


@pytest.mark.slow
@pytest.mark.parametrize("purpose", list(Purpose))
def test_the_operator_is_killed_at_every_call(
    purpose: Purpose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All off, or all on, or evidence names the odd ones; a fresh disarm ends it."""
    # It looks in a thread, which an operator's end would not end here; it changes nothing.
    monkeypatch.setattr(FlagHosts, "find_bit", lambda _self, _flag, _patience_s: BIT)
    ended = set()
    for at, after in product(range(1, _calls_of_one_arming() + 1), (False, True)):
        world = World()
        if purpose is Purpose.DISARM:
            world.change(Purpose.ARM)
        hosts, count = world.hosts, [0]
        world.hosts = {n: Mortal(h, count, at, after=after) for n, h in hosts.items()}  # type: ignore[misc]
        with suppress(Killed):
            world.change(purpose)
        world.hosts = hosts
        world.pass_time(board.COMMIT_S + 1)
        on = {name for name, state in world.truth.items() if state == "on"}
        if 0 < len(on) < len(NAMES):
            smaller = on if len(on) < len(NAMES) / 2 else {*NAMES} - on
            assert smaller <= world.odd_by_status(), (at, after)
            assert code(world.change(Purpose.ARM)[1]) == 3, "nothing is armed on a mixed fleet"
        ended.add("all on" if world.all_on else "all off" if world.all_off else "named")
        if purpose is Purpose.ARM and BIT in world.market.bits:
            assert world.all_on, "the senders are told last"
        _ended_by_a_fresh_disarm(world)
    assert ended == {"all on", "all off", "named"}


@pytest.mark.parametrize("state", [s for s in State if s not in ENDS])
def test_a_person_breaks_it_off(state: State) -> None:
    """Ctrl-C at each step: off everywhere and said so, or refused before anything."""
    reached: list[State] = []
    world = World()
    asked: list[bool] = []

    def interrupted() -> bool:
        broken = bool(reached) and reached[-1] is _before(state) and not asked
        if broken or (state is State.CHECKING and not asked):
            asked.append(True)
            return True
        return False

    report, error = world.change(Purpose.ARM, at=reached.append, interrupted=interrupted)
    if asked:
        assert report.interrupted
        assert code(error) == 130
        assert world.all_off
        assert BIT not in world.market.bits
    else:
        assert state in {State.CLOSING, State.WITHDRAWING, State.PROVING_OFF}
        assert code(error) == 0


def _before(state: State) -> State | None:
    order = list(State)
    return order[order.index(state) - 1] if order.index(state) else None


# --- two operators --------------------------------------------------------------------------------


@pytest.mark.parametrize("other", list(Purpose))
@pytest.mark.parametrize("mine", list(Purpose))
@pytest.mark.parametrize("state", [s for s in State if s not in ENDS])
def test_two_operators_at_once(state: State, mine: Purpose, other: Purpose) -> None:
    """One does all of its work in the middle of the other's: neither end is a lie."""
    world = World()
    if Purpose.ARM not in {mine, other}:
        world.change(Purpose.ARM)
    theirs: list[int] = []

    def at(now: State) -> None:
        if now is state and not theirs:
            theirs.append(code(world.change(other)[1]))

    report, error = world.change(mine, at=at)
    if code(error) == 0:
        assert world.all_on if mine is Purpose.ARM else world.all_off, (report.path, theirs)
    elif code(error) == 4:
        assert world.all_off
    elif code(error) == 3 and theirs == [0]:
        assert world.all_on if other is Purpose.ARM else world.all_off
    elif code(error) == 5:
        assert error is not None
        assert error.details
    world.pass_time(board.COMMIT_S + 1)
    if not world.all_on and not world.all_off:
        assert world.odd_by_status()
    if BIT in world.market.bits and not world.all_on:
        # Flagged parents are rejected, visibly: whoever ended last has said that they are sent.
        assert code(error) == 5 or theirs == [5], (report.path, theirs)
    _ended_by_a_fresh_disarm(world)


# --- restarted ------------------------------------------------------------------------------------


def test_a_router_that_restarts_is_off_and_every_round_says_so() -> None:
    world = World()
    world.change(Purpose.ARM)
    assert world.odd_by_status() == set()
    EVENTS[Fault.RESTARTED](world.hosts["router6"])
    assert [n for n, s in world.truth.items() if s == "off"] == ["router6"]
    seen = world.look()
    taken = judge(declared(), seen, shown_manifest(seen))
    odd = {v.host: [f.what for f in v.findings] for v in taken.hosts if v.findings}
    assert "armed flags" in odd["router6"]
    assert set(odd) == {"router6"}
    assert code(world.change(Purpose.ARM)[1]) == 3
    assert "flags disarm RETAIL" in remedy(taken, "inventory.yaml")


def test_a_certificate_is_good_once() -> None:
    """What was sealed for one arming arms nothing after a restart, or in a later arming."""
    world, kept = World(), []
    real = board.sign(fleet.OPERATOR)

    def sign(content: bytes) -> str:
        kept.append(content.decode() + real(content))
        return real(content)

    world.change(Purpose.ARM, sign=sign)
    world.change(Purpose.DISARM)
    host = world.hosts["router1"]
    sealed = kept[0].encode()
    request = FlagStep(step="prepare", flag=FLAG, size=len(sealed))
    sent = Payload(len(sealed), lambda: iter([sealed]))
    for fresh_nonce in (False, True):
        if fresh_nonce:
            host.call(FlagStep(step="prepare", flag=FLAG), deadline_s=5)
        answer = host.call(request, deadline_s=5, payload=sent)
        assert isinstance(answer, Answered)
        assert answer.said.code == 3
        assert "replay" in answer.said.errors
        assert "is not newer than" in answer.said.errors
    assert world.all_off
