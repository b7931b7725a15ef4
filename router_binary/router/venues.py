"""A session with a market: OUCH 4.2 over SoupBinTCP, taken up again where it was cut."""

import errno
import os
import socket
from typing import TYPE_CHECKING, Final, Protocol

from router import ouch, soup
from router.config import VenueConfig
from router.loop import WRITE, Loop
from router.soup import BadInputError, Link, packet_end

if TYPE_CHECKING:
    from router.config import Config
    from router.counters import Counters
    from router.fills import Fills
    from router.gate import Gate
    from router.lease import Lease
    from router.record import Record
    from router.risk import Risk

CONNECT_S: Final = 5.0
RETRY_S: Final = 0.25
MAX_RETRY_S: Final = 5.0


class MarketListener(Protocol):
    """Who hears what a market says, and says what may go there: the engine."""

    config: "Config"
    counters: "Counters"
    fills: "Fills"
    gate: "Gate"
    lease: "Lease"
    record: "Record"
    risk: "Risk"

    def venue_changed(self) -> None:
        """A market came up, or went down."""
        ...

    def reconciled(self, venue: "Venue") -> None:
        """All that was missed of this market has come."""
        ...

    def session_lost(self, venue: "Venue") -> None:
        """The market has no memory of the session."""
        ...

    def unleased(self, venue: "Venue") -> None:
        """No lease holds at this moment."""
        ...


