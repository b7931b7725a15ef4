"""OUCH 4.2: what goes to a market and what comes from it. Enter Order is the gate's alone."""

import struct
from typing import Final

MARKET_HOURS: Final = 99998
IMMEDIATE: Final = 0

CANCEL_ORDER: Final = struct.Struct(">HcB14sI")

# Lengths of the whole packets that a market may send, by message type: 3 bytes and the message.
LENGTHS: Final = {
    ord("S"): 13,  # System Event
    ord("A"): 69,  # Accepted
    ord("E"): 43,  # Executed
    ord("C"): 31,  # Canceled
    ord("J"): 27,  # Rejected
    ord("P"): 26,  # Cancel Pending
    ord("I"): 26,  # Cancel Reject
    ord("B"): 35,  # Broken Trade
}
# Offsets from the start of the packet: length 2, packet type 1, message type 1, timestamp 8.
TOKEN: Final = 12
TOKEN_END: Final = 26
STATE: Final = 67
DEAD: Final = ord("D")
EXECUTED: Final = struct.Struct(">14sIIcQ")  # token, shares, price, liquidity, match number
CANCELED: Final = struct.Struct(">14sIc")  # token, shares taken off, reason
BROKEN: Final = struct.Struct(">14sQc")


def cancel(token: bytes) -> bytes:
    """Make a Cancel Order packet: all that is left."""
    return CANCEL_ORDER.pack(20, b"U", ord("X"), token, 0)
