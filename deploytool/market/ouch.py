"""NASDAQ OUCH 4.2: the messages that a router and this market exchange.

Prices are integers with four implied decimals, integers are big-endian and unsigned, text
is ASCII padded on the right with blanks. Text stays bytes, blanks included: a token is a
key, and a key is compared as it came. Written from the public specification, not shared
with the router.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from deploytool.market.soup import MalformedPacket

BUYS: Final = frozenset((b"B",))
SELLS: Final = frozenset((b"S", b"T", b"E"))
"""Sell, sell short, sell short exempt."""

IMMEDIATE_OR_CANCEL: Final = 0
MARKET_HOURS: Final = 99998
SYSTEM_HOURS: Final = 99999
MAX_SHARES: Final = 999_999
MAX_PRICE: Final = 1_999_999_900
"""199,999.99 dollars, the highest limit that NASDAQ takes."""

CONTINUOUS: Final = b"N"
LIVE: Final = b"L"

CANCEL_USER: Final = b"U"
CANCEL_IMMEDIATE: Final = b"I"
CANCEL_TIMEOUT: Final = b"T"
CANCEL_SYSTEM: Final = b"Z"

REJECT_HALTED: Final = b"H"
REJECT_STOCK: Final = b"S"
REJECT_PRICE: Final = b"X"
REJECT_MIN_QUANTITY: Final = b"N"
REJECT_CROSS: Final = b"R"
REJECT_SHARES: Final = b"Z"
REJECT_OTHER: Final = b"O"

REMOVED: Final = b"R"


class EnterOrder(NamedTuple):
    """A new order. The token is the client's name for it, used once a day."""

    token: bytes
    side: bytes
    shares: int
    stock: bytes
    price: int
    time_in_force: int
    firm: bytes
    display: bytes
    capacity: bytes
    sweep: bytes
    minimum_quantity: int
    cross_type: bytes
    customer_type: bytes


class CancelOrder(NamedTuple):
    """Reduce an order to ``shares`` in all, executed ones included; zero cancels what is left."""

    token: bytes
    shares: int


class SystemEvent(NamedTuple):
    """The day started or ended."""

    timestamp: int
    event: bytes


class Accepted(NamedTuple):
    """The order as the market took it; it may differ from what was asked."""

    timestamp: int
    token: bytes
    side: bytes
    shares: int
    stock: bytes
    price: int
    time_in_force: int
    firm: bytes
    display: bytes
    reference: int
    capacity: bytes
    sweep: bytes
    minimum_quantity: int
    cross_type: bytes
    state: bytes
    bbo_weight: bytes


class Canceled(NamedTuple):
    """So many shares fewer are working."""

    timestamp: int
    token: bytes
    decrement: int
    reason: bytes


class Executed(NamedTuple):
    """So many shares traded at this price."""

    timestamp: int
    token: bytes
    shares: int
    price: int
    liquidity: bytes
    match: int


class Rejected(NamedTuple):
    """The order was not taken. Its token is spent all the same."""

    timestamp: int
    token: bytes
    reason: bytes


class BrokenTrade(NamedTuple):
    """An earlier execution is undone."""

    timestamp: int
    token: bytes
    match: int
    reason: bytes


class CancelPending(NamedTuple):
    """The order will be cancelled when the cross that holds it is over."""

    timestamp: int
    token: bytes


class CancelReject(NamedTuple):
    """The order can't be cancelled now."""

    timestamp: int
    token: bytes


Inbound = EnterOrder | CancelOrder
Outbound = (
    SystemEvent
    | Accepted
    | Canceled
    | Executed
    | Rejected
    | BrokenTrade
    | CancelPending
    | CancelReject
)

