"""P3 and P5 in a rollout: nothing armed, and no bit in use that a new build reads otherwise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.model import Latch
from deploytool.agent.requests import Halt, Resume, Resumed
from deploytool.arming.table import Purpose as FlagPurpose
from deploytool.errors import FaultKind, HostFault, Refused
from deploytool.fleet.host import Payload
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepared import HostFiles
from deploytool.parity.model import Evidence
from deploytool.parity.round import look, probe_request
from deploytool.release.model import Manifest, Release
from deploytool.rollout.admission import survey
from deploytool.rollout.build_conflicts import build_conflicts
from deploytool.rollout.flag_checks import FlagCheck
from deploytool.rollout.model import Purpose, State
from deploytool.rollout.outcome import conclude
from deploytool.rollout.report import Report
from deploytool.rollout.runner import Runner
from deploytool.simulation import fleet, program
from deploytool.simulation.events import EVENTS
from deploytool.simulation.faults import Fault
from deploytool.simulation.flags import board_of
from deploytool.simulation.memory import signing
from deploytool.simulation.memory.service import Quirk
from deploytool.simulation.oracle import locked_by
from deploytool.start.flag_checks import flag_objections
from deploytool.start.request import NAMESPACE, StartRequest
from deploytool.start.runner import ask, check
from tests.unit.arming.fleets import NAMES, NEW_BUILD, rendered
from tests.unit.arming.worlds import FLAG, World, code
from tests.unit.evidences import but
from tests.unit.registry.artifacts import table
from tests.unit.registry.registries import POWER_PEG, flag, registry, reserved, runtime

from .cases import Forgetful, Silent, inline

Build = tuple[Manifest, bytes]


def build(version: str, text: str | None) -> Build:
    return program.build(version, flags=None if text is None else table(text))


HIDDEN = flag("HIDDEN", 0)
OLD = build("2011.4", registry(HIDDEN, POWER_PEG))
NEXT = build("2026.2", registry(HIDDEN, runtime("RETAIL", 4), runtime("OTHER", 5)))
GRADUATED = build("2027.1", registry(HIDDEN, flag("RETAIL", 4), runtime("OTHER", 5)))
RETIRED = build("2027.2", registry(HIDDEN, reserved("RETAIL", 4), reserved("POWER_PEG", 3)))
SILENT, ALSO_SILENT = build("2026.3", None), build("2026.4", None)
EMPTY = build("2026.5", registry())
ONLY = build("2026.6", registry(runtime("RETAIL", 4)))


def reformed(version: str, made: Build) -> Build:
    """The same flags in messages of another format."""
    flags = made[0].flags
    assert flags is not None
    return program.build(version, flags=flags.model_copy(update={"wire": "1" * 64}))


REFORMED, ONLY_REFORMED = reformed("2026.7", NEXT), reformed("2026.8", ONLY)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.getfixturevalue("swift")

    def before(_inventory: Inventory, host: str, _account: str) -> HostFiles:
        return rendered().files[host]

    monkeypatch.setattr("deploytool.parity.judge.host_files", before)
    for module in ("arming.hosts", "arming.asking"):
        monkeypatch.setattr(f"deploytool.{module}.fanout", inline)


class Senders:
    """Who says which bits are in use; None: nobody can be asked."""

    def __init__(self, *bits: int | None) -> None:
        self.bits = bits
        self.asked = 0

    def bits_in_use(self) -> frozenset[int]:
        self.asked += 1
        if None in self.bits:
            raise HostFault(FaultKind.TIMEOUT, "no answer")
        return frozenset(bit for bit in self.bits if bit is not None)


class At(Silent):
    """Something happens when the rollout comes to a state."""

    def __init__(self, state: State, act: Callable[[], object]) -> None:
        self._state, self._act = state, act

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        if state is self._state and hosts:
            self._act()


def earnest() -> Inventory:
    """The inventory of a fleet that nobody throws away."""
    return rendered().inventory.model_copy(update={"throwaway": False})


def roll(
    world: World,
    made: Build,
    folder: Path,
    senders: Senders | None = None,
    observer: Silent | None = None,
    purpose: Purpose = Purpose.DEPLOY,
) -> tuple[Report, int]:
    artifact = folder / "router"
    artifact.write_bytes(made[1])
    report = Runner(
        earnest(),
        Release(made[0], str(artifact)),
        world.hosts,
        "me@here",
        observer or Silent(),
        Forgetful(),
        plan_id=f"plan-{purpose.value}",
        purpose=purpose,
        senders=senders,
        halted=True,  # whether hosts trade afterwards is test_trading's business
    ).run()
    return report, code(conclude(report, "inventory.yaml"))


def rules(report: Report) -> set[str]:
    return {obstacle.rule for obstacle in report.obstacles}


def test_p3_nobody_deploys_while_a_flag_is_armed_and_the_way_out_is_named(tmp_path: Path) -> None:
    world = World()
    world.change(FlagPurpose.ARM)
    for made in (NEXT, NEW_BUILD):
        report, ended = roll(world, made, tmp_path)
        assert (ended, rules(report)) == (3, {"FLAGS_ARMED"})
        assert len(report.obstacles) == len(world.hosts)
        error = conclude(report, "inventory.yaml")
        assert error is not None
        assert "deploytool flags disarm RETAIL -i inventory.yaml" in error.now
        assert world.all_on
        assert {locked_by(host) for host in world.hosts.values()} == {None}
    world.change(FlagPurpose.DISARM)
    assert roll(world, NEXT, tmp_path)[1] == 0


def test_p3_one_host_on_which_it_is_armed_is_enough(tmp_path: Path) -> None:
    world = World()
    board = board_of(world.hosts["router7"].service)
    assert board is not None
    board.states[FLAG].name = "armed"
    report, ended = roll(world, NEXT, tmp_path)
    assert ended == 3
    assert [o.host for o in report.obstacles] == ["router7"]


def test_p3_what_was_armed_between_the_look_and_the_locks_is_seen_under_them(
    tmp_path: Path,
) -> None:
    world = World()
    at = At(State.LOCKING, lambda: world.change(FlagPurpose.ARM))
    report, ended = roll(world, NEXT, tmp_path, observer=at)
    assert (ended, rules(report)) == (3, {"FLAGS_ARMED"})
    assert State.STAGING not in report.path
    assert world.all_on, "the other operator's arming stands"
    assert {locked_by(host) for host in world.hosts.values()} == {None}


@pytest.mark.parametrize("state", [State.STAGING, State.SWITCHING, State.PROVING])
def test_p3_nothing_is_armed_while_a_fleet_is_changed(state: State, tmp_path: Path) -> None:
    world, ends = World(), list[int]()
    at = At(state, lambda: ends.append(code(world.change(FlagPurpose.ARM)[1])))
    _, ended = roll(world, NEXT, tmp_path, observer=at)
    assert ended == 0
    assert set(ends) == {3}
    assert world.all_off


def test_p3_a_commit_that_a_rollout_overtakes_is_never_settled(tmp_path: Path) -> None:
    """The locks come between the certificate and the commit: every host says no."""
    world = World()
    ends: list[int] = []

    def at_commit(state: Any) -> None:
        if state.name == "COMMITTING" and not ends:
            ends.append(roll(world, NEXT, tmp_path)[1])

    _, error = world.change(FlagPurpose.ARM, at=at_commit)
    assert ends == [0]
    assert code(error) == 4
    assert world.all_off


@pytest.mark.parametrize("purpose", [Purpose.RESUME, Purpose.ROLLBACK])
def test_p3_what_was_interrupted_is_not_gone_on_with_while_a_flag_is_armed(
    purpose: Purpose, tmp_path: Path
) -> None:
    world = World()

    class Ended(BaseException):
        pass

    def end() -> None:
        raise Ended

    with pytest.raises(Ended):
        roll(world, NEXT, tmp_path, observer=At(State.STAGING, end))
    board = board_of(world.hosts["router2"].service)
    assert board is not None
    board.states[FLAG].name = "armed"
    report, ended = roll(world, NEXT, tmp_path, purpose=purpose)
    assert (ended, rules(report)) == (3, {"FLAGS_ARMED"})
    world.change(FlagPurpose.DISARM)
    assert world.all_off, "disarming needs no lock"
    assert roll(world, NEXT, tmp_path, purpose=purpose)[1] == 0


def test_p3_a_process_that_does_not_say_what_is_armed_is_ended_first(tmp_path: Path) -> None:
    world = World()
    world.hosts["router3"].service.quirks.add(Quirk.SILENT)
    report, ended = roll(world, NEXT, tmp_path)
    assert ended == 3
    assert [(o.host, o.rule) for o in report.obstacles] == [("router3", "FLAGS_UNKNOWN")]
    assert "end it first" in report.obstacles[0].text
    world.hosts["router3"].service.crash()
    world.hosts["router3"].service.quirks.clear()
    assert roll(world, NEXT, tmp_path)[1] == 0


# --- what a build makes of a bit ------------------------------------------------------------------

READS: list[tuple[str, Build, Build, Senders | None, bool]] = [
    ("a new runtime flag, nobody to ask: both reject it", OLD, OLD, None, True),
    ("another flag beside, nobody to ask", NEW_BUILD, NEXT, None, True),
    ("graduated, nobody to ask", NEW_BUILD, GRADUATED, None, False),
    ("graduated, not in use", NEW_BUILD, GRADUATED, Senders(0), True),
    ("graduated, in use", NEW_BUILD, GRADUATED, Senders(0, 4), False),
    ("graduated, can't be seen", NEW_BUILD, GRADUATED, Senders(None), False),
    ("retired, in use", NEW_BUILD, RETIRED, Senders(4), False),
    ("retired, not in use", NEW_BUILD, RETIRED, Senders(), True),
    ("the old build obeys it, nobody to ask", OLD, NEW_BUILD, None, False),
    ("the old build obeys it, in use", OLD, NEW_BUILD, Senders(3), False),
    ("the old build obeys it, not in use", OLD, NEW_BUILD, Senders(0, 1), True),
    ("back to it, in use", NEW_BUILD, OLD, Senders(3), False),
    ("back to it, not in use", NEW_BUILD, OLD, Senders(0), True),
    ("back to it, nobody to ask", NEW_BUILD, OLD, None, False),
    ("a build that says nothing, nobody to ask", SILENT, NEW_BUILD, None, False),
    ("a build that says nothing, nothing in use", SILENT, NEW_BUILD, Senders(), True),
    ("a build that says nothing, a bit in use", SILENT, NEW_BUILD, Senders(0), False),
    ("both say nothing", SILENT, ALSO_SILENT, None, True),
    ("both say nothing, nothing in use", SILENT, ALSO_SILENT, Senders(), True),
    ("both say nothing, a bit in use", SILENT, ALSO_SILENT, Senders(9), False),
    ("the same that says nothing, a bit in use", SILENT, SILENT, Senders(9), True),
    ("to one that says nothing, a retired bit in use", NEW_BUILD, SILENT, Senders(3), False),
    ("to one that says nothing, a bit that nobody knows", NEW_BUILD, SILENT, Senders(9), False),
    ("to one that says nothing, nothing in use", NEW_BUILD, SILENT, Senders(), True),
    ("to one that says nothing, nobody to ask", NEW_BUILD, SILENT, None, False),
    ("one that obeys nothing to one that says nothing", EMPTY, SILENT, None, False),
    ("another wire format, a bit in use", NEXT, REFORMED, Senders(0), False),
    ("another wire format, nothing in use", NEXT, REFORMED, Senders(), True),
    ("another wire format, nobody to ask", NEXT, REFORMED, None, False),
    ("another wire format, nothing always on", ONLY, ONLY_REFORMED, None, True),
    ("the same build, whatever is in use", NEXT, NEXT, Senders(0, 4, 5), True),
]


@pytest.mark.parametrize(("before", "to", "senders", "may"), [case[1:] for case in READS],
                         ids=[case[0] for case in READS])  # fmt: skip
def test_p5_no_build_runs_that_reads_a_bit_in_use_otherwise(
    before: Build, to: Build, senders: Senders | None, may: bool, tmp_path: Path
) -> None:
    world = World(fleet.fleet_of(rendered(), before))
    report, ended = roll(world, to, tmp_path, senders)
    if may:
        assert ended == 0, report.obstacles
        return
    assert (ended, rules(report)) == (3, {"FLAGS_READ_DIFFERENTLY"})
    assert {o.host for o in report.obstacles} == {*world.hosts}
    error = conclude(report, "inventory.yaml")
    assert error is not None
    assert "deploytool stop --all" in error.now


def test_p5_where_nothing_runs_no_bit_has_a_meaning_yet(tmp_path: Path) -> None:
    world = World(fleet.fleet_of(rendered(), None))
    assert roll(world, NEW_BUILD, tmp_path, Senders(None))[1] == 0


def stop(world: World, *names: str) -> None:
    """Somebody presses the key for these hosts, or for all."""
    request = Halt(latch="ab12", by="me@here", reason="runaway", since=1, seconds=5)
    for name in names or world.hosts:
        world.hosts[name].call(request, deadline_s=5)


def test_p5_halted_hosts_may_be_switched_whatever_is_sent(tmp_path: Path) -> None:
    world = World(fleet.fleet_of(rendered(), OLD))
    stop(world)
    assert roll(world, NEW_BUILD, tmp_path, Senders(3))[1] == 0
    world = World(fleet.fleet_of(rendered(), OLD))
    stop(world, *[*world.hosts][:7])
    assert roll(world, NEW_BUILD, tmp_path, Senders(3))[1] == 3, "one of eight still trades"


def test_p5_hosts_that_halted_by_themselves_keep_no_meaning_and_have_to_be_stopped_first(
    tmp_path: Path,
) -> None:
    world = World(fleet.fleet_of(rendered(), OLD))
    for host in world.hosts.values():
        host.halts_itself()
    assert roll(world, NEW_BUILD, tmp_path, Senders(3))[1] == 3
    stop(world)
    assert roll(world, NEW_BUILD, tmp_path, Senders(3))[1] == 0


# --- what is live already has its bits (P5) -------------------------------------------------------

PEG = build("2026.10", registry(HIDDEN, runtime("POWER_PEG", 3)))
TAKES_IT = build("2026.11", registry(HIDDEN, runtime("RLP", 3)))
TAKES_NAME = build("2026.12", registry(HIDDEN, runtime("POWER_PEG", 6)))
ANOTHER = build("2026.13", registry(HIDDEN, runtime("POWER_PEG", 3, meaning="Something else.")))
KEEPS = build("2026.14", registry(HIDDEN, reserved("POWER_PEG", 3), runtime("FRESH", 6)))


@pytest.mark.parametrize(
    ("before", "to", "rule"),
    [
        (PEG, TAKES_IT, "FLAG_BIT_NO_REUSE"),
        (KEEPS, TAKES_IT, "FLAG_BIT_NO_REUSE"),
        (PEG, TAKES_NAME, "FLAG_NAME_NO_REUSE"),
        (PEG, ANOTHER, "FLAG_SAME_SEMANTICS"),
        (PEG, KEEPS, None),
        (KEEPS, PEG, None),
        (NEXT, GRADUATED, None),
        (GRADUATED, NEXT, None),
        (SILENT, TAKES_IT, None),
        (PEG, SILENT, None),
    ],
)
def test_p5_no_release_takes_a_bit_or_a_name_of_a_build_that_is_live(
    before: Build, to: Build, rule: str | None, tmp_path: Path
) -> None:
    world = World(fleet.fleet_of(rendered(), before))
    report, ended = roll(world, to, tmp_path, Senders())
    assert survey_rules(World(fleet.fleet_of(rendered(), before)), to) == ({rule} - {None})
    if rule is None:
        assert ended == 0, report.obstacles
        return
    assert ended == 3
    assert rule in rules(report)
    assert {o.host for o in report.obstacles} == {*world.hosts}
    error = conclude(report, "inventory.yaml")
    assert error is not None
    assert "deploytool flags lint -i inventory.yaml" in error.now
    assert {locked_by(host) for host in world.hosts.values()} == {None}


def survey_rules(world: World, made: Build) -> set[str]:
    """What ``plan`` is refused by."""
    found = survey(earnest(), Release(made[0], ""), world.hosts, Senders(), plan_id="plan")
    assert (found.plan is None) == bool(found.obstacles)
    return {obstacle.rule for obstacle in found.obstacles}


def test_p5_one_host_with_an_older_build_is_enough(tmp_path: Path) -> None:
    world = World(fleet.fleet_of(rendered(), NEXT))
    world.hosts["router8"] = fleet.running("router8", rendered(), *PEG)
    report, ended = roll(world, TAKES_IT, tmp_path, Senders())
    assert (ended, rules(report)) == (3, {"FLAG_BIT_NO_REUSE"})
    assert {o.host for o in report.obstacles} == {"router8"}


def test_p5_a_live_build_that_can_t_be_read_is_replaced_only_by_what_serves_beside_it() -> None:
    seen = _shown(NEXT)
    altered = tuple(run.but(sha="f" * 64) for run in seen[NAMES[0]].shown.runs)
    seen[NAMES[0]] = but(seen[NAMES[0]], runs=altered)
    inventory = earnest()
    assert build_conflicts(inventory, seen, NEXT[0]) == ()
    found = build_conflicts(inventory, seen, GRADUATED[0])
    assert [(o.host, o.rule) for o in found] == [(NAMES[0], "FLAG_LIVE_UNREADABLE")]
    flags = NEXT[0].flags
    assert flags is not None
    lie = NEXT[0].model_copy(update={"flags": flags.model_copy(update={"table": "0" * 64})})
    seen = {host: but(item, manifest=lie.canonical()) for host, item in _shown(NEXT).items()}
    assert {o.rule for o in build_conflicts(inventory, seen, GRADUATED[0])} == {
        "FLAG_LIVE_UNREADABLE"
    }
    throwaway = inventory.model_copy(update={"throwaway": True})
    assert build_conflicts(throwaway, seen, GRADUATED[0]) == ()
    nothing = {h: but(e, runs=(), others=(), main=0, current="none") for h, e in seen.items()}
    assert build_conflicts(inventory, nothing, GRADUATED[0]) == ()


# --- started again, under what the senders use ----------------------------------------------------


def starting(world: World, senders: Senders | None) -> set[str]:
    """The hosts, or the fleet, that may not be started, for what the senders use."""
    found = flag_objections(rendered().inventory, world.hosts, world.look(), senders)
    assert {objection.rule for objection in found} <= {"START_FLAGS_READ_DIFFERENTLY"}
    return {objection.host for objection in found}


def kept(world: World) -> set[str | None]:
    """What hosts say that they served with when they were stopped."""
    return {item.marks.meant for item in world.look().values() if isinstance(item, Evidence)}


def let_go(world: World) -> None:
    """Two people start every host."""
    for name, host in world.hosts.items():
        now, halted = int(host.computer.clock), host.pairs("halted")
        latch, stop, of = halted["artifact"], halted["latch"], rendered().inventory.fleet
        asked = StartRequest("bob", name, of, latch, "mended", now, now + 600, stop).canonical()
        sealed = asked + signing.sign(fleet.OPERATOR, asked, NAMESPACE).encode()
        payload = Payload(len(sealed), functools.partial(iter, [sealed]))
        request = Resume(latch="ab12", size=len(sealed))
        answer = host.call(request, deadline_s=5, payload=payload)
        assert isinstance(answer, Resumed)
        assert answer.released
        host.trades_again()


def test_p5_a_build_that_was_put_there_under_the_latch_does_not_trade_on_a_bit_in_use(
    tmp_path: Path,
) -> None:
    """Bit 4 is always on for the senders; the older build obeys it only once it is armed."""
    world = World(fleet.fleet_of(rendered(), GRADUATED))
    stop(world)
    assert starting(world, Senders(4)) == set(), "what runs is what ran"
    assert roll(world, NEXT, tmp_path, Senders(4))[1] == 0
    assert starting(world, Senders(4)) == {*world.hosts}
    assert starting(world, Senders(None)) == {rendered().inventory.fleet}
    assert starting(world, Senders()) == set(), "withdrawn"
    assert starting(world, Senders(0)) == set(), "both read it alike"
    assert starting(world, None) == set(), "nobody to ask"
    assert roll(world, SILENT, tmp_path, Senders(4))[1] == 0
    assert {*world.hosts} <= starting(world, Senders(0)), "it may obey any"
    assert roll(world, GRADUATED, tmp_path, Senders(4))[1] == 0
    assert starting(world, Senders(0, 4)) == set(), "what ran when it was stopped is back"


def test_p5_what_ran_when_it_was_stopped_is_kept_until_it_is_started(tmp_path: Path) -> None:
    world = World(fleet.fleet_of(rendered(), GRADUATED))
    stop(world)
    for made in (NEXT, RETIRED, build("2026.9", registry(HIDDEN)), NEXT):
        assert roll(world, made, tmp_path, Senders(4))[1] == 0
    assert kept(world) == {GRADUATED[0].sha256}
    assert starting(world, Senders(4)) == {*world.hosts}
    let_go(world)
    assert kept(world) == {None}
    assert starting(world, Senders(4)) == set()
    assert roll(world, NEW_BUILD, tmp_path, Senders(0))[1] == 0
    assert kept(world) == {None}, "nobody stopped it"


def test_p5_what_ran_and_can_t_be_read_any_more_read_every_bit_otherwise(tmp_path: Path) -> None:
    world = World(fleet.fleet_of(rendered(), OLD))
    stop(world)
    assert roll(world, build("2026.9", registry(HIDDEN)), tmp_path, Senders(3))[1] == 0
    assert starting(world, Senders(0)) == set()
    host = world.hosts["router4"]
    host.computer.remove(f"{host.root}/releases/{OLD[0].sha256}/release.json")
    world.hosts["router5"].put_mark("meant", f"{'0' * 64}\n")
    assert starting(world, Senders(0)) == {"router4", "router5"}


@pytest.mark.parametrize("bit", [3, 9])
def test_p5_a_bit_in_use_that_a_build_does_not_carry_out_keeps_it_from_being_started(
    bit: int,
) -> None:
    world = World()
    stop(world)
    assert starting(world, Senders(bit)) == {rendered().inventory.fleet}
    assert starting(world, Senders(0, 4)) == set()


def test_p5_the_refusal_says_how_to_go_on(tmp_path: Path) -> None:
    world = World(fleet.fleet_of(rendered(), GRADUATED))
    stop(world)
    assert roll(world, NEXT, tmp_path, Senders(4))[1] == 0
    inventory, seen = rendered().inventory, world.look()
    flags = flag_objections(inventory, world.hosts, seen, Senders(4))
    signers = str(inventory.allowed_signers)
    (tmp_path / "signers").write_text(signers)
    known = inventory.model_copy(update={"signers": str(tmp_path / "signers")})
    with pytest.raises(Refused) as caught:
        ask(known, seen, (), fleet.OPERATOR, "mended", 1, "inventory.yaml", flags)
    assert caught.value.rule == "START_FLAGS_READ_DIFFERENTLY"
    assert "deploytool flags disarm FLAG -i inventory.yaml" in caught.value.now
    assert "deploytool start -i inventory.yaml --all" in caught.value.now
    assert any("bit 4" in line for line in caught.value.details)
    with pytest.raises(Refused) as caught:
        check(known, (), seen, 1, "inventory.yaml", flags)
    assert caught.value.rule == "START_FLAGS_READ_DIFFERENTLY"
    assert ask(known, seen, (), fleet.OPERATOR, "mended", 1, "inventory.yaml", ())


def test_p5_a_bit_that_comes_into_use_during_staging_stops_it_before_any_switch(
    tmp_path: Path,
) -> None:
    world, senders = World(fleet.fleet_of(rendered(), OLD)), Senders(0)

    def begin() -> None:
        senders.bits = (0, 3)

    report, ended = roll(world, NEW_BUILD, tmp_path, senders, At(State.STAGING, begin))
    assert ended == 4
    assert State.STAGING in report.path
    assert {item.release for item in world.look().values() if not isinstance(item, HostFault)} == {
        OLD[0].sha256
    }


def test_p5_the_way_back_is_fenced_too(tmp_path: Path) -> None:
    """Half of the fleet is switched, and then a sender uses the bit that the old build obeys."""
    world, senders = World(fleet.fleet_of(rendered(), OLD)), Senders(0)

    def begin() -> None:
        senders.bits = (0, 3)
        EVENTS[Fault.CRASHES](world.hosts["router8"])

    report, ended = roll(world, NEW_BUILD, tmp_path, senders, At(State.PROVING, begin))
    assert (ended, report.state) == (5, State.HELD)
    assert any("may not go back" in item.text for item in report.trouble.values())
    now = {item.release for item in world.look().values() if not isinstance(item, HostFault)}
    assert now == {NEW_BUILD[0].sha256}, "no host went back to what obeys it"


# --- what is not the end of what a bit means (P3, P5) ---------------------------------------


def test_p5_bytes_that_were_altered_before_they_ran_go_back_to_what_serves_beside_them(
    tmp_path: Path,
) -> None:
    world = World()
    canary = world.hosts["router1"]
    staged = At(State.SWITCHING, lambda: EVENTS[Fault.BYTES_CHANGED](canary))
    report, ended = roll(world, NEXT, tmp_path, observer=staged)
    assert ended == 4, (report.trouble, report.path)
    now = {item.release for item in world.look().values() if not isinstance(item, HostFault)}
    assert now == {NEW_BUILD[0].sha256}


def _shown(made: Build) -> dict[str, Evidence]:
    hosts = fleet.fleet_of(rendered(), made)
    return {n: look(host, probe_request(disk=False), 5) for n, host in hosts.items()}


STOPPED = Latch(latch="ab12", by="me", reason="runaway", since=1)


def _saying(seen: dict[str, Evidence], **said: object) -> dict[str, Evidence]:
    return {
        host: but(item, status={**(item.status or {}), **said}, latch=STOPPED)
        for host, item in seen.items()
    }


def _objected(shown: dict[str, Evidence], now: dict[str, Evidence], *bits: int | None) -> bool:
    """Whether anything is said against the new build; ``now`` is what hosts show when asked."""
    check = FlagCheck(Senders(*bits), lambda names: {name: now[name] for name in names})
    return bool(check.readings(shown, dict.fromkeys(shown, NEW_BUILD[0])))


def test_p5_halted_with_nothing_latched_only_waits_for_its_first_lease() -> None:
    waits = _saying(_shown(OLD), trading_state="HALTED", latch=None, reason="no lease yet")
    assert _objected(waits, waits, 3)
    assert not _objected(waits, waits, 0)
    latched = _saying(waits, latch="ab12")
    assert not _objected(latched, latched, 3)


def test_p5_hosts_that_were_halted_once_and_were_started_since_are_not_halted() -> None:
    trading = _shown(OLD)
    once = _saying(trading, trading_state="HALTED", latch="ab12")
    assert not _objected(once, once, 3)
    assert _objected(once, trading, 3)


def test_p5_a_host_whose_process_has_died_is_not_halted_and_its_bits_are_meant_yet() -> None:
    halted = _saying(_shown(OLD), trading_state="HALTED", latch="ab12")
    dead = {
        host: but(item, main=0, runs=(), processes=(), status=None) for host, item in halted.items()
    }
    assert _objected(dead, dead, 3)
    assert _objected(dead, dead, None), "nobody knows what is sent"
    assert not _objected(dead, dead, 0)
    one = {**halted, NAMES[0]: dead[NAMES[0]]}
    assert _objected(one, one, 3), "what is started there serves"
    assert not FlagCheck(None, lambda _names: {}).readings(
        dead, dict.fromkeys(dead, NEW_BUILD[0])
    ), "without a gateway nobody can be asked, and nothing runs"


def test_p3_p5_a_process_that_its_supervisor_lost_sight_of_serves_all_the_same() -> None:
    lost = {h: but(item, main=0, status=None) for h, item in _shown(OLD).items()}
    assert _objected(lost, lost, 3)
    lost = {h: but(item, main=0, status=None) for h, item in _shown(NEW_BUILD).items()}
    obstacles = FlagCheck(None, lambda names: {n: lost[n] for n in names}).armed(lost)
    assert {(o.host, o.rule) for o in obstacles} == {(host, "FLAGS_UNKNOWN") for host in lost}
    pid = lost[NAMES[0]].running[0].pid
    assert f"process {pid} " in obstacles[0].text, "the advice names it"


def test_p3_a_process_that_its_supervisor_lost_sight_of_is_asked_all_the_same(
    tmp_path: Path,
) -> None:
    world = World()
    service = world.hosts["router3"].service
    process, service.main = service.main, None
    assert process is not None
    check = FlagCheck(None, lambda _names: {})
    seen = {n: look(h, probe_request(), 5) for n, h in world.hosts.items()}
    assert (seen["router3"].main_pid, len(seen["router3"].running)) == (0, 1)
    assert check.armed(seen) == ()
    run = seen["router3"].shown.runs[0]
    twice = but(seen["router3"], runs=(run, run.but(pid=run.pid + 1)))
    (obstacle,) = check.armed({"router3": twice})
    assert f"process {run.pid + 1} " in obstacle.text, "only one of the two has spoken"
    assert roll(world, NEXT, tmp_path)[1] == 0


@pytest.mark.parametrize("liar", [NAMES[0], NAMES[-1]])
def test_p5_one_host_s_word_about_a_build_does_not_count_for_the_others(liar: str) -> None:
    seen = _shown(OLD)
    lie = OLD[0].model_copy(update={"flags": NEW_BUILD[0].flags})
    seen[liar] = but(seen[liar], manifest=lie.canonical())
    assert _objected(seen, seen, 3)


def _link_switched_to(old: Build) -> dict[str, Evidence]:
    """A fleet that runs NEXT; on one host another hand has switched the link to an old release."""
    hosts = fleet.fleet_of(rendered(), NEXT)
    host = next(iter(hosts.values()))
    folder = f"{host.root}/releases/{old[0].sha256}"
    host.computer.put(f"{folder}/release.json", old[0].canonical(), 0o444)
    host.computer.put(f"{folder}/{old[0].name}", old[1], 0o555)
    EVENTS[Fault.LINK_SWITCHED](host)
    return {name: look(host, probe_request(disk=False), 5) for name, host in hosts.items()}


def test_p5_what_runs_is_what_counts_wherever_a_link_leads() -> None:
    seen = _link_switched_to(OLD)
    to = dict.fromkeys(seen, NEXT[0])
    assert FlagCheck(None, lambda _names: {}).readings(seen, to) == ()
    back = FlagCheck(None, lambda _names: {}).readings(seen, dict.fromkeys(seen, OLD[0]))
    assert {obstacle.host for obstacle in back} == set(seen)


def test_p5_a_build_that_nobody_knows_stands_in_the_way() -> None:
    seen = _link_switched_to(OLD)
    first = next(iter(seen))
    alone = {first: seen[first]}
    assert FlagCheck(None, lambda _names: {}).readings(alone, {first: OLD[0]})
    assert not FlagCheck(None, lambda _names: {}).readings(alone, {first: NEXT[0]})


def test_p5_what_nobody_knows_is_replaced_where_the_build_serves_beside_it() -> None:
    seen = _link_switched_to(OLD)
    first = next(iter(seen))
    altered = tuple(run.but(sha="f" * 64) for run in seen[first].shown.runs)
    assert altered
    seen[first] = but(seen[first], runs=altered)
    check = FlagCheck(None, lambda _names: {})
    assert check.readings(seen, {first: NEXT[0]}) == ()
    assert check.readings(seen, {first: OLD[0]})
    nobody = {host: but(item, runs=altered) for host, item in seen.items()}
    assert check.readings(nobody, {first: NEXT[0]}), "what the senders mean is not known"
