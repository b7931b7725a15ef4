"""The rollout as one table: state x event -> state and effect. Pure.

Staging ends on all
hosts before any host is switched; nothing is unlocked before a proof; ``HELD`` keeps the locks,
so that nobody builds on a fleet that is MIXED or UNKNOWN. Where somebody stops a host, nothing
more is switched, neither forward nor back: the rollout holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deploytool.core.machine import Step, Table
from deploytool.rollout.model import Effect, Event, Purpose, State

RolloutStep = Step[State, Effect]

FIRST: Mapping[Purpose, RolloutStep] = MappingProxyType(
    {
        Purpose.DEPLOY: Step(State.CHECKING, Effect.CHECK),
        Purpose.RESUME: Step(State.FINDING, Effect.FIND),
        Purpose.SUPERSEDE: Step(State.FINDING, Effect.FIND),
        Purpose.ROLLBACK: Step(State.FINDING_TO_UNDO, Effect.FIND),
    }
)
"""Where each begins. A deployer that finds any state of another's, or one that nobody knows,
looks at the hosts first (FINDING): it never assumes, and never rolls back blindly."""
ENDS = frozenset({State.DONE, State.RESTORED, State.REFUSED, State.HELD})

_BACK: RolloutStep = Step(State.CHECKING_OLD, Effect.CHECK_OLD)
_PROVE_OLD: RolloutStep = Step(State.PROVING_OLD, Effect.PROVE_OLD)
_GIVE_BACK: RolloutStep = Step(State.UNLOCKING_REFUSED, Effect.UNLOCK)
_HOLD: RolloutStep = Step(State.HOLDING, Effect.HOLD)
_HELD: RolloutStep = Step(State.HELD, None)

TABLE: Table[State, Event, RolloutStep] = Table(
    {
        (State.CHECKING, Event.CHECKED): Step(State.LOCKING, Effect.LOCK),
        (State.CHECKING, Event.ALREADY): Step(State.DONE, None),
        (State.CHECKING, Event.REFUSED): Step(State.REFUSED, None),
        (State.CHECKING, Event.INTERRUPTED): Step(State.REFUSED, None),
        (State.FINDING, Event.FOUND): Step(State.TAKING_OVER, Effect.TAKE_OVER),
        (State.FINDING, Event.REFUSED): Step(State.REFUSED, None),
        (State.FINDING, Event.INTERRUPTED): Step(State.REFUSED, None),
        (State.FINDING_TO_UNDO, Event.FOUND): Step(State.TAKING_OVER_TO_UNDO, Effect.TAKE_OVER),
        (State.FINDING_TO_UNDO, Event.REFUSED): Step(State.REFUSED, None),
        (State.FINDING_TO_UNDO, Event.INTERRUPTED): Step(State.REFUSED, None),
        (State.TAKING_OVER, Event.LOCKED): Step(State.STAGING, Effect.STAGE),
        (State.TAKING_OVER, Event.REFUSED): _HOLD,
        (State.TAKING_OVER, Event.UNKNOWN): _HOLD,
        (State.TAKING_OVER, Event.INTERRUPTED): _HOLD,
        (State.TAKING_OVER_TO_UNDO, Event.LOCKED): _BACK,
        (State.TAKING_OVER_TO_UNDO, Event.REFUSED): _HOLD,
        (State.TAKING_OVER_TO_UNDO, Event.UNKNOWN): _HOLD,
        (State.TAKING_OVER_TO_UNDO, Event.INTERRUPTED): _HOLD,
        (State.LOCKING, Event.LOCKED): Step(State.STAGING, Effect.STAGE),
        (State.LOCKING, Event.REFUSED): _GIVE_BACK,
        (State.LOCKING, Event.UNKNOWN): _GIVE_BACK,
        (State.LOCKING, Event.INTERRUPTED): _GIVE_BACK,
        (State.STAGING, Event.STAGED): Step(State.SWITCHING, Effect.SWITCH_WAVE),
        (State.STAGING, Event.FAILED): _BACK,
        (State.STAGING, Event.UNKNOWN): _BACK,
        (State.STAGING, Event.INTERRUPTED): _BACK,
        (State.STAGING, Event.STOPPED): _HOLD,
        (State.SWITCHING, Event.WAVE_PROVEN): Step(State.SWITCHING, Effect.SWITCH_WAVE),
        (State.SWITCHING, Event.LAST_WAVE_PROVEN): Step(State.PROVING, Effect.PROVE),
        (State.SWITCHING, Event.FAILED): _BACK,
        (State.SWITCHING, Event.UNKNOWN): _BACK,
        (State.SWITCHING, Event.INTERRUPTED): _BACK,
        (State.SWITCHING, Event.STOPPED): _HOLD,
        (State.PROVING, Event.PARITY): Step(State.UNLOCKING, Effect.UNLOCK),
        (State.PROVING, Event.FAILED): _BACK,
        (State.PROVING, Event.UNKNOWN): _BACK,
        (State.PROVING, Event.INTERRUPTED): _BACK,
        (State.PROVING, Event.STOPPED): _HOLD,
        (State.CHECKING_OLD, Event.OLD_INTACT): Step(State.REVERTING, Effect.REVERT),
        (State.CHECKING_OLD, Event.FAILED): _HOLD,
        (State.CHECKING_OLD, Event.UNKNOWN): _HOLD,
        (State.CHECKING_OLD, Event.STOPPED): _HOLD,
        (State.REVERTING, Event.REVERTED): _PROVE_OLD,
        (State.REVERTING, Event.FAILED): _HOLD,
        (State.REVERTING, Event.UNKNOWN): _HOLD,
        (State.REVERTING, Event.STOPPED): _HOLD,
        (State.PROVING_OLD, Event.PARITY): Step(State.UNLOCKING_RESTORED, Effect.UNLOCK),
        (State.PROVING_OLD, Event.FAILED): _HOLD,
        (State.PROVING_OLD, Event.UNKNOWN): _HOLD,
        (State.PROVING_OLD, Event.STOPPED): _HOLD,
        (State.UNLOCKING, Event.UNLOCKED): Step(State.DONE, None),
        (State.UNLOCKING, Event.UNKNOWN): _HOLD,
        (State.UNLOCKING_RESTORED, Event.UNLOCKED): Step(State.RESTORED, None),
        (State.UNLOCKING_RESTORED, Event.UNKNOWN): _HOLD,
        (State.UNLOCKING_REFUSED, Event.UNLOCKED): Step(State.REFUSED, None),
        (State.UNLOCKING_REFUSED, Event.UNKNOWN): _HOLD,
        (State.HOLDING, Event.NOTED): _HELD,
        (State.HOLDING, Event.UNKNOWN): _HELD,
    }
)


advance = TABLE.advance
