"""What a watch makes of what it sees: whom it renews, and what it calls drift (P6)."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.model import Asked, Finished, Latch, ManifestShown, RolloutMark
from deploytool.agent.requests import Answer, LookAnswer, RenewLease, Request, Told
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.members import Members, with_hosts, without
from deploytool.fleet.model import Inventory
from deploytool.parity.judge import judge
from deploytool.parity.model import Evidence, Verdict
from deploytool.simulation import fleet, program
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.members import listed
from deploytool.stop.targets import StopTargets, Target
from deploytool.watch import runner
from deploytool.watch.checks import carry_status, declared_by, drifts, meant, own_manifest, passing
from deploytool.watch.connection import Answered
from deploytool.watch.lease import Lease
from deploytool.watch.runner import Policy, Watch, WatchSummary
from deploytool.watch.server import StopServer
from tests.unit.evidences import MANIFEST, OTHER_SHA, but, good, rendered

OLD, NEW = program.build("2026.0"), program.build("2026.1")
LEASE_S = 20.0


def rolling(evidence: Evidence, target: str | None, before: str | None) -> Evidence:
    return but(
        evidence,
        rollout=RolloutMark(plan="p", target=target, before=before, phase="activating", since=1),
    )


# --- pure -----------------------------------------------------------------------------------------


def test_a_host_is_meant_to_run_what_is_declared_or_what_a_rollout_brings_or_takes() -> None:
    assert meant(good(), "a" * 64) == {"a" * 64}
    assert meant(good(), None) == frozenset()
    assert meant(rolling(good(), "b" * 64, "a" * 64), "c" * 64) == {"a" * 64, "b" * 64}
    assert meant(rolling(good(), "b" * 64, None), "c" * 64) == {"b" * 64}


def test_a_host_s_own_manifest_is_believed_only_for_the_bytes_that_it_digested() -> None:
    assert own_manifest(good()) == MANIFEST
    assert own_manifest(but(good(), manifest=ManifestShown(sha=OTHER_SHA, text="{}"))) is None
    assert own_manifest(but(good(), current=f"releases/{OTHER_SHA}")) is None
    assert own_manifest(but(good(), manifest=b"{}")) is None
    assert own_manifest(but(good(), manifest=None)) is None


def test_what_a_process_said_is_carried_over_for_that_process_alone() -> None:
    mute = but(good(), status=None)
    assert carry_status(mute, good()).status == good().status
    assert carry_status(mute, None).status is None
    main = mute.processes[mute.main_pid]
    younger = (main.but(start=main.start + 1),)
    assert carry_status(but(mute, processes=younger), good()).status is None
    assert carry_status(but(mute, boot="another"), good()).status is None


LATCH = Latch(latch="ab12", by="me@here", reason="runaway orders", since=1)


def saying(state: str, latch: Latch | None = LATCH) -> Evidence:
    return but(good(), latch=latch, status={**(good().status or {}), "trading_state": state})


def test_p6_what_was_stopped_has_to_say_anew_where_it_stands() -> None:
    mute = but(good(), status=None, latch=LATCH)
    for before in (good(), saying("HALTED"), saying("ACTIVE")):
        assert carry_status(mute, before).status is None


def test_between_the_latch_and_the_halt_nothing_is_drift() -> None:
    assert passing(saying("ACTIVE"), None)
    assert passing(saying("ACTIVE"), good())
    assert passing(saying("ACTIVE"), saying("HALTED")), "a start is at its end"
    assert not passing(saying("ACTIVE"), saying("ACTIVE")), "twice is no moment"
    assert not passing(saying("HALTED"), saying("ACTIVE"))
    assert not passing(saying("ACTIVE", None), good())
    assert not passing(but(good(), latch=LATCH, status=None), good())


# --- leases ---------------------------------------------------------------------------------------


def answer(said: object) -> Answer:
    if isinstance(said, str) and "refused" in said:
        return Told(said=Asked(way="command", code=3, answer="", errors=said))
    text = said if isinstance(said, str) else json.dumps(said)
    return Told(said=Asked(way="command", code=0, answer=text))


GIVEN = {"nonce": "n1", "left_s": 0.0, "lease_s": LEASE_S}


def test_a_lease_is_known_by_the_newest_nonce_that_came() -> None:
    lease = Lease("router1")
    assert (lease.known, lease.request()) == (None, RenewLease())
    assert lease.learn(answer(GIVEN), 100.0) == ""
    assert lease.known is not None
    assert (lease.known.wall, lease.known.lease_s, lease.known.taken) == (100.0, LEASE_S, False)
    assert lease.request() == RenewLease(nonce="n1")


@pytest.mark.parametrize(
    "said",
    ["", "[]", "7", "{}", '{"nonce": "x", "left_s": "soon", "lease_s": 1}', "[" * 50_000],
    ids=lambda said: said[:20],
)
def test_p6_an_odd_answer_to_a_renewal_changes_nothing_and_ends_nothing(said: str) -> None:
    lease = Lease("router1")
    lease.learn(answer(GIVEN), 100.0)
    assert lease.learn(answer(said), 200.0)
    assert lease.known is not None
    assert lease.known.wall == 100.0
    assert lease.learn(Answer(), 300.0)
    assert lease.known.wall == 100.0


def test_p6_who_is_told_that_another_renews_gives_way_and_says_so_from_then_on() -> None:
    for first in (True, False):
        lease = Lease("router1")
        if first:
            lease.learn(answer(GIVEN), 100.0)
        assert lease.learn(answer("router: refused (LEASE_TAKEN): by another"), 105.0)
        assert lease.taken
        assert lease.known is not None
        assert lease.known.taken


def test_a_nonce_that_is_lost_is_asked_for_anew() -> None:
    lease = Lease("router1")
    lease.learn(answer(GIVEN), 100.0)
    lease.learn(answer("router: refused (LEASE_NONCE): stale"), 105.0)
    assert lease.request() == RenewLease()


# --- a watch over simulated hosts -----------------------------------------------------------------


class Clock:
    """A watch's time: it goes on by one tick each time the watch has gone once around.

    However slow the machine is, what is due between two rounds comes before the second one.
    """

    TICK_S = 0.01

    def __init__(self) -> None:
        self._ticks = 0

    def tick(self) -> None:
        self._ticks += 1

    def monotonic(self) -> float:
        return 1000.0 + self._ticks * self.TICK_S

    def time(self) -> float:
        return time.time()


class Line:
    """A line to a simulated host: asked without waiting, and answered at the next tick."""

    hosts: dict[str, SimulatedHost | None]
    renewed: dict[str, list[int]]
    """The processes whose leases were prolonged, on each host, in order."""
    tells: bool
    """Whether the processes say which they are."""
    then: Callable[[], None]
    """What befalls the fleet once router8's lease has been prolonged."""
    said: list[str]
    """What the watch has told whoever keeps it."""

    def __init__(self, target: Target) -> None:
        self._host = target.host
        self._waiting: tuple[Request, Answered] | None = None
        self.line = None
        self.ready, self.idle = False, False

    @property
    def free(self) -> bool:
        return self._waiting is None

    def ask(self, request: Request, answered: Answered) -> None:
        self._waiting = (request, answered)

    def hear(self) -> None:
        """Nothing is ever heard between ticks."""

    def tick(self) -> None:
        if self._waiting is None:
            return
        host = self.hosts[self._host]
        request, answered = self._waiting
        if host is None:
            return  # it hangs: the round has to end without it
        self._waiting = None
        asked_at = time.time()
        if isinstance(request, RenewLease):
            answered(self._lease(host, request.nonce), asked_at)
            return
        try:
            answer = host.call(request, deadline_s=1.0)
        except HostFault as fault:
            answered(fault, asked_at)
        else:
            answered(answer, asked_at)

    def _lease(self, host: SimulatedHost, nonce: str | None) -> Answer:
        """As a router does it: a nonce is of one process, and another one refuses it."""
        main = host.service.main
        mine = f"n{main.pid if main else 0}"
        if nonce not in {None, mine}:
            return answer("router: refused (LEASE_NONCE): not of mine")
        if nonce is not None and main is not None:
            self.renewed.setdefault(self._host, []).append(main.pid)
            if self._host == "router8":
                Line.then()
        tells = {"pid": main.pid} if Line.tells and main is not None else {}
        return answer({**GIVEN, "nonce": mine, **tells})

    def take(self) -> None:
        return None

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., WatchSummary]:
    """Runs a watch for some rounds over a fleet on 2026.1 in which some hosts are odd."""
    request.getfixturevalue("runtime")  # a door of its own
    inventory: Inventory = rendered().inventory.model_copy(update={"lease_s": LEASE_S})
    path = tmp_path / "fleet.yaml"
    path.write_text("fleet: simulated\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "WatchConnection", Line)
    monkeypatch.setattr(runner, "_TICK_S", 0.0)
    monkeypatch.setattr(runner, "_ROUND_S", 0.05)
    monkeypatch.setattr(runner, "RENEWALS_A_LEASE", 10_000)

    def run(
        rounds: int = 3,
        policy: Policy | None = None,
        then: Callable[[SimulatedHost | None], None] | None = None,
        *,
        tells: bool = False,
        **odd: SimulatedHost | None,
    ) -> WatchSummary:
        built = fleet.Rendered.of(rendered().inventory)
        Line.hosts = {**fleet.fleet_of(built, NEW), **odd}
        Line.renewed, Line.tells = {}, tells
        Line.then = lambda: None if then is None else then(Line.hosts["router8"])
        door = StopServer(path)
        targets = tuple(Target(host, ("false",)) for host in inventory.names)
        card = StopTargets("simulated", str(tmp_path), targets, lease_s=LEASE_S)
        said: list[str] = []
        Line.said = said
        clock = Clock()
        monkeypatch.setattr(runner, "time", clock)

        def ended() -> bool:
            clock.tick()
            return kept.seen.rounds >= rounds

        every = policy or Policy(every_s=0.05)
        kept = Watch(inventory, card, NEW[0], every, door, said.append, ended)
        try:
            return kept.run()
        finally:
            door.close()

    return run


def other(host: str, release: Any = OLD) -> SimulatedHost:
    return fleet.running(host, fleet.Rendered.of(rendered().inventory), *release)


def test_all_that_match_are_renewed(seen: Callable[..., WatchSummary]) -> None:
    found = seen()
    assert (found.drifted, found.unknown) == ({}, {})
    assert set(Line.renewed) == set(rendered().inventory.names)


def test_p7_a_fleet_that_was_left_mixed_is_said_once(seen: Callable[..., WatchSummary]) -> None:
    held = other("router2", NEW)
    text = "verdict MIXED\nholder ann@desk\nplan p\nnext resume-or-rollback\nsince 1\n"
    held.put_mark("held", text)
    assert seen(rounds=4, router2=held).rounds >= 4
    (line,) = (line for line in Line.said if "MIXED since" in line)
    assert line.startswith("router2: MIXED since 1970-01-01 00:00:01Z, left by ann@desk")


def test_p6_a_host_that_hangs_lets_no_other_s_lease_run_out(
    seen: Callable[..., WatchSummary],
) -> None:
    found = seen(rounds=6, router3=None)
    assert set(found.unknown) == {"router3"}, "a query that failed is never 'no drift'"
    assert not found.drifted
    assert set(Line.renewed) == set(rendered().inventory.names) - {"router3"}


def test_p6_a_host_that_differs_is_not_renewed_and_all_others_are(
    seen: Callable[..., WatchSummary],
) -> None:
    found = seen(router8=other("router8"))
    assert set(found.drifted) == {"router8"}
    assert set(Line.renewed) == set(rendered().inventory.names) - {"router8"}
    assert found.pictures["router8"].verdict is Verdict.MISMATCH
    assert found.rounds >= 3, "a watch goes on when a host drifts: the other leases hang on it"


def test_p6_an_old_process_behind_a_new_link_is_not_renewed(
    seen: Callable[..., WatchSummary],
) -> None:
    stale = other("router8", NEW)
    computer, root = stale.computer, stale.root
    computer.put(f"{root}/releases/{OLD[0].sha256}/router", OLD[1], 0o555)
    computer.link(f"{root}/current", f"releases/{OLD[0].sha256}")
    stale.service.stop()
    stale.service.start()
    computer.link(f"{root}/current", f"releases/{NEW[0].sha256}")
    found = seen(router8=stale)
    assert set(found.drifted) == {"router8"}
    assert "router8" not in Line.renewed


def halting(host: str, *, obeys: bool) -> SimulatedHost:
    """A host that somebody stopped; one that does not obey says ACTIVE all the same."""
    made = other(host, NEW)
    made.put_mark("halted", "latch ab12\nby me\nreason r\nsince 1\n")
    if obeys:
        made.halts_itself()
    return made


def test_p6_what_was_stopped_is_renewed_only_while_it_says_halted(
    seen: Callable[..., WatchSummary],
) -> None:
    found = seen(rounds=8, router2=halting("router2", obeys=True))
    assert not found.drifted
    assert "router2" in Line.renewed, "it can be started again"
    found = seen(rounds=8, router2=halting("router2", obeys=False))
    assert set(found.drifted) == {"router2"}
    assert set(Line.renewed) == set(rendered().inventory.names) - {"router2"}


def test_p6_a_stop_under_way_is_no_drift_whatever_was_said_before(
    seen: Callable[..., WatchSummary],
) -> None:
    def stop(host: SimulatedHost | None) -> None:
        if host is not None:
            host.put_mark("halted", "latch ab12\nby me\nreason r\nsince 1\n")
            host.halts_itself()

    found = seen(rounds=10, then=stop)
    assert not found.drifted
    assert found.pictures["router8"].verdict is Verdict.MATCH


def answers(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, *states: str | None) -> None:
    """What its process says at each look that asks it, the last again and again; None: nothing."""
    left, call = list(states), host.call

    def answer_to(asked: Request, *, deadline_s: float) -> Answer:
        answer = call(asked, deadline_s=deadline_s)
        if not isinstance(answer, LookAnswer) or answer.evidence.status is None:
            return answer
        state = left.pop(0) if len(left) > 1 else left[0]
        said = json.loads(answer.evidence.status.answer)
        del said["trading_state"]
        said |= {} if state is None else {"trading_state": state}
        status = answer.evidence.status.but(answer=json.dumps(said))
        return answer.but(evidence=answer.evidence.but(status=status))

    monkeypatch.setattr(host, "call", answer_to)


def test_between_latch_and_halt_a_watch_waits_for_the_next_look(
    seen: Callable[..., WatchSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = halting("router2", obeys=True)
    answers(host, monkeypatch, "ACTIVE", "HALTED")
    found = seen(rounds=6, router2=host)
    assert not found.drifted
    assert not found.unknown
    assert found.pictures["router2"].verdict is Verdict.MATCH


def test_p6_what_was_stopped_and_does_not_say_where_it_stands_is_not_renewed(
    seen: Callable[..., WatchSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = halting("router2", obeys=True)
    answers(host, monkeypatch, None)
    seen(rounds=6, router2=host)
    assert set(Line.renewed) == set(rendered().inventory.names) - {"router2"}


def restarts(verified: bool) -> Callable[[SimulatedHost | None], None]:
    """Its supervisor starts router8 anew, once; a deployment also writes down that it looked."""
    done: list[int] = []

    def restart(host: SimulatedHost | None) -> None:
        if host is None or done:
            return
        service = host.service
        service.stop()
        service.start()
        assert service.main is not None
        done.append(service.main.pid)
        if verified:
            mark = {"release": NEW[0].sha256, "pid": service.main.pid, "start": service.main.start}
            mark |= {"boot": host.computer.boot_id, "token": 2, "since": 2}
            text = "".join(f"{key} {value}\n" for key, value in mark.items())
            host.computer.put(f"{service.root}/state/verified", text.encode())
            fleet.note_start(host)

    return restart


@pytest.mark.parametrize("tells", [False, True])
def test_p6_a_process_that_nobody_looked_at_is_not_renewed(
    seen: Callable[..., WatchSummary], *, tells: bool
) -> None:
    """The look before the restart was of another process."""
    found = seen(rounds=12, then=restarts(verified=False), tells=tells)
    assert "router8" in found.drifted
    assert len(set(Line.renewed["router8"])) == 1, "the one that it was before"


@pytest.mark.parametrize("tells", [False, True])
def test_a_process_that_was_verified_is_renewed_by_the_next_looks(
    seen: Callable[..., WatchSummary], *, tells: bool
) -> None:
    found = seen(rounds=6, then=restarts(verified=True), tells=tells)
    assert not found.drifted
    assert len(set(Line.renewed["router8"])) == 2


def test_a_process_that_says_which_it_is_needs_no_other_look(
    seen: Callable[..., WatchSummary],
) -> None:
    seen(rounds=2, policy=Policy(every_s=1.0), tells=True)
    assert set(Line.renewed) == set(rendered().inventory.names)
    assert all(len(pids) >= 2 for pids in Line.renewed.values()), "again and again, on one look"


def test_a_watch_that_is_to_end_at_drift_does(seen: Callable[..., WatchSummary]) -> None:
    policy = Policy(every_s=0.05, until_drift=True)
    assert seen(rounds=50, policy=policy, router8=other("router8")).rounds < 50


@pytest.mark.parametrize("release", [OLD, NEW], ids=["not switched yet", "switched"])
def test_p6_a_rolling_deployment_halts_nobody(
    seen: Callable[..., WatchSummary], release: Any
) -> None:
    """On either of its two releases a host is what it is meant to be."""
    moving = other("router2", release)
    root = moving.service.root
    target, before = NEW[0].sha256, OLD[0].sha256
    text = f"plan p\ntarget {target}\nbefore {before}\nphase activated\nsince 1\n"
    moving.computer.put(f"{root}/state/rollout", text.encode())
    found = seen(router2=moving)
    assert not found.drifted
    assert set(Line.renewed) == set(rendered().inventory.names)
    stray = other("router2", program.build("2026.9"))
    stray.computer.put(f"{root}/state/rollout", text.encode())
    seen(router2=stray)
    assert "router2" not in Line.renewed, "a third one is not"


def test_the_last_sure_picture_is_kept(seen: Callable[..., WatchSummary]) -> None:
    found = seen(router3=None)
    assert "router3" not in found.pictures
    assert found.pictures["router1"].verdict is Verdict.MATCH


@pytest.mark.parametrize(
    ("finished", "odd", "declares"),
    [
        (MANIFEST.sha256, None, True),
        (None, None, False),
        (OTHER_SHA, None, False),
        (MANIFEST.sha256, "router8", False),
    ],
    ids=["finished", "simply there", "another was finished", "one host differs"],
)
def test_only_a_finished_rollout_declares_another_release(
    finished: str | None, odd: str | None, *, declares: bool
) -> None:
    mark = Finished(plan="p", target=finished, before=OTHER_SHA) if finished else None
    inventory = rendered().inventory
    found: dict[str, Evidence | HostFault] = {
        host: but(good(host), finished=mark) for host in inventory.names
    }
    if odd is not None:
        found[odd] = HostFault(FaultKind.UNREACHABLE, "gone")
    taken = judge(inventory, found, MANIFEST)
    before = MANIFEST.model_copy(update={"sha256": OTHER_SHA})
    assert declared_by(taken, before, MANIFEST) is declares
    assert declared_by(taken, None, MANIFEST), "nothing was declared yet"
    assert not declared_by(taken, MANIFEST, MANIFEST)


def test_during_a_rollout_nothing_is_drift() -> None:
    inventory = rendered().inventory
    found: dict[str, Evidence | HostFault] = {host: good(host) for host in inventory.names}
    switched = but(good("router8"), current=f"releases/{OTHER_SHA}")
    found["router8"] = switched
    assert set(drifts(judge(inventory, found, MANIFEST))) == {"router8"}
    found["router8"] = rolling(switched, OTHER_SHA, MANIFEST.sha256)
    assert not drifts(judge(inventory, found, MANIFEST))


def test_p6_a_stop_that_asks_a_moment_after_it_knocked_is_heard_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("runtime")
    path = tmp_path / "fleet.yaml"
    path.write_text("fleet: simulated\n")
    monkeypatch.setattr(runner, "_TICK_S", 600.0)  # nothing else wakes it
    door, done = StopServer(path), threading.Event()
    card = StopTargets("simulated", str(tmp_path), ())
    kept = Watch(rendered().inventory, card, NEW[0], Policy(600.0), door, print, done.is_set)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(kept.run)
        try:
            with socket.socket(socket.AF_UNIX) as stop:
                stop.settimeout(20)
                stop.connect(str(door.path))
                time.sleep(0.2)  # the watch has opened, and has nothing to read yet
                order = {"by": "ann", "reason": "r", "latch": "ab", "pressed": 1, "only": ""}
                stop.sendall(json.dumps({"stop": ["router1"], **order}).encode() + b"\n")
                assert b"taking" in stop.recv(4096)
        finally:
            done.set()
            with socket.socket(socket.AF_UNIX) as knock:
                knock.connect(str(door.path))
            watching.result(20)
            door.close()


def test_p6_a_stop_that_knocks_as_a_line_breaks_is_heard(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The number of a line that has ended is the next one's, and that may be the stop's."""
    request.getfixturevalue("runtime")
    path = tmp_path / "fleet.yaml"
    path.write_text("fleet: simulated\n")
    door = StopServer(path)
    card = StopTargets("simulated", str(tmp_path), ())
    kept = Watch(rendered().inventory, card, NEW[0], Policy(600.0), door, print)
    line, other_end = os.pipe()
    owner = object()
    kept._listening.add(line, owner)
    with socket.socket(socket.AF_UNIX) as stop:
        stop.connect(str(door.path))
        os.close(line)
        assert not kept._attend()
        (caller,) = kept._callers
        assert caller.connection.fileno() == line
        kept._listening.drop(line, owner)  # who lets go of the line lets go of nothing
        order = {"by": "ann", "reason": "r", "latch": "ab", "pressed": 1, "only": ""}
        stop.sendall(json.dumps({"stop": ["router1"], **order}).encode() + b"\n")
        assert caller in list(kept._listening.wait(5))
        kept._attend()
        stop.settimeout(20)
        assert b"taking" in stop.recv(4096)
    os.close(other_end)
    kept._close()
    door.close()


# --- members --------------------------------------------------------------------------------------

LIST = "/etc/deploytool/router/members"


def keeping(host: str, members: Members) -> SimulatedHost:
    kept = other(host, NEW)
    kept.computer.put(LIST, members.text.encode())
    return kept


def test_p1_who_was_taken_off_the_list_is_not_renewed_and_all_others_are(
    seen: Callable[..., WatchSummary],
) -> None:
    full = listed(rendered().inventory)
    less = without("simulated", {"router1": full}, "router8")
    assert less is not None
    found = seen(router1=keeping("router1", less))
    assert set(found.drifted) == {"router8"}
    assert set(Line.renewed) == set(rendered().inventory.names) - {"router8"}
    assert any("epoch 1, which epoch 2 replaced" in line for line in Line.said), "and it is told"


def test_p1_a_member_that_the_inventory_lacks_is_told_and_ends_no_renewal(
    seen: Callable[..., WatchSummary],
) -> None:
    full = listed(rendered().inventory)
    new = full.hosts[0].but(name="router9", machine="9" * 32)
    more = with_hosts("simulated", {"router1": full}, [new])
    found = seen(**{name: keeping(name, more) for name in rendered().inventory.names})
    assert (found.drifted, found.unknown) == ({}, {})
    assert set(Line.renewed) == set(rendered().inventory.names)
    assert any("not in it: router9" in line for line in Line.said)
