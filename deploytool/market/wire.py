"""The router's client side, as ``docs/wire.md`` describes it: the gateway's half of it."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from deploytool.market.soup import MalformedPacket

_INFO: Final = Struct(">c32s32s32s16s16sQHHc")
_NEW: Final = Struct(">c16scI8sIcH")
_ASK: Final = Struct(">c16s")
_REPORT: Final = Struct(">c16sccIIIIIHQI")
_CANCEL_REJECT: Final = Struct(">c16sH")

TRADE: Final = b"F"
CANCELED: Final = b"4"
REJECTED: Final = b"8"
STATUS: Final = b"I"
"""ExecType."""

FILLED: Final = b"2"
IN_DOUBT: Final = b"U"
"""OrdStatus, beside those that ExecType has too."""

ACTIVE: Final = b"A"
TRADING_STATES: Final = {
    b"A": "ACTIVE",
    b"R": "REDUCING",
    b"H": "HALTED",
    b"D": "DRAINING",
    b"P": "NO MARKET",
}


class Reason(IntEnum):
    """Why a router rejected or cancelled: those that the gateway acts on."""

    NONE = 0
    HALTED = 20
    DRAINING = 22
    NO_VENUE = 23
    UNKNOWN_ORDER = 30


TRY_ELSEWHERE: Final = frozenset(
    (Reason.HALTED, Reason.DRAINING, Reason.NO_VENUE, Reason.UNKNOWN_ORDER)
)
"""This router can't take the order now, or never had it; nothing is wrong with the order."""


class SessionInfo(NamedTuple):
    """What a router says of itself."""

    release: str
    flag_table: str
    wire: str
    host: str
    version: str
    epoch: int
    known_flags: int
    accepted_flags: int
    trading_state: bytes


class NewOrderSingle(NamedTuple):
    """A parent order."""

    cl_ord_id: str
    side: bytes
    order_qty: int
    symbol: str
    price: int
    time_in_force: bytes
    flags: int


class ExecutionReport(NamedTuple):
    """What became of a parent."""

    cl_ord_id: str
    exec_type: bytes
    ord_status: bytes
    order_qty: int
    last_qty: int
    last_px: int
    cum_qty: int
    leaves_qty: int
    reason: int
    exec_id: int
    cxl_qty: int


class OrderCancelReject(NamedTuple):
    """A parent that couldn't be cancelled."""

    cl_ord_id: str
    reason: int


def pack_new(order: NewOrderSingle) -> bytes:
    """Return a new parent's bytes."""
    return _NEW.pack(
        b"D", _padded(order.cl_ord_id, 16), order.side, order.order_qty,
        _padded(order.symbol, 8), order.price, order.time_in_force, order.flags,
    )  # fmt: skip


def pack_status_request(cl_ord_id: str) -> bytes:
    """Return the question what became of a parent."""
    return _ASK.pack(b"H", _padded(cl_ord_id, 16))


def pack_cancel_request(cl_ord_id: str) -> bytes:
    """Return the wish to cancel what is left of a parent."""
    return _ASK.pack(b"F", _padded(cl_ord_id, 16))


def unpack_session_info(payload: bytes) -> SessionInfo:
    """Read what a router says of itself."""
    fields = _fields(_INFO, b"I", payload)
    _, release, table, wire, host, version, epoch, known, accepted, state = fields
    if state not in TRADING_STATES:
        raise MalformedPacket(f"trading state {state!r}")
    return SessionInfo(
        release.hex(), table.hex(), wire.hex(), _text(host), _text(version), epoch, known,
        accepted, state,
    )  # fmt: skip


def unpack_report(payload: bytes) -> ExecutionReport:
    """Read an execution report."""
    fields = _fields(_REPORT, b"8", payload)
    return ExecutionReport(_text(fields[1]), *fields[2:])


def unpack_cancel_reject(payload: bytes) -> OrderCancelReject:
    """Read the answer to a cancel that couldn't be done."""
    fields = _fields(_CANCEL_REJECT, b"9", payload)
    return OrderCancelReject(_text(fields[1]), fields[2])


# the fields' types are the layout's, which the type checker can't see: hence the one Any
def _fields(layout: Struct, kind: bytes, payload: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN202
    if len(payload) != layout.size or payload[:1] != kind:
        raise MalformedPacket(
            f"message {payload[:1]!r} of {len(payload)} bytes, not {kind!r} of {layout.size}"
        )
    return layout.unpack(payload)


def _padded(text: str, width: int) -> bytes:
    if not 0 < len(text) <= width or not text.isascii():
        raise ValueError(f"{text!r} is not 1 to {width} ASCII characters")
    return text.encode("ascii").ljust(width)


def _text(field: bytes) -> str:
    if not field.isascii():
        raise MalformedPacket(f"text {field!r} is not ASCII")
    return field.rstrip().decode("ascii")
