"""The table of two-phase arming: whole, without loops, and honest about what it reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import product

import pytest

from deploytool.arming.table import (
    ENDS,
    FIRST,
    TABLE,
    ArmingStep,
    Effect,
    Event,
    Purpose,
    State,
    advance,
)
from deploytool.errors import IllegalEvent

TROUBLE = {Event.FAILED, Event.UNKNOWN, Event.INTERRUPTED}
UNCOMMITTED = {State.CHECKING, State.ASKING, State.CERTIFYING, State.PREPARING}


def paths(step: ArmingStep, so_far: tuple[State, ...] = ()) -> Iterator[tuple[State, ...]]:
    """Every way from here to an end."""
    so_far = (*so_far, step.state)
    assert so_far.count(step.state) == 1, f"a loop: {so_far}"
    if step.state in ENDS:
        yield so_far
    for (state, _event), following in TABLE.items():
        if state is step.state:
            yield from paths(following, so_far)


ARMINGS = set(paths(FIRST[Purpose.ARM]))
DISARMINGS = set(paths(FIRST[Purpose.DISARM]))


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_state_and_event_is_in_the_table_or_is_refused(state: State, event: Event) -> None:
    if (state, event) in TABLE:
        step = advance(state, event)
        assert (step.effect is None) == (step.state in ENDS)
        assert state not in ENDS
    else:
        with pytest.raises(IllegalEvent, match=event.name):
            advance(state, event)


def test_everything_in_the_table_can_be_reached_and_everything_has_its_trouble() -> None:
    assert {state for path in ARMINGS for state in path} == set(State)
    for state in set(State) - ENDS:
        assert all((state, event) in TABLE for event in TROUBLE)
        assert any(s is state and e not in TROUBLE for s, e in TABLE)
    effects = {step.effect for step in (*TABLE.values(), *FIRST.values())} - {None}
    assert effects == set(Effect)
    assert {event for _, event in TABLE} == set(Event)


def test_each_effect_is_done_in_one_state_and_each_state_does_one_effect() -> None:
    steps = {*TABLE.values(), *FIRST.values()}
    assert len({step.state for step in steps}) == len(steps)
    assert len({step.effect for step in steps} - {None}) == len(steps) - len(ENDS)


def test_refused_means_that_nothing_was_committed() -> None:
    for path in ARMINGS:
        assert (path[-1] is State.REFUSED) == (State.COMMITTING not in path)


def test_whatever_goes_wrong_after_a_commit_is_disarmed_and_looked_at() -> None:
    for path in ARMINGS:
        if State.COMMITTING in path and path[-1] is not State.ARMED:
            assert path[-3:-1] == (State.WITHDRAWING, State.PROVING_OFF)
            assert path[-1] in {State.OFF, State.NAMED}


def test_the_senders_are_told_last_and_withdraw_first() -> None:
    for path in ARMINGS:
        if State.OPENING in path:
            at = path.index(State.OPENING)
            assert path[at - 4 : at] == (
                State.COMMITTING, State.OBSERVING, State.SETTLING, State.PROVING,
            )  # fmt: skip
            assert path[at + 1 :] == (State.ARMED,) or path[at + 1] is State.CLOSING
    for path in DISARMINGS:
        assert path[:3] == (State.CLOSING, State.WITHDRAWING, State.PROVING_OFF)
        assert path[-1] in {State.OFF, State.NAMED}


# Routers, a sender and a network that may lose each message or its answer: every way it can go.


class Router(Enum):
    """What a router's flag is; a provisional one lapses by itself."""

    OFF = 0
    PROMISED = 1
    PROVISIONAL = 2
    ARMED = 3


@dataclass(frozen=True)
class World:
    """Where the operator is, what two routers are, whether the senders use the flag."""

    state: State
    effect: Effect | None
    routers: tuple[Router, ...] = (Router.OFF, Router.OFF)
    in_use: bool = False


MOVES: dict[Effect, dict[Router, Router]] = {
    Effect.PREPARE: {Router.OFF: Router.PROMISED},
    Effect.COMMIT: {Router.PROMISED: Router.PROVISIONAL},
    Effect.SETTLE: {Router.PROVISIONAL: Router.ARMED},
    Effect.DISARM: dict.fromkeys(Router, Router.OFF),
}
DONE, REFUSED, LOST_BEFORE, LOST_AFTER = "done", "refused", "lost before", "lost after"


