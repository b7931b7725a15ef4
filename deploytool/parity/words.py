"""What is said of a host, from what was last seen of it and from nothing else. Pure.

``stop``, ``start`` and ``status`` take their words from here: what was meant to happen, or was told
to a host, is no part of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from shlex import quote


class Trades(Enum):
    """Whether new orders can leave a host, by the last look at it."""

    YES = "trades"
    NO = "does not trade"
    UNKNOWN = "may trade"


@dataclass(frozen=True)
class Last:
    """What the last look at a host showed; None where it did not show it.

    ``state``: the trading state that its process says; ``latched``: whether a stop's latch is on
    it; ``fenced``; ``runs``: whether any process of the service or of its release root is there.
    """

    state: str | None = None
    latched: bool | None = None
    fenced: bool | None = None
    runs: bool | None = None


UNSEEN = Last()


@dataclass(frozen=True)
class Words:
    """A sentence about a host, without its name, and whether it trades."""

    trades: Trades
    text: str
    unfinished: bool = False
    """Whether what holds it and what it does contradict each other: a start that was interrupted,
    or a halt that does not hold. Stopping it again makes them agree."""


def words(last: Last) -> Words:
    """What is true of a host that was last seen so."""
    if last == UNSEEN:
        return Words(Trades.UNKNOWN, "it was not seen: it may trade")
    held = bool(last.latched or last.fenced)
    if last.state in {"ACTIVE", "REDUCING"}:
        how = "it trades" if last.state == "ACTIVE" else "it trades, to shrink positions only"
        if not held:
            return Words(Trades.YES, how)
        text = f"{how}, although it is {_held(last)}: a start was interrupted, or a stop failed"
        return Words(Trades.YES, text, unfinished=True)
    if last.state == "HALTED":
        text = f"it is HALTED, and {_held(last)}" if held else "it is HALTED by its own latch"
        return Words(Trades.NO, text)
    if last.runs is False and last.state is None:
        if last.fenced:
            return Words(Trades.NO, f"nothing runs there; it is {_held(last)}")
        if held:
            return Words(
                Trades.NO, "nothing runs there; it is held by a stop's latch, and no longer fenced"
            )
        return Words(Trades.NO, "nothing runs there, and nothing holds it: it may be started")
    return Words(Trades.UNKNOWN, "it does not say whether it trades: it may trade")


def _held(last: Last) -> str:
    return "fenced" if last.fenced else "held by a stop's latch"


def let_in_command(host: str, inventory: str, supervisor: str) -> str:
    """What lets a stopped host in where the inventory names no signers, to be pasted."""
    admin = " --admin root" if supervisor == "systemd" else ""
    return f"deploytool host let-in {host} -i {quote(inventory)}{admin} --reason TEXT"
