"""The rollout as one table: state x event -> state and effect. Pure.

A pair that isn't in the table is an error, and leaves the state as it was. Staging ends on all
hosts before any host is switched; nothing is unlocked before a proof; ``HELD`` keeps the locks,
so that nobody builds on a fleet that is MIXED or UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deploytool.errors import IllegalEvent
from deploytool.rollout.model import Effect, Event, State, Step

FIRST = Step(State.CHECKING, Effect.CHECK)
ENDS = frozenset({State.DONE, State.RESTORED, State.REFUSED, State.HELD})

_BACK = Step(State.CHECKING_OLD, Effect.CHECK_OLD)
_PROVE_OLD = Step(State.PROVING_OLD, Effect.PROVE_OLD)
_GIVE_BACK = Step(State.UNLOCKING_REFUSED, Effect.UNLOCK)
_HELD = Step(State.HELD, None)

TABLE: Mapping[tuple[State, Event], Step] = MappingProxyType(
    {
        (State.CHECKING, Event.CHECKED): Step(State.LOCKING, Effect.LOCK),
        (State.CHECKING, Event.ALREADY): Step(State.DONE, None),
        (State.CHECKING, Event.REFUSED): Step(State.REFUSED, None),
        (State.CHECKING, Event.INTERRUPTED): Step(State.REFUSED, None),
        (State.LOCKING, Event.LOCKED): Step(State.STAGING, Effect.STAGE),
        (State.LOCKING, Event.REFUSED): _GIVE_BACK,
        (State.LOCKING, Event.UNKNOWN): _GIVE_BACK,
        (State.LOCKING, Event.INTERRUPTED): _GIVE_BACK,
        (State.STAGING, Event.STAGED): Step(State.SWITCHING, Effect.SWITCH_WAVE),
        (State.STAGING, Event.FAILED): _PROVE_OLD,
        (State.STAGING, Event.UNKNOWN): _PROVE_OLD,
        (State.STAGING, Event.INTERRUPTED): _PROVE_OLD,
        (State.SWITCHING, Event.WAVE_PROVEN): Step(State.SWITCHING, Effect.SWITCH_WAVE),
        (State.SWITCHING, Event.LAST_WAVE_PROVEN): Step(State.PROVING, Effect.PROVE),
        (State.SWITCHING, Event.FAILED): _BACK,
        (State.SWITCHING, Event.UNKNOWN): _BACK,
        (State.SWITCHING, Event.INTERRUPTED): _BACK,
        (State.PROVING, Event.PARITY): Step(State.UNLOCKING, Effect.UNLOCK),
        (State.PROVING, Event.FAILED): _BACK,
        (State.PROVING, Event.UNKNOWN): _BACK,
        (State.PROVING, Event.INTERRUPTED): _BACK,
        (State.CHECKING_OLD, Event.OLD_INTACT): Step(State.REVERTING, Effect.REVERT),
        (State.CHECKING_OLD, Event.FAILED): _HELD,
        (State.CHECKING_OLD, Event.UNKNOWN): _HELD,
        (State.CHECKING_OLD, Event.INTERRUPTED): _HELD,
        (State.REVERTING, Event.REVERTED): _PROVE_OLD,
        (State.REVERTING, Event.FAILED): _HELD,
        (State.REVERTING, Event.UNKNOWN): _HELD,
        (State.REVERTING, Event.INTERRUPTED): _HELD,
        (State.PROVING_OLD, Event.PARITY): Step(State.UNLOCKING_RESTORED, Effect.UNLOCK),
        (State.PROVING_OLD, Event.FAILED): _HELD,
        (State.PROVING_OLD, Event.UNKNOWN): _HELD,
        (State.PROVING_OLD, Event.INTERRUPTED): _HELD,
        (State.UNLOCKING, Event.UNLOCKED): Step(State.DONE, None),
        (State.UNLOCKING, Event.UNKNOWN): _HELD,
        (State.UNLOCKING, Event.INTERRUPTED): _HELD,
        (State.UNLOCKING_RESTORED, Event.UNLOCKED): Step(State.RESTORED, None),
        (State.UNLOCKING_RESTORED, Event.UNKNOWN): _HELD,
        (State.UNLOCKING_RESTORED, Event.INTERRUPTED): _HELD,
        (State.UNLOCKING_REFUSED, Event.UNLOCKED): Step(State.REFUSED, None),
        (State.UNLOCKING_REFUSED, Event.UNKNOWN): _HELD,
        (State.UNLOCKING_REFUSED, Event.INTERRUPTED): _HELD,
    }
)


def advance(state: State, event: Event) -> Step:
    """What follows when ``event`` happens in ``state``.

    Raises:
        IllegalEvent: the table has no such row; nothing changes.
    """
    try:
        return TABLE[state, event]
    except KeyError:
        raise IllegalEvent(f"{event.name} can't happen in {state.name}") from None
