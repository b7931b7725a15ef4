"""What each effect of the table does, and the event that it comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deploytool.core.faults import fault_finding
from deploytool.parity.model import Parity
from deploytool.rollout.effects.forward import Forward
from deploytool.rollout.effects.prepare import Prepare
from deploytool.rollout.effects.revert import Revert
from deploytool.rollout.model import Effect, Event, State


class Effects(Prepare, Forward, Revert):
    """The effects of one rollout, by their names in the table."""

    def concerned(self, effect: Effect) -> tuple[str, ...]:
        """The hosts that an effect is about to change or to look at."""
        if effect is Effect.STAGE:
            return self._plan.to_stage
        if effect is Effect.SWITCH_WAVE:
            return self._next_wave
        if effect in {Effect.CHECK_OLD, Effect.REVERT}:
            return tuple(self._touched)
        return self._inventory.names

    def perform(self, effect: Effect) -> Event:
        """Does one effect."""
        self._observer.state(self._report.state, self.concerned(effect))
        perform: Mapping[Effect, Callable[[], Event]] = {
            Effect.CHECK: self._check,
            Effect.FIND: self._find,
            Effect.TAKE_OVER: self._take_over,
            Effect.LOCK: self._lock,
            Effect.STAGE: self._stage,
            Effect.SWITCH_WAVE: self._switch_wave,
            Effect.PROVE: self._prove,
            Effect.CHECK_OLD: self._check_old,
            Effect.REVERT: self._revert,
            Effect.PROVE_OLD: self._prove_old,
            Effect.UNLOCK: self._unlock,
            Effect.HOLD: self._hold,
        }
        return perform[effect]()

    def _unlock(self) -> Event:
        state = self._report.state
        proven = self._manifest.sha256 if state is State.UNLOCKING else None
        faults = self._hosts.unlock(proven, prune=state is not State.UNLOCKING_REFUSED)
        for name, fault in faults.items():
            text = f"its lock was not released: {fault}"
            self._report.trouble[name] = fault_finding(name, fault, "lock", text)
        return Event.UNKNOWN if faults else Event.UNLOCKED

    def _hold(self) -> Event:
        """Says on every host that answers that the fleet is held, since when, and what ends it."""
        parity = self._report.round.parity if self._report.round else Parity.UNKNOWN
        named = Parity.UNKNOWN if parity is Parity.PARITY else parity
        return Event.UNKNOWN if self._hosts.hold(named.value) else Event.NOTED
