"""Runs a rollout: asks the table what is next, writes it down, has it done, tells the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deploytool.agent.model import KnownRelease
from deploytool.core.machine import run
from deploytool.core.observer import Observer
from deploytool.errors import EnvironmentProblem
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.registry.compatibility import Senders
from deploytool.release.model import Release
from deploytool.rollout.effects.dispatch import Effects
from deploytool.rollout.journal import Recorder
from deploytool.rollout.model import Effect, Event, Plan, Purpose, State
from deploytool.rollout.report import Report
from deploytool.rollout.table import ENDS, FIRST, TABLE

_STEPS_AT_MOST = 2048
_GOES_FORWARD = frozenset(
    {
        *(State.CHECKING, State.FINDING, State.FINDING_TO_UNDO, State.LOCKING, State.TAKING_OVER),
        *(State.TAKING_OVER_TO_UNDO, State.STAGING, State.SWITCHING, State.PROVING),
    }
)
"""Where the user may break it off. On the way back and while giving locks back there is nothing
safer than to go on; whoever asks a second time ends the deployer itself."""
_NOTHING_DONE = frozenset({State.CHECKING, State.FINDING, State.FINDING_TO_UNDO})


class Runner:
    """One rollout of one release to one fleet."""

    def __init__(
        self,
        inventory: Inventory,
        release: Release,
        hosts: Mapping[str, Host],
        holder: str,
        observer: Observer,
        recorder: Recorder,
        *,
        plan_id: str,
        purpose: Purpose = Purpose.DEPLOY,
        bound: Plan | None = None,
        senders: Senders | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        forward: bool = False,
        halted: bool = False,
        known: tuple[KnownRelease, ...] = (),
    ) -> None:
        first = FIRST[purpose]
        self.report = Report(purpose, first.state, release.label, release.digest)
        self.report.may_be_halted = halted or inventory.service.expect_state == "halted"
        self._first = first
        self._recorder = recorder
        self._interrupted = interrupted
        self._effects = Effects(
            inventory, release, hosts, holder, observer, self.report, plan_id, bound, senders,
            interrupted, forward=forward, known=known,
        )  # fmt: skip

    def run(self) -> Report:
        """Runs the rollout to one of its ends.

        Raises:
            EnvironmentProblem: the journal can't be written, and nothing was done yet.
            IllegalEvent: a bug; the fleet is as the report says.
        """
        try:
            run(TABLE, self._first, self._enter, self._step, steps_at_most=_STEPS_AT_MOST)
            self._recorder.end(self.report.state)
        except EnvironmentProblem as error:
            return self._without_journal(self.report.state, error)
        return self.report

    def _enter(self, state: State) -> None:
        self.report.state = state
        self.report.path.append(state)

    def _step(self, state: State, effect: Effect) -> Event:
        """Writes the intent down, does it, and writes down what came of it."""
        if state in _GOES_FORWARD and self._interrupted():
            self.report.interrupted = True
            self._recorder.outcome(state, Event.INTERRUPTED)
            return Event.INTERRUPTED
        self._recorder.intent(state, effect, self._effects.concerned(effect))
        event = self._effects.perform(effect)
        if event is Event.INTERRUPTED:
            self.report.interrupted = True
        self._recorder.outcome(state, event)
        return event

    def _without_journal(self, state: State, error: EnvironmentProblem) -> Report:
        """What isn't written down isn't done: the rollout stops before its next effect."""
        if state in _NOTHING_DONE:
            raise error
        self.report.journal = error
        if state not in ENDS:
            self.report.state = State.HELD
            self.report.path.append(State.HELD)
        return self.report
