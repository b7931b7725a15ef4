"""Arming and disarming as one table: state x event -> state and effect. Pure.

No protocol makes all hosts switch in one instant over links that fail. So a commit is provisional
and disarms by itself unless it is settled; it is settled only after every host was *observed*
armed; and the senders are told last. Whatever fails after the first commit is withdrawn, senders
first, and the withdrawal is observed too: what can't be observed is named, never assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from deploytool.core.machine import Step, Table


class State(Enum):
    """Where an arming or a disarming is. The last four are ends."""

    CHECKING = "checking"
    ASKING = "asking each router for a nonce"
    CERTIFYING = "signing the certificate"
    PREPARING = "preparing"
    COMMITTING = "committing"
    OBSERVING = "observing that every host is armed"
    SETTLING = "settling"
    PROVING = "proving that every host stays armed"
    OPENING = "telling the senders to use it"
    CLOSING = "telling the senders to withdraw it"
    WITHDRAWING = "disarming"
    PROVING_OFF = "proving that it is off everywhere"
    ARMED = "armed"
    OFF = "off"
    REFUSED = "refused"
    NAMED = "not the same everywhere, or not known"


class Event(Enum):
    """What happened, over the whole fleet."""

    ALLOWED = "nothing blocks it"
    REFUSED = "something blocks it"
    NONCES = "every router issued a nonce"
    SIGNED = "the certificate is signed"
    PROMISED = "every router promised"
    COMMITTED = "every router committed"
    SEEN_ARMED = "every host was observed armed"
    SETTLED = "every router settled"
    SEEN_SETTLED = "every host was observed to stay armed"
    IN_USE = "every sender was observed to use it"
    WITHDRAWN = "every sender was observed to have withdrawn it"
    DISARMED = "every router disarmed"
    SEEN_OFF = "every sender and every host was observed off"
    FAILED = "a host or a sender was seen to fail"
    UNKNOWN = "what a host or a sender did could not be seen"
    INTERRUPTED = "the user interrupted it"


class Effect(Enum):
    """What is to be done next."""

    CHECK = "check"
    ASK_NONCES = "ask for nonces"
    SIGN = "sign"
    PREPARE = "prepare"
    COMMIT = "commit"
    OBSERVE_ARMED = "observe armed"
    SETTLE = "settle"
    PROVE_ARMED = "prove armed"
    OPEN_SENDERS = "tell the senders to use it"
    CLOSE_SENDERS = "tell the senders to withdraw it"
    DISARM = "disarm"
    PROVE_OFF = "prove off"


class Purpose(Enum):
    """What it is for."""

    ARM = "arm"
    DISARM = "disarm"


ArmingStep = Step[State, Effect]

_REFUSED: ArmingStep = Step(State.REFUSED, None)
_NAMED: ArmingStep = Step(State.NAMED, None)
_CLOSE: ArmingStep = Step(State.CLOSING, Effect.CLOSE_SENDERS)
_DISARM: ArmingStep = Step(State.WITHDRAWING, Effect.DISARM)
_PROVE_OFF: ArmingStep = Step(State.PROVING_OFF, Effect.PROVE_OFF)

FIRST: Mapping[Purpose, ArmingStep] = MappingProxyType(
    {Purpose.ARM: Step(State.CHECKING, Effect.CHECK), Purpose.DISARM: _CLOSE}
)
"""Disarming needs no parity, no certificate and no check. It is also how any state that another
operator left is ended: it is right from all of them."""
ENDS = frozenset({State.ARMED, State.OFF, State.REFUSED, State.NAMED})

_WENT_WELL: Mapping[tuple[State, Event], ArmingStep] = MappingProxyType(
    {
        (State.CHECKING, Event.ALLOWED): Step(State.ASKING, Effect.ASK_NONCES),
        (State.CHECKING, Event.REFUSED): _REFUSED,
        (State.ASKING, Event.NONCES): Step(State.CERTIFYING, Effect.SIGN),
        (State.CERTIFYING, Event.SIGNED): Step(State.PREPARING, Effect.PREPARE),
        (State.PREPARING, Event.PROMISED): Step(State.COMMITTING, Effect.COMMIT),
        (State.COMMITTING, Event.COMMITTED): Step(State.OBSERVING, Effect.OBSERVE_ARMED),
        (State.OBSERVING, Event.SEEN_ARMED): Step(State.SETTLING, Effect.SETTLE),
        (State.SETTLING, Event.SETTLED): Step(State.PROVING, Effect.PROVE_ARMED),
        (State.PROVING, Event.SEEN_SETTLED): Step(State.OPENING, Effect.OPEN_SENDERS),
        (State.OPENING, Event.IN_USE): Step(State.ARMED, None),
        (State.CLOSING, Event.WITHDRAWN): _DISARM,
        (State.WITHDRAWING, Event.DISARMED): _PROVE_OFF,
        (State.PROVING_OFF, Event.SEEN_OFF): Step(State.OFF, None),
    }
)
_WENT_WRONG: Mapping[State, ArmingStep] = MappingProxyType(
    {
        # Nothing was committed: a nonce and a promise arm nothing, and lapse by themselves. They
        # aren't taken back, for the flag that a disarm would turn off may be another operator's.
        State.CHECKING: _REFUSED,
        State.ASKING: _REFUSED,
        State.CERTIFYING: _REFUSED,
        State.PREPARING: _REFUSED,
        # Some host may be armed, and no sender was told: the hosts are disarmed.
        State.COMMITTING: _DISARM,
        State.OBSERVING: _DISARM,
        State.SETTLING: _DISARM,
        State.PROVING: _DISARM,
        # Some sender may use it: it has to withdraw before the hosts disarm.
        State.OPENING: _CLOSE,
        # A host that is off rejects what is flagged, visibly: off is the safe end, whatever the
        # senders do. What was really reached is looked at, and named where it isn't off.
        State.CLOSING: _DISARM,
        State.WITHDRAWING: _PROVE_OFF,
        State.PROVING_OFF: _NAMED,
    }
)
_TROUBLE = (Event.FAILED, Event.UNKNOWN, Event.INTERRUPTED)

TABLE: Table[State, Event, ArmingStep] = Table(
    {
        **_WENT_WELL,
        **{(state, event): step for state, step in _WENT_WRONG.items() for event in _TROUBLE},
    }
)


advance = TABLE.advance
