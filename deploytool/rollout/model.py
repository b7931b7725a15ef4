"""Plans, states, events and effects of a rollout: frozen values. Pure."""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict

from deploytool.fleet.model import Digest


class State(Enum):
    """Where a rollout is. The last four are ends."""

    CHECKING = "checking"
    FINDING = "finding what was left, to finish it"
    FINDING_TO_UNDO = "finding what was left, to undo it"
    TAKING_OVER = "taking the locks over"
    TAKING_OVER_TO_UNDO = "taking the locks over, to undo"
    LOCKING = "locking"
    STAGING = "staging"
    SWITCHING = "switching"
    PROVING = "proving"
    CHECKING_OLD = "checking the old release"
    REVERTING = "reverting"
    PROVING_OLD = "proving the old release"
    UNLOCKING = "unlocking"
    UNLOCKING_RESTORED = "unlocking, restored"
    UNLOCKING_REFUSED = "unlocking, refused"
    HOLDING = "writing down that the fleet is held"
    DONE = "done"
    RESTORED = "restored"
    REFUSED = "refused"
    HELD = "held"


class Event(Enum):
    """What happened, over the whole fleet, as the runner saw it."""

    CHECKED = "every host may be changed"
    ALREADY = "every host is proven to run the release already"
    REFUSED = "a rule forbids it"
    FOUND = "what was left can be finished or undone"
    LOCKED = "every host is locked"
    STAGED = "every host holds the release"
    WAVE_PROVEN = "the wave runs the release, and more waves follow"
    LAST_WAVE_PROVEN = "the last wave runs the release"
    PARITY = "every host was proven in one round"
    OLD_INTACT = "every host that was touched can go back"
    REVERTED = "every host that was touched was switched back"
    UNLOCKED = "every lock was released"
    NOTED = "it is written down on every host that answers"
    FAILED = "a host was seen to fail"
    UNKNOWN = "what a host did could not be seen"
    INTERRUPTED = "the user interrupted it"
    STOPPED = "a host was stopped"


class Effect(Enum):
    """What the runner has to do next."""

    CHECK = "check"
    FIND = "find"
    TAKE_OVER = "take over"
    LOCK = "lock"
    STAGE = "stage"
    SWITCH_WAVE = "switch"
    PROVE = "prove"
    CHECK_OLD = "check old"
    REVERT = "revert"
    PROVE_OLD = "prove old"
    UNLOCK = "unlock"
    HOLD = "hold"


class Purpose(Enum):
    """What a rollout is for; the value is what locks say."""

    DEPLOY = "deploy"
    RESUME = "resume"
    ROLLBACK = "rollback"
    SUPERSEDE = "take-over"


class Action(Enum):
    """What a plan does to a host."""

    NOTHING = "nothing: it is proven to run it"
    RESTART = "restart: it has the release, but what runs is not proven"
    ACTIVATE = "activate: it holds the release already"
    STAGE = "copy and activate"


class Observed(BaseModel):
    """What a host showed when the plan was made; a plan is bound to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    machine: str
    release: str | None
    token: int
    pid: int
    start: int | None


class HostPlan(BaseModel):
    """What is to happen on one host."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    host: str
    action: Action
    observed: Observed


class Plan(BaseModel):
    """What a deployment would do, bound to what was observed. Written and read as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str
    fleet: str
    inventory: Digest
    release: Digest
    label: str
    hosts: tuple[HostPlan, ...]
    waves: tuple[tuple[str, ...], ...]

    @property
    def to_stage(self) -> tuple[str, ...]:
        """Hosts that the release is copied to."""
        return tuple(item.host for item in self.hosts if item.action is Action.STAGE)

    @property
    def before(self) -> dict[str, str | None]:
        """The release that each host had."""
        return {item.host: item.observed.release for item in self.hosts}