class Venue:
    """One market, whether its session is up or not."""

    __slots__ = (
        "_config", "_connecting", "_deadline_s", "_engine", "_link", "_logged_in", "_loop",
        "_password", "_retry_at_s", "_retry_s", "index", "name", "next_sequence",
        "out", "retail", "session", "up", "why_down", "working",
    )  # fmt: skip

    def __init__(self, engine: MarketListener, loop: Loop, index: int, password: str) -> None:
        self._engine = engine
        self._loop = loop
        self._config: VenueConfig = engine.config.venues[index]
        self._password = self._config.password or password
        self.index = index
        self.name = self._config.name
        self.retail = self._config.retail
        self.out = bytearray()
        self.up = False
        self.why_down = "not tried yet"
        self.session = ""
        self.next_sequence = 1
        self._connecting: socket.socket | None = None
        self._link: Link | None = None
        self._logged_in = False
        self._deadline_s = self._retry_at_s = 0.0
        self._retry_s = RETRY_S

    # -- connecting ----------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Connect, give up on what takes too long, keep alive what lives."""
        if self._link is not None:
            if not self.up and now_s > self._deadline_s:
                self._link.close("the market didn't bring us up to date in time")
            else:
                self._link.tick(now_s, soup.CLIENT_HEARTBEAT)
        elif self._connecting is not None:
            if now_s > self._deadline_s:
                self._connected(0)
        elif now_s >= self._retry_at_s and not self._engine.risk.draining:
            self._connect(now_s)

    def _connect(self, now_s: float) -> None:
        self._deadline_s = now_s + CONNECT_S
        self._retry_at_s = now_s + self._retry_s
        self._retry_s = min(self._retry_s * 2, MAX_RETRY_S)
        family = socket.AF_INET6 if ":" in self._config.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect((self._config.host, self._config.port))
        except BlockingIOError:
            pass
        except OSError as error:
            self.why_down = f"can't connect: {error.strerror or error}"
            sock.close()
            return
        self._connecting = sock
        self._loop.add(sock.fileno(), self._connected, WRITE)

    def _connected(self, events: int) -> None:
        sock = self._connecting
        if sock is None:
            return
        self._connecting = None
        self._loop.remove(sock.fileno())
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events else errno.ETIMEDOUT
        if error:
            self.why_down = f"can't connect: {os.strerror(error)}"
            sock.close()
            return
        self._log_in(sock)

    def _log_in(self, sock: socket.socket) -> None:
        self.out = bytearray()
        self._logged_in = False
        self._link = Link(self._loop, sock, 0.0, self._on_bytes, self._on_closed)
        self._link.heard_s = self._link.sent_s = -1.0
        self._link.out = self.out
        self._link.before_send = self._before_send
        login = self._engine.config.login
        self.out += soup.login(login, self._password, self.session, self.next_sequence)
        self.why_down = "logging in"

    def _on_closed(self, why: str) -> None:
        self._link = None
        self.why_down = why
        self.out = bytearray()
        if self.up:
            self.up = False
            self._retry_s = RETRY_S
            self._engine.venue_changed()

    # -- packets -------------------------------------------------------------------------------

    def _on_bytes(self, data: bytes) -> int:
        """Apply every whole packet, and write them down as one entry."""
        record = self._engine.record
        mark, first, at = len(record.buffer), self.next_sequence, 0
        logged_in = self._logged_in
        handlers, lengths, end = self._engine.fills.handlers, ouch.LENGTHS, len(data)
        try:
            while at + 3 <= end:
                after = packet_end(data, at)
                if after > end:
                    break
                message = data[at + 3] if after > at + 3 else 0
                # 83 is S; the lengths are those of whole packets.
                if data[at + 2] == 83 and lengths.get(message) == after - at and logged_in:
                    self.next_sequence += 1
                    handlers[message](data, at)
                else:
                    self._packet(data[at:after])
                    logged_in = self._logged_in
                at = after
        except BadInputError:
            self._engine.counters.bad_input += 1
            raise
        finally:
            if self.next_sequence != first:
                record.market(mark, self.index, first, data[:at])
        return at

    def _packet(self, packet: bytes) -> None:
        kind = packet[2:3]
        if kind == b"A" and len(packet) == 33 and not self._logged_in:
            self._login_accepted(packet)
        elif kind == b"J" and len(packet) == 4 and not self._logged_in:
            self._login_rejected(packet[3:4])
        elif kind == b"H" and len(packet) == 3 and self._logged_in:
            if not self.up:
                self._open()
                self._engine.reconciled(self)
        elif kind == b"Z" and len(packet) == 3:
            raise BadInputError("the market ended the session")
        elif kind != b"+":
            raise BadInputError(f"packet {kind!r} of length {len(packet) - 2} is not expected")

    def _login_accepted(self, packet: bytes) -> None:
        session = packet[3:13].decode("ascii", "replace").strip()
        sequence = packet[13:33].strip()
        if not session or (self.session and session != self.session):
            raise BadInputError(f"session {session!r} is not {self.session!r} that we asked for")
        if not sequence.isdigit() or int(sequence) != self.next_sequence:
            raise BadInputError(f"sequence {sequence!r} is not {self.next_sequence}: a gap")
        self._logged_in = True
        self.session = session
        self._engine.record.session(self.index, session, self.next_sequence)
        self.why_down = "catching up"
        if all(child.venue is not self for child in self._engine.gate.children.values()):
            self._open()

    def _login_rejected(self, reason: bytes) -> None:
        if reason == b"S" and self.session:
            self._engine.session_lost(self)
            self.session, self.next_sequence = "", 1
            self._engine.record.session(self.index, "", 1)
        raise BadInputError(f"login rejected: {reason!r}")

    def _open(self) -> None:
        self.up = True
        self.why_down = ""
        self._retry_s = RETRY_S
        self._engine.venue_changed()

    # -- orders out ----------------------------------------------------------------------------

    def cancel(self, token: bytes) -> None:
        """Ask for a child back; what is down was cancelled by its disconnect."""
        if self.up:
            self.out += ouch.cancel(token)

    def take_back(self) -> list[bytes]:
        """Drop orders that have not begun to leave; give their tokens."""
        out, at = self.out, self._link.partial if self._link is not None else 0
        kept, tokens = bytes(out[:at]), []
        rest = bytes(out[at:])
        at = 0
        while at < len(rest):
            after = at + 2 + int.from_bytes(rest[at : at + 2], "big")
            if rest[at + 3 : at + 4] == b"O" and rest[at + 2 : at + 3] == b"U":
                tokens.append(rest[at + 4 : at + 18])
            else:
                kept += rest[at:after]
            at = after
        out[:] = kept
        return tokens

    def _before_send(self) -> None:
        """Hold each write to the market against the lease, as the last thing before it."""
        if not self._engine.lease.holds():
            self._engine.unleased(self)

    def reset_if_stuck(self, why: str) -> None:
        """Drop a line that holds back what was sent: the market cancels on disconnect."""
        if self._link is not None and self._link.stuck():
            self._link.reset(why)

    def flush(self) -> None:
        """Let what was written down go."""
        if self._link is not None:
            self._link.flush()

    def end(self) -> None:
        """Log out and close."""
        if self._link is not None:
            if self._logged_in:
                self.out += soup.LOGOUT
            self._link.flush()
            if self._link is not None:
                self._link.close("router stopped")
        if self._connecting is not None:
            self._loop.remove(self._connecting.fileno())
            self._connecting.close()
            self._connecting = None
