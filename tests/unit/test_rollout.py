"""The rollout's table, held to what it promises on every path, and the planning before it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.agent.model import Lock
from deploytool.errors import FaultKind, HostFault, IllegalEvent
from deploytool.fleet.fields import Wave
from deploytool.fleet.model import Digest, split_waves
from deploytool.parity.judge import expect
from deploytool.parity.model import Evidence, HostVerdict, Verdict
from deploytool.parity.table import judge_host
from deploytool.release.model import Release
from deploytool.rollout.admission import consider
from deploytool.rollout.checks import ROOM_BYTES, moved, preflight
from deploytool.rollout.model import Action, Effect, Event, Purpose, State
from deploytool.rollout.outcome import refused
from deploytool.rollout.plan import action, make_plan
from deploytool.rollout.table import ENDS, FIRST, TABLE, RolloutStep, advance

from .evidences import MANIFEST, OTHER_SHA, bare, but, good, rendered, wanted

SETBACKS = {Event.FAILED, Event.UNKNOWN, Event.INTERRUPTED}
UNLOCKS = {State.UNLOCKING, State.UNLOCKING_RESTORED, State.UNLOCKING_REFUSED}
Path = tuple[tuple[State, Event], ...]


def paths(step: RolloutStep, so_far: Path = ()) -> Iterator[tuple[Path, State]]:
    """Every path from here to an end. A further wave is taken once: it changes nothing else."""
    if step.effect is None:
        yield so_far, step.state
        return
    for (state, event), after in TABLE.items():
        if state is step.state and (state, event) not in so_far:
            yield from paths(after, (*so_far, (state, event)))


ALL = [(purpose, path, end) for purpose, first in FIRST.items() for path, end in paths(first)]


def test_every_pair_is_in_the_table_or_illegal() -> None:
    for state, event in itertools.product(State, Event):
        if (state, event) in TABLE:
            assert advance(state, event) == TABLE[state, event]
        else:
            before = dict(TABLE)
            with pytest.raises(IllegalEvent, match=f"{event.name} can't happen in {state.name}"):
                advance(state, event)
            assert dict(TABLE) == before


def test_p7_every_path_ends_and_every_state_is_on_one() -> None:
    assert ALL
    assert {end for _, _, end in ALL} == ENDS
    assert {state for _, path, _ in ALL for state, _ in path} | ENDS == set(State)
    assert {pair for _, path, _ in ALL for pair in path} == set(TABLE)
    going_round = {s for (s, e), step in TABLE.items() if step.state is s}
    assert going_round == {State.SWITCHING}, "only waves repeat, and there are so many of them"


def test_an_end_has_no_way_on_and_everything_else_has_work() -> None:
    for (state, _), step in TABLE.items():
        assert state not in ENDS
        assert (step.effect is None) == (step.state in ENDS)


def test_each_state_always_asks_for_the_same_effect() -> None:
    steps = {*TABLE.values(), *FIRST.values()}
    assert len({step.state for step in steps}) == len(steps)


ON_THE_WAY_BACK = {
    *(State.CHECKING_OLD, State.REVERTING, State.PROVING_OLD, State.HOLDING),
    *(State.UNLOCKING, State.UNLOCKING_RESTORED, State.UNLOCKING_REFUSED),
}


def test_p7_every_state_on_the_way_forward_can_be_interrupted_and_none_on_the_way_back() -> None:
    for state in set(State) - ENDS:
        assert ((state, Event.INTERRUPTED) in TABLE) is (state not in ON_THE_WAY_BACK), state


def test_p1_nothing_is_done_without_a_proof() -> None:
    for _, path, end in ALL:
        events = [event for _, event in path]
        if end is State.DONE:
            assert Event.ALREADY in events or (State.PROVING, Event.PARITY) in path
            assert not SETBACKS & set(events), "what failed, or was not seen, is not done"
        if end is State.RESTORED:
            assert (State.PROVING_OLD, Event.PARITY) in path


def test_p1_a_wave_that_failed_is_the_last_one_that_is_switched() -> None:
    for _, path, _ in ALL:
        states = [state for state, _ in path]
        for number, (_, event) in enumerate(path):
            if event in SETBACKS:
                assert State.SWITCHING not in states[number + 1 :], path
                assert State.STAGING not in states[number + 1 :], path


def test_p1_no_host_is_switched_before_all_are_locked_and_staged() -> None:
    for _, path, _ in ALL:
        if State.SWITCHING in [state for state, _ in path]:
            events = [event for _, event in path]
            first = [state for state, _ in path].index(State.SWITCHING)
            assert events[first - 1] is Event.STAGED
            assert Event.LOCKED in events[:first]


def test_p5_no_host_goes_back_before_the_old_release_was_checked() -> None:
    for _, path, _ in ALL:
        states = [state for state, _ in path]
        if State.REVERTING in states:
            assert path[states.index(State.REVERTING) - 1] == (
                State.CHECKING_OLD,
                Event.OLD_INTACT,
            )


def test_p1_held_never_unlocks_after_anything_was_switched() -> None:
    for _, path, end in ALL:
        states = [state for state, _ in path]
        unlocked = [state for state, event in path if event is Event.UNLOCKED]
        if end is State.HELD:
            assert not unlocked
        if State.SWITCHING in states and set(states) & UNLOCKS:
            at = min(states.index(state) for state in UNLOCKS if state in states)
            assert path[at - 1][1] is Event.PARITY, "locks are given back only after a proof"


def test_p7_undoing_never_goes_forward() -> None:
    for purpose, path, end in ALL:
        if purpose is Purpose.ROLLBACK:
            states = {state for state, _ in path}
            assert not states & {State.STAGING, State.SWITCHING, State.PROVING}
            assert end is not State.DONE


def test_unlocking_is_the_effect_of_unlocking_states_alone() -> None:
    for step in TABLE.values():
        assert (step.effect is Effect.UNLOCK) == (step.state in UNLOCKS)


# --- waves ----------------------------------------------------------------------------------------

NAMES = rendered().inventory.names
WAVES = st.lists(st.integers(1, 12), max_size=6).flatmap(
    lambda sizes: st.sampled_from([(*sizes, "rest"), tuple(sizes)]).filter(bool)
)


@given(WAVES, st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=20))
def test_p2_waves_hold_every_host_once_and_in_order(
    waves: tuple[Wave, ...], names: list[str]
) -> None:
    dealt = split_waves(waves, tuple(names))
    assert [name for wave in dealt for name in wave] == names
    assert all(dealt)
    assert len(dealt) <= len(waves)
    for size, wave in list(zip(waves, dealt, strict=False))[:-1]:
        assert len(wave) == size, "only the last may be another size"


def test_the_canary_goes_first_and_alone() -> None:
    dealt = split_waves((1, 3, "rest"), NAMES)
    assert [len(wave) for wave in dealt] == [1, 3, 4]
    assert dealt[0] == NAMES[:1]


# --- preflight and plan ---------------------------------------------------------------------------

INVENTORY = rendered().inventory
BARE = {name: expect(INVENTORY, name, None) for name in NAMES}


def fleet(**changed: Evidence | HostFault) -> dict[str, Evidence | HostFault]:
    return {name: changed.get(name, bare(name)) for name in NAMES}


def rules(seen: dict[str, Evidence | HostFault]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for obstacle in preflight(seen, BARE, MANIFEST):
        found.setdefault(obstacle.host, set()).add(obstacle.rule)
        assert obstacle.text
    return found


def test_nothing_stands_in_the_way_of_a_bare_fleet_or_a_running_one() -> None:
    assert rules(fleet()) == {}
    assert rules(fleet(**{name: good(name) for name in NAMES})) == {}


def test_p2_every_obstacle_is_named_at_once() -> None:
    lock = Lock(token=3, holder="you@there", purpose="deploy", plan="abc", since=1)
    seen = fleet(
        router1=HostFault(FaultKind.TIMEOUT, "no answer"),
        router2=but(bare("router2"), lacks=("python3",), free=1, skew_s=99.0),
        router3=but(bare("router3"), lock=lock),
        router4=but(bare("router4"), agent=OTHER_SHA),
        router5=but(bare("router5"), free=None),
        router8=but(bare("router8"), unreadable=("rollout",)),
        router7=but(bare("router7"), machine=bare("router6").machine),
    )
    assert rules(seen) == {
        "router1": {"PREFLIGHT_REACHABLE"},
        "router2": {"PREFLIGHT_REQUIRES", "PREFLIGHT_SPACE", "PREFLIGHT_HOST"},
        "router3": {"PREFLIGHT_LOCK"},
        "router4": {"PREFLIGHT_HOST"},
        "router5": {"PREFLIGHT_SPACE"},
        "router6": {"PREFLIGHT_HOST"},
        "router7": {"PREFLIGHT_HOST"},
        "router8": {"PREFLIGHT_LOCK"},
    }


@pytest.mark.parametrize(("free", "state", "allowed"), [(0, None, False), (0, "intact", True)])
def test_a_host_that_holds_the_release_needs_no_room(
    free: int, state: str | None, *, allowed: bool
) -> None:
    seen = fleet(router1=but(bare("router1"), free=free, asked_release=state))
    assert (rules(seen) == {}) is allowed


def test_the_room_that_is_asked_for_is_exact() -> None:
    need = MANIFEST.size + ROOM_BYTES
    for free, allowed in ((need - 1, False), (need, True)):
        seen = fleet(router1=but(bare("router1"), free=free))
        assert (rules(seen) == {}) is allowed


RELEASE = Digest(MANIFEST.sha256)


@pytest.mark.parametrize(
    ("verdict", "state", "linked", "expected"),
    [
        (Verdict.MATCH, "absent", True, Action.NOTHING),
        (Verdict.UNKNOWN, "absent", False, Action.STAGE),
        (Verdict.MISMATCH, "damaged", True, Action.STAGE),
        (Verdict.MISMATCH, "unlabelled", True, Action.STAGE),
        (Verdict.MISMATCH, "intact", True, Action.RESTART),
        (Verdict.MISMATCH, "intact", False, Action.ACTIVATE),
    ],
)
def test_a_host_gets_no_more_than_it_needs(
    verdict: Verdict, state: str, *, linked: bool, expected: Action
) -> None:
    evidence = but(good() if linked else bare(), asked_release=state)
    judged = judge_host("router1", wanted(), good())
    if verdict is not Verdict.MATCH:
        judged = HostVerdict("router1", (), None, None)
    assert action(evidence, judged, RELEASE) is expected


@pytest.mark.parametrize("supervisor", ["systemd", "process"])
@pytest.mark.parametrize("throwaway", [False, True])
def test_p1_a_fleet_without_root_is_deployed_to_only_where_it_may_be_lost(
    supervisor: str, *, throwaway: bool
) -> None:
    made = rendered(supervisor).inventory.model_copy(update={"throwaway": throwaway})
    seen = {name: bare(name, supervisor) for name in made.names}
    found = consider(made, MANIFEST, seen, "p1")
    refuses = supervisor == "process" and not throwaway
    assert {obstacle.rule for obstacle in found.obstacles} == (
        {"PREFLIGHT_ROOT"} if refuses else set()
    )
    if refuses:
        error = refused(found.obstacles, Release(MANIFEST, ""), Purpose.DEPLOY, "fleet.yaml")
        assert error.exit_code == 3
        assert "systemd" in error.now


def test_p2_a_plan_is_for_exactly_the_declared_hosts() -> None:
    seen = {name: bare(name) for name in NAMES}
    for wrong in ({n: e for n, e in seen.items() if n != "router8"}, {**seen, "ninth": bare()}):
        with pytest.raises(ValueError, match="exactly the declared hosts"):
            make_plan("p1", INVENTORY, MANIFEST, wrong, {})


def test_a_plan_moves_with_any_host_it_is_bound_to() -> None:
    seen = {name: bare(name) for name in NAMES}
    verdicts = {n: judge_host(n, wanted(n), item) for n, item in seen.items()}
    plan = make_plan("p1", INVENTORY, MANIFEST, seen, verdicts)
    assert moved(plan, plan) == ()
    assert sorted(h for wave in plan.waves for h in wave) == sorted(plan.to_stage) == list(NAMES)
    for name in NAMES:
        changes = ({"token": 9}, {"machine": "x"}, {"current": "releases/x"}, {"main": 7})
        for change in changes:
            now = {**seen, name: but(seen[name], **change)}
            later = make_plan("p2", INVENTORY, MANIFEST, now, verdicts)
            assert [o.host for o in moved(plan, later)] == [name], change
    other = MANIFEST.model_copy(update={"sha256": OTHER_SHA})
    elsewhere = make_plan("p2", INVENTORY, other, seen, verdicts)
    assert [o.host for o in moved(plan, elsewhere)] == ["release"]
