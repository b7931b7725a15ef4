"""The client's messages: layouts, letters and reasons. docs/wire.md explains them."""

import hashlib
import json
import struct
from typing import Final

INFO: Final = ">c32s32s32s16s16sQHHc"
NEW_ORDER: Final = ">c16scI8sIcH"
BY_ID: Final = ">c16s"
REPORT: Final = ">c16sccIIIIIHQI"
CANCEL_REJECT: Final = ">c16sH"

LAYOUTS: Final = {
    "framing": "SoupBinTCP 3.00",
    "SessionInfo": [
        INFO,
        "I",
        "Release FlagTable Wire Host Version Epoch KnownFlags AcceptedFlags TradingState",
    ],
    "NewOrderSingle": [
        NEW_ORDER,
        "D",
        "ClOrdID Side OrderQty Symbol Price TimeInForce Flags",
    ],
    "OrderCancelRequest": [BY_ID, "F", "ClOrdID"],
    "OrderStatusRequest": [BY_ID, "H", "ClOrdID"],
    "ExecutionReport": [
        REPORT,
        "8",
        "ClOrdID ExecType OrdStatus OrderQty LastQty LastPx CumQty LeavesQty Reason ExecID CxlQty",
    ],
    "OrderCancelReject": [CANCEL_REJECT, "9", "ClOrdID Reason"],
    "flag word": ["H", "bit 0 is the least significant"],
}
DIGEST: Final = hashlib.sha256(
    json.dumps(LAYOUTS, sort_keys=True, separators=(",", ":")).encode()
).hexdigest()

# Whole packets, framing included, so that one call packs or unpacks each.
PACK_INFO: Final = struct.Struct(">Hc" + INFO[1:]).pack
PACK_REPORT: Final = struct.Struct(">Hc" + REPORT[1:]).pack
PACK_CANCEL_REJECT: Final = struct.Struct(">Hc" + CANCEL_REJECT[1:]).pack
INFO_LENGTH: Final = 1 + struct.calcsize(INFO)
REPORT_LENGTH: Final = 1 + struct.calcsize(REPORT)
CANCEL_REJECT_LENGTH: Final = 1 + struct.calcsize(CANCEL_REJECT)
UNPACK_NEW_ORDER: Final = struct.Struct(NEW_ORDER).unpack

DAY: Final = b"0"
IMMEDIATE: Final = b"3"
SIDES: Final = (b"B", b"S", b"T", b"E")
MAX_QTY: Final = 999_999
MAX_PRICE: Final = 1_999_999_900

NEW: Final = b"0"
TRADE: Final = b"F"
CANCELED: Final = b"4"
REJECTED: Final = b"8"
STATUS: Final = b"I"
PARTLY: Final = b"1"
FILLED: Final = b"2"
IN_DOUBT: Final = b"U"

REASONS: Final = {
    0: "",
    1: "BAD_CLORDID",
    2: "BAD_SIDE",
    3: "BAD_QTY",
    4: "BAD_PRICE",
    5: "BAD_TIF",
    6: "UNKNOWN_SYMBOL",
    7: "UNKNOWN_FLAG",
    8: "RESERVED_FLAG",
    9: "FLAG_NOT_ARMED",
    10: "DUPLICATE",
    11: "ORDER_QTY",
    12: "ORDER_VALUE",
    13: "PRICE_COLLAR",
    14: "SYMBOL_POSITION",
    15: "ACCOUNT_POSITION",
    16: "GROSS_NOTIONAL",
    17: "MESSAGE_RATE",
    18: "CHILDREN_PER_PARENT",
    20: "HALTED",
    21: "REDUCING",
    22: "DRAINING",
    23: "NO_VENUE",
    24: "MISSING_LIMIT",
    25: "TOO_MANY_PARENTS",
    26: "NOT_CLEARED",
    30: "UNKNOWN_ORDER",
    31: "ALREADY_DONE",
    32: "NOT_YOURS",
    40: "CLIENT",
    41: "MARKET_REJECTED",
    42: "MARKET_CANCELLED",
    43: "STOPPED",
    44: "EXPIRED",
}
CODES: Final = {name: code for code, name in REASONS.items()}
