"""From an order token back to its parent, out of the records: nobody need be running."""

import json
from pathlib import Path
from typing import Any

from router import record, recovery, wire


class TraceError(Exception):
    """The token can't be traced; the message says why."""


def find(folder: Path, token: str) -> dict[str, Any]:
    """Say whose order this was, and which release of which host sent it."""
    if len(token) != 14 or not token[3:].isdigit():
        raise TraceError(f"{token!r} is not an order token of a router")
    letter, sequence = token[2].encode(), int(token[3:])
    parents: dict[int, tuple[str, bytes]] = {}
    for path in recovery.record_paths(folder):
        header: dict[str, Any] = {}
        for chunk in recovery.chunks(path):
            at = 0
            while at < len(chunk):
                kind = chunk[at : at + 1]
                if kind == b"H":
                    start = at + record.HEADER.size
                    header = json.loads(chunk[start : record.entry_end(chunk, at)])
                elif kind == b"P":
                    _, number, user, body = record.PARENT.unpack_from(chunk, at)
                    parents[number] = (user.rstrip(b"\0").decode(), body)
                elif kind == b"C":
                    _, number, strategy, first, count = record.CHILDREN.unpack_from(chunk, at)
                    if strategy == letter and first <= sequence < first + count:
                        place = at + record.CHILDREN.size
                        place += (sequence - first) * record.CHILD.size
                        venue, qty = record.CHILD.unpack_from(chunk, place)
                        return _row(token, header, parents[number], venue, qty)
                at = record.entry_end(chunk, at)
    raise TraceError(f"no record in {folder} knows {token}")


def _row(
    token: str, header: dict[str, Any], parent: tuple[str, bytes], venue: int, qty: int
) -> dict[str, Any]:
    user, body = parent
    _, clordid, side, order_qty, symbol, price, tif, flags = wire.UNPACK_NEW_ORDER(body)
    return {
        "token": token,
        "qty": qty,
        "venue": header["venues"][venue],
        "host": header["host"],
        "login": header["login"],
        "release": header["release"],
        "parent": {
            "user": user,
            "clordid": clordid.decode().rstrip(),
            "side": side.decode(),
            "qty": order_qty,
            "symbol": symbol.decode().rstrip(),
            "price": price,
            "tif": tif.decode(),
            "flags": flags,
        },
    }