def told(effect: Effect, router: Router) -> Iterator[tuple[str, Router]]:
    """Each way in which one router may take a message."""
    after = MOVES[effect].get(router)
    yield LOST_BEFORE, router
    if after is None or effect is not Effect.DISARM:
        yield REFUSED, router
    if after is not None:
        yield DONE, after
        yield LOST_AFTER, after


def good_event(state: State) -> Event:
    (event,) = [e for (s, e) in TABLE if s is state and e not in TROUBLE and e is not Event.REFUSED]
    return event


def outcomes(world: World) -> Iterator[tuple[bool, tuple[Router, ...], bool]]:
    """Whether all went well, and what routers and senders are then."""
    effect, routers, in_use = world.effect, world.routers, world.in_use
    if effect in MOVES:
        for ways in product(*(tuple(told(effect, router)) for router in routers)):
            yield all(way == DONE for way, _ in ways), tuple(after for _, after in ways), in_use
    elif effect in {Effect.OPEN_SENDERS, Effect.CLOSE_SENDERS}:
        wanted = effect is Effect.OPEN_SENDERS
        yield from ((True, routers, wanted), (False, routers, wanted), (False, routers, in_use))
    elif effect is not None:
        seen: dict[Effect, bool] = {
            Effect.OBSERVE_ARMED: all(r in {Router.PROVISIONAL, Router.ARMED} for r in routers),
            Effect.PROVE_ARMED: all(r is Router.ARMED for r in routers),
            Effect.PROVE_OFF: all(r is Router.OFF for r in routers) and not in_use,
        }
        yield from ((good, routers, in_use) for good in {False, seen.get(effect, True)})


def lapses(routers: tuple[Router, ...]) -> Iterator[tuple[Router, ...]]:
    """What may have lapsed by now: anything that isn't settled, or nothing."""
    ways = ([r] if r in {Router.OFF, Router.ARMED} else [r, Router.OFF] for r in routers)
    yield from product(*ways)


def following(world: World) -> Iterator[World]:
    for good, routers, in_use in outcomes(world):
        events = {*TROUBLE, good_event(world.state)} if good else TROUBLE
        for event, later in product(events, lapses(routers)):
            step = advance(world.state, event)
            yield World(step.state, step.effect, later, in_use)


def every(purpose: Purpose, *beginnings: tuple[tuple[Router, ...], bool]) -> set[World]:
    """Every world that can come about."""
    first = FIRST[purpose]
    found = {World(first.state, first.effect, *beginning) for beginning in beginnings}
    ahead = list(found)
    while ahead:
        world = ahead.pop()
        new = set() if world.state in ENDS else set(following(world)) - found
        found |= new
        ahead += new
    return found


OFF_EVERYWHERE = ((Router.OFF, Router.OFF), False)
WORLDS = every(Purpose.ARM, OFF_EVERYWHERE)


def test_an_end_is_what_it_says() -> None:
    assert {world.state for world in WORLDS} == set(State)
    for world in WORLDS:
        if world.state is State.ARMED:
            assert set(world.routers) == {Router.ARMED}
            assert world.in_use
        if world.state is State.OFF:
            assert set(world.routers) == {Router.OFF}
            assert not world.in_use
        if world.state is State.REFUSED:
            assert set(world.routers) <= {Router.OFF, Router.PROMISED}
            assert not world.in_use


def test_the_senders_never_use_it_before_every_router_is_settled() -> None:
    withdrawing = {State.CLOSING, State.WITHDRAWING, State.PROVING_OFF, State.NAMED}
    for world in WORLDS:
        if world.in_use and world.state not in withdrawing:
            assert set(world.routers) == {Router.ARMED}, world


def test_an_operator_who_is_killed_before_settling_leaves_every_flag_off_in_the_end() -> None:
    unsettled = {*UNCOMMITTED, State.COMMITTING, State.OBSERVING, State.SETTLING}
    for world in WORLDS:
        if world.state in unsettled:
            assert Router.ARMED not in world.routers, world
            assert not world.in_use


def test_disarming_ends_whatever_was_left() -> None:
    left = [(routers, use) for routers in product(Router, repeat=2) for use in (False, True)]
    for world in every(Purpose.DISARM, *left):
        if world.state is State.OFF:
            assert world.routers == (Router.OFF, Router.OFF)
            assert not world.in_use
        assert world.state in {
            State.CLOSING, State.WITHDRAWING, State.PROVING_OFF, State.OFF, State.NAMED,
        }  # fmt: skip
