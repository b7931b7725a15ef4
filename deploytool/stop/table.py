"""The ladder of a stop as one table, and what the end of a lease rests on. Pure.

Each host climbs alone: no other host, lock, journal or verdict has a part in it. A pair that isn't
in the table is an error and leaves the host where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deploytool.core.machine import Table
from deploytool.stop.model import End, Event, HostOutcome, Renewal, Rung, Witnessed

FIRST = Rung.QUIESCE

_TOLD_OR_NOT = (Event.DONE, Event.NOT_CONFIRMED, Event.LATE, Event.LOST)
"""Whatever came of it, the next rung is tried: only a host that can't be reached ends a climb."""

TABLE: Table[Rung, Event, Rung | End] = Table(
    {
        (Rung.QUIESCE, Event.CONFIRMED): End.HALTED,
        (Rung.QUIESCE, Event.OTHER_RELEASE): End.OTHER_RELEASE,
        (Rung.QUIESCE, Event.NOT_CONFIRMED): Rung.FENCE,
        (Rung.QUIESCE, Event.LATE): Rung.FENCE,
        (Rung.QUIESCE, Event.LOST): Rung.FENCE,
        (Rung.QUIESCE, Event.UNREACHABLE): Rung.AGAIN,
        (Rung.AGAIN, Event.CONFIRMED): End.HALTED,
        (Rung.AGAIN, Event.OTHER_RELEASE): End.OTHER_RELEASE,
        (Rung.AGAIN, Event.NOT_CONFIRMED): Rung.FENCE,
        (Rung.AGAIN, Event.LATE): Rung.FENCE,
        (Rung.AGAIN, Event.LOST): Rung.FENCE,
        (Rung.AGAIN, Event.UNREACHABLE): End.OUT_OF_REACH,
        **{(Rung.FENCE, event): Rung.KILL for event in _TOLD_OR_NOT},
        (Rung.FENCE, Event.UNREACHABLE): End.OUT_OF_REACH,
        **{(Rung.KILL, event): Rung.LOOK for event in _TOLD_OR_NOT},
        (Rung.KILL, Event.UNREACHABLE): End.OUT_OF_REACH,
        (Rung.LOOK, Event.EMPTY): End.DEAD,
        (Rung.LOOK, Event.ALIVE): Rung.KILL_AGAIN,
        (Rung.LOOK, Event.LATE): Rung.LOOK_AGAIN,
        (Rung.LOOK, Event.LOST): Rung.LOOK_AGAIN,
        (Rung.LOOK, Event.UNREACHABLE): End.OUT_OF_REACH,
        **{(Rung.KILL_AGAIN, event): Rung.LOOK_AGAIN for event in _TOLD_OR_NOT},
        (Rung.KILL_AGAIN, Event.UNREACHABLE): End.OUT_OF_REACH,
        (Rung.LOOK_AGAIN, Event.EMPTY): End.DEAD,
        (Rung.LOOK_AGAIN, Event.ALIVE): End.NOT_SHOWN,
        (Rung.LOOK_AGAIN, Event.LATE): End.NOT_SHOWN,
        (Rung.LOOK_AGAIN, Event.LOST): End.NOT_SHOWN,
        (Rung.LOOK_AGAIN, Event.UNREACHABLE): End.OUT_OF_REACH,
    }
)

ON_HOST_S: Mapping[Rung, int] = MappingProxyType(
    {Rung.QUIESCE: 2, Rung.AGAIN: 2, Rung.KILL: 3, Rung.KILL_AGAIN: 3}
)
"""How long the host itself may take over what it was told, in whole seconds."""
DEADLINE_S: Mapping[Rung, float] = MappingProxyType(
    {
        Rung.QUIESCE: 6.0,
        Rung.AGAIN: 6.0,
        Rung.FENCE: 5.0,
        Rung.KILL: 7.0,
        Rung.LOOK: 5.0,
        Rung.KILL_AGAIN: 7.0,
        Rung.LOOK_AGAIN: 5.0,
    }
)
"""How long we wait for the answer to a rung once the host was reached; then the next is tried."""
ANSWERS_S = 1.0
"""How long an agent may take to acknowledge what its host has read; then the last rungs are told.

Where letting us in took longer, the agent has as long: such a host is slow, and not broken. A line
that was open beforehand and stays silent for this long is replaced by a new one first.
"""
CONNECT_S = 6
"""How long a host may take to let us in, in whole seconds (ssh_config(5), ConnectTimeout).

Nobody waits for it but this host: a machine that is drowning in what is to be stopped is slow.
"""
CLOCK_S = 1.0
"""What a witness's clock may be out of step with ours: many tell whole seconds only."""


advance = TABLE.advance


def lease_end(
    now: float, lease_s: float, renewal: Renewal | None, *, renewing: bool
) -> tuple[float | None, str]:
    """The latest instant at which an unreachable host's lease has ended, and what that rests on.

    The lease counts from the *issue* of the nonce that a renewal answers, and who renews knows no
    nonce that is newer than the last it got: so the arrival of that one, and one lease more, is
    the end. Seconds since the epoch by the operator's clock; None where no instant can be named.

    ``renewing``: the renewer goes on, because it could not be told.
    """
    if not lease_s:
        return None, "it has no lease (lease_s is 0): switch it off, or cut it off from the market"
    others = "that no other watch renews it, here or elsewhere"
    if renewing:
        return None, (
            "the watch on this machine did not answer and may go on renewing it: end that process; "
            f"{lease_s:g} s after its last renewal the lease is over"
        )
    if renewal is not None and renewal.taken:
        return None, (
            "another watch has taken its renewals over, and this machine's knows nothing of them: "
            "stop it from where that one runs, or end that one"
        )
    if renewal is not None:
        end = renewal.wall + renewal.lease_s
        return end, f"the last renewal that this machine's watch has a record of, and {others}"
    return now + lease_s, (
        f"the worst case, a renewal of {lease_s:g} s at this very moment, and {others}"
    )


def contradicted(end: float | None, heard: Witnessed | None, host: str, pressed: float) -> bool:
    """Whether the witness saw a host send after the end that a record names for its lease."""
    if end is None or heard is None:
        return False
    last = last_child_s(heard, host, pressed)
    return last is not None and pressed + last > end + CLOCK_S


def last_child_s(witnessed: Witnessed, host: str, pressed: float) -> float | None:
    """Seconds from the key press to the host's last child order; negative where it came before.

    None where it sent none, or the witness does not know it. A witness whose clock is off by more
    than its answer took is put right by that.
    """
    last = witnessed.last_child.get(host)
    return None if last is None else last - witnessed.skew_s - pressed


def stopped(climbed: HostOutcome) -> bool:
    """Whether the host itself was shown to have stopped: the first half of a proof."""
    return climbed.end in {End.HALTED, End.DEAD} and not any(
        note.startswith(UNGUARDED) for note in climbed.notes
    )


UNGUARDED = "not fenced"
"""How a note begins that takes the worth out of an empty process list: it may be refilled."""