_ENTER: Final = Struct(">c14sc I8sII4scccIcc")
_CANCEL: Final = Struct(">c14sI")
_EVENT: Final = Struct(">cQc")
_ACCEPTED: Final = Struct(">cQ14scI8sII4scQccIccc")
_CANCELED: Final = Struct(">cQ14sIc")
_EXECUTED: Final = Struct(">cQ14sIIcQ")
_REJECTED: Final = Struct(">cQ14sc")
_BROKEN: Final = Struct(">cQ14sQc")
_CANCEL_STATE: Final = Struct(">cQ14s")

_FROM_MARKET: Final[dict[bytes, tuple[type[Outbound], Struct]]] = {
    b"A": (Accepted, _ACCEPTED),
    b"B": (BrokenTrade, _BROKEN),
    b"C": (Canceled, _CANCELED),
    b"E": (Executed, _EXECUTED),
    b"I": (CancelReject, _CANCEL_STATE),
    b"J": (Rejected, _REJECTED),
    b"P": (CancelPending, _CANCEL_STATE),
    b"S": (SystemEvent, _EVENT),
}
_WIRE: Final[dict[type[Inbound | Outbound], tuple[bytes, Struct]]] = {
    EnterOrder: (b"O", _ENTER),
    CancelOrder: (b"X", _CANCEL),
    **{message: (kind, layout) for kind, (message, layout) in _FROM_MARKET.items()},
}


def pack(message: Inbound | Outbound) -> bytes:
    """Return the message's bytes. Text must have its full width already."""
    kind, layout = _WIRE[type(message)]
    packed = layout.pack(kind, *message)
    if layout.unpack(packed)[1:] != message:  # struct pads and cuts text without a word
        raise ValueError(f"a text field of {message} does not have its width")
    return packed


def unpack_inbound(payload: bytes) -> Inbound:
    """Read a message that a client sent."""
    if payload[:1] == b"O":
        fields = _fields(_ENTER, payload)
        enter = EnterOrder._make(fields[1:])
        if enter.side not in BUYS and enter.side not in SELLS:
            raise MalformedPacket(f"side {enter.side!r}")
        if not enter.token.replace(b" ", b"").isalnum():
            raise MalformedPacket(f"token {enter.token!r}; letters, digits and blanks are allowed")
        return enter
    if payload[:1] == b"X":
        return CancelOrder._make(_fields(_CANCEL, payload)[1:])
    raise MalformedPacket(f"message type {payload[:1]!r}; a client sends O or X here")


def unpack_outbound(payload: bytes) -> Outbound:
    """Read a message that a market sent."""
    known = _FROM_MARKET.get(payload[:1])
    if known is None:
        kinds = b"".join(sorted(_FROM_MARKET)).decode()
        raise MalformedPacket(f"message type {payload[:1]!r}; a market sends one of {kinds} here")
    message, layout = known
    return message._make(_fields(layout, payload)[1:])


def pack_accepted(timestamp: int, order: EnterOrder, reference: int) -> bytes:
    """Return the acceptance of an order as it was asked for."""
    return _ACCEPTED.pack(b"A", timestamp, *order[:8], reference, *order[8:12], LIVE, b" ")


def pack_executed(timestamp: int, token: bytes, shares: int, price: int, match: int) -> bytes:
    """Return an execution that took liquidity."""
    return _EXECUTED.pack(b"E", timestamp, token, shares, price, REMOVED, match)


def pack_rejected(timestamp: int, token: bytes, reason: bytes) -> bytes:
    """Return a rejection."""
    return _REJECTED.pack(b"J", timestamp, token, reason)


def alpha(text: str, width: int) -> bytes:
    """Return ASCII text padded to its width."""
    if len(text) > width or not text.isascii():
        raise ValueError(f"{text!r} is not up to {width} ASCII characters")
    return text.encode("ascii").ljust(width)


def _fields(layout: Struct, payload: bytes) -> tuple[int | bytes, ...]:
    if len(payload) != layout.size:
        raise MalformedPacket(f"message {payload[:1]!r} of {len(payload)} bytes, not {layout.size}")
    return layout.unpack(payload)
