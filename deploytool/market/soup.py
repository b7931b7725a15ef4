"""SoupBinTCP 3.00: frames on a stream, logins, heartbeats.

A frame is a two-byte big-endian length, one byte of type, and a payload; the length counts
the type and the payload. Written from the public specification and not shared with the
router: two readings of one text, so that a mistake in either shows.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

DEBUG: Final = b"+"
LOGIN_ACCEPTED: Final = b"A"
LOGIN_REJECTED: Final = b"J"
SEQUENCED: Final = b"S"
SERVER_HEARTBEAT: Final = b"H"
END_OF_SESSION: Final = b"Z"
LOGIN_REQUEST: Final = b"L"
UNSEQUENCED: Final = b"U"
CLIENT_HEARTBEAT: Final = b"R"
LOGOUT_REQUEST: Final = b"O"

NOT_AUTHORIZED: Final = b"A"
SESSION_NOT_AVAILABLE: Final = b"S"

MAX_PAYLOAD: Final = 1024
"""Nothing that we speak comes near it, so that a longer frame is garbage, not data."""

_HEAD: Final = Struct(">Hc")
_LENGTH_BYTES: Final = 2


class MalformedPacket(Exception):
    """The peer sent what the protocol doesn't have. The stream can't be trusted any more."""


class LoginRequest(NamedTuple):
    """Who the client is, and from which sequenced message on it wants to hear."""

    username: str
    password: str
    session: str = ""
    sequence: int = 0


class LoginAccepted(NamedTuple):
    """The session, and the number of the next sequenced message."""

    session: str
    sequence: int


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one frame."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"payload of {len(payload)} bytes; at most {MAX_PAYLOAD} fit a frame")
    return _HEAD.pack(1 + len(payload), kind) + payload


class Frames:
    """Cuts a byte stream into frames; holds back at most one that is incomplete."""

    __slots__ = ("_max", "_rest")

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self._max = max_payload + 1
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return the (type, payload) pairs that are complete now."""
        if self._rest:
            data = self._rest + data
        frames: list[tuple[bytes, bytes]] = []
        at, end = 0, len(data)
        while end - at >= _LENGTH_BYTES:
            length = (data[at] << 8) | data[at + 1]
            if not 1 <= length <= self._max:
                raise MalformedPacket(f"frame of length {length}; 1 to {self._max} are possible")
            stop = at + _LENGTH_BYTES + length
            if stop > end:
                break
            frames.append((data[at + 2 : at + 3], data[at + 3 : stop]))
            at = stop
        self._rest = data[at:]
        return frames


def pack_login_request(login: LoginRequest) -> bytes:
    """Return the payload of a login request."""
    return b"".join(
        (
            _text(login.username, 6, "username").ljust(6),
            _text(login.password, 10, "password").ljust(10),
            _text(login.session, 10, "session").rjust(10),
            _number(login.sequence),
        )
    )


def unpack_login_request(payload: bytes) -> LoginRequest:
    """Read the payload of a login request."""
    text = _printable(payload, 46, "login request")
    return LoginRequest(
        text[:6].strip(), text[6:16].strip(), text[16:26].strip(), _sequence(text[26:])
    )


def pack_login_accepted(accepted: LoginAccepted) -> bytes:
    """Return the payload of an accepted login."""
    return _text(accepted.session, 10, "session").rjust(10) + _number(accepted.sequence)


def unpack_login_accepted(payload: bytes) -> LoginAccepted:
    """Read the payload of an accepted login."""
    text = _printable(payload, 30, "login acceptance")
    return LoginAccepted(text[:10].strip(), _sequence(text[10:]))


def _text(value: str, width: int, what: str) -> bytes:
    if len(value) > width or not value.isascii() or not (value.isprintable() or value == ""):
        raise ValueError(f"{what} {value!r} is not up to {width} printable ASCII characters")
    return value.encode("ascii")


def _number(value: int) -> bytes:
    digits = str(value)
    if value < 0 or len(digits) > 20:
        raise ValueError(f"sequence number {value} does not fit twenty digits")
    return digits.encode("ascii").rjust(20)


def _printable(payload: bytes, size: int, what: str) -> str:
    if len(payload) != size:
        raise MalformedPacket(f"{what} of {len(payload)} bytes instead of {size}")
    if not payload.isascii() or not (text := payload.decode("ascii")).isprintable():
        raise MalformedPacket(f"{what} with bytes that are not printable ASCII")
    return text


def _sequence(text: str) -> int:
    digits = text.strip()
    if not digits.isdigit():
        raise MalformedPacket(f"sequence number {text!r} is not a number")
    return int(digits)
