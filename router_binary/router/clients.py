"""A session with a client: SoupBinTCP's server side."""

import hashlib
import secrets
import socket
from typing import TYPE_CHECKING, Final, Protocol

from router import soup
from router.loop import Loop
from router.orders import User
from router.soup import BadInputError, Link, packet_end

if TYPE_CHECKING:
    from router.engine import Engine
    from router.release import Release

LOGIN_S: Final = 5.0
NEW_ORDER: Final = (ord("D"), 38)
CANCEL: Final = (ord("F"), 18)
STATUS: Final = (ord("H"), 18)


class Hosting(Protocol):
    """What a client's session needs of the server."""

    engine: "Engine"
    release: "Release"

    def session_closed(self, session: "Session") -> None:
        """Forget it."""
        ...

    def take_over(self, user: User) -> None:
        """End the session that the user had, if any."""
        ...

    def info(self) -> bytes:
        """Give SessionInfo."""
        ...


class Session:
    """One connection, before and after its login."""

    __slots__ = ("_opened_s", "_server", "link", "user")

    def __init__(self, server: Hosting, loop: Loop, sock: socket.socket, now_s: float) -> None:
        self._server = server
        self._opened_s = now_s
        self.user: User | None = None
        self.link = Link(loop, sock, now_s, self._on_bytes, self._on_closed)

    def tick(self, now_s: float) -> None:
        """Keep alive; end what never logs in."""
        if self.user is None and now_s - self._opened_s > LOGIN_S:
            self.link.close("no login in time")
        else:
            self.link.tick(now_s, soup.SERVER_HEARTBEAT if self.user else b"")

    def _on_closed(self, _why: str) -> None:
        self._server.session_closed(self)
        if self.user is not None and self.user.out is self.link.out:
            self.user.out = None

    def _on_bytes(self, data: bytes) -> int:
        at, end = 0, len(data)
        try:
            while at + 3 <= end:
                after = packet_end(data, at)
                if after > end:
                    break
                user = self.user
                if user is not None and data[at + 2] == 85:
                    self._message(user, data, at, after)
                else:
                    self._packet(data[at:after])
                at = after
                if self.link.closed:
                    break
        except BadInputError:
            self._server.engine.counters.bad_input += 1
            raise
        return at

    def _message(self, user: User, data: bytes, at: int, after: int) -> None:
        engine = self._server.engine
        length = after - at - 2
        shape = (data[at + 3] if length > 1 else 0, length)
        if shape == NEW_ORDER:
            engine.new_order(user, data[at + 3 : after])
        elif shape == CANCEL:
            engine.cancel_order(user, data[at + 4 : after])
        elif shape == STATUS:
            engine.status_request(user, data[at + 4 : after])
        else:
            raise BadInputError(f"message type {shape[0]} of length {length - 1}")

    def _packet(self, packet: bytes) -> None:
        kind = packet[2:3]
        if kind == b"+":
            return
        if self.user is None:
            if kind != b"L" or len(packet) != 49:
                raise BadInputError("expected a login")
            self._log_in(packet)
        elif kind == b"O" and len(packet) == 3:
            self.link.flush()
            self.link.close("logged out")
        elif kind != b"R" or len(packet) != 3:
            raise BadInputError(f"packet {kind!r} of length {len(packet) - 2}")

    def _log_in(self, packet: bytes) -> None:
        name = packet[3:9].decode("ascii", "replace").rstrip(" ")
        password = hashlib.sha256(packet[9:19].rstrip(b" ")).hexdigest()
        expected = self._server.engine.config.clients.get(name, "")
        if not secrets.compare_digest(password, expected):
            self._refuse(b"A", "login not authorised")
            return
        sequence = packet[29:49].strip()
        if packet[19:29].strip() or sequence not in (b"", b"0", b"1"):
            self._refuse(b"S", "no such session")
            return
        user = self._server.engine.users[name]
        self._server.take_over(user)
        self.user = user
        user.out = self.link.out
        self.link.out += soup.accepted(self._server.release.sha256[:10], 1)
        self.link.out += self._server.info()

    def _refuse(self, reason: bytes, why: str) -> None:
        self._server.engine.counters.bad_input += 1
        self.link.out += soup.rejected(reason)
        self.link.flush()
        self.link.close(why)
