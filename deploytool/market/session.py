"""One venue's TCP side: logins, replay of what was missed, heartbeats, cancel on disconnect."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, cast

from deploytool.market import ouch, soup
from deploytool.market.exchange import Exchange, Quote

_DAY_NS: Final = 86_400 * 10**9
_MAX_UNSENT: Final = 16 << 20
"""A client that reads this slowly is gone for all purposes."""
_MAX_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the venue waits, in seconds."""

    login_s: float = 5.0
    silence_s: float = 15.0
    heartbeat_s: float = 1.0


@dataclass(slots=True)
class Stream:
    """What was sent to one host in this session, so that it can be sent again."""

    max_kept: int
    sent: list[bytes] = field(default_factory=list)
    forgotten: int = 0
    connection: Connection | None = None
    release: str = ""
    logins: int = 0

    @property
    def next_sequence(self) -> int:
        """Number of the next sequenced message; the first is 1."""
        return self.forgotten + len(self.sent) + 1

    def keep(self, frames: list[bytes]) -> None:
        """Remember frames; the oldest half goes when there are too many."""
        self.sent += frames
        if len(self.sent) > self.max_kept:
            half = len(self.sent) // 2
            del self.sent[:half]
            self.forgotten += half

    def since(self, sequence: int) -> list[bytes] | None:
        """Return the frames from a sequence number on, or None where that can't be had."""
        if not self.forgotten < sequence <= self.next_sequence:
            return None
        return self.sent[sequence - 1 - self.forgotten :]


class Venue:
    """One address at which routers trade."""

    def __init__(
        self,
        name: str,
        exchange: Exchange,
        deadlines: Deadlines | None = None,
        max_kept: int = 4_000_000,
    ) -> None:
        self.name = name
        self.exchange = exchange
        self.deadlines = deadlines or Deadlines()
        self.session = _session_name(name)
        self.streams: dict[str, Stream] = {}
        self.connections: set[Connection] = set()
        self.refused_logins = 0
        self.malformed = 0
        self.last_malformed = ""
        self._max_kept = max_kept
        self._server: asyncio.Server | None = None
        self._chores: asyncio.Task[None] | None = None
        self._wake: asyncio.TimerHandle | None = None

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen; return the address and the port that it became."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), address, port)
        self._chores = loop.create_task(self._do_chores())
        host, bound = self._server.sockets[0].getsockname()[:2]
        return str(host), int(bound)

    async def stop(self) -> None:
        """Cancel what works, end all sessions, stop listening."""
        if self._server is None or self._chores is None:
            return
        self._server.close()
        self._chores.cancel()
        if self._wake is not None:
            self._wake.cancel()
        for connection in list(self.connections):
            connection.close(soup.frame(soup.END_OF_SESSION))
        await self._server.wait_closed()

    def stream(self, host: str) -> Stream:
        """Return a host's stream; the first use begins it."""
        stream = self.streams.get(host)
        if stream is None:
            stream = self.streams[host] = Stream(self._max_kept)
        return stream

    def send(self, host: str, answers: list[bytes]) -> None:
        """Send messages, numbered and kept; a host that isn't there gets them when it is."""
        stream = self.stream(host)
        frames = [soup.frame(soup.SEQUENCED, answer) for answer in answers]
        stream.keep(frames)
        if stream.connection is not None and frames:
            stream.connection.write(b"".join(frames))

    def requote(self, symbol: str, quote: Quote) -> None:
        """Change a symbol's market."""
        for host, answer in self.exchange.requote(symbol, quote, stamp()):
            self.send(host, [answer])

    def arm_timer(self) -> None:
        """See to it that what the exchange put off is done when it is due."""
        due = self.exchange.next_due()
        if due is not None and self._wake is None:
            self._wake = asyncio.get_running_loop().call_at(due, self._tick)

    def _tick(self) -> None:
        self._wake = None
        for host, answer in self.exchange.tick(time.monotonic(), stamp()):
            self.send(host, [answer])
        self.arm_timer()

    async def _do_chores(self) -> None:
        while True:
            await asyncio.sleep(self.deadlines.heartbeat_s / 4)
            for connection in list(self.connections):
                connection.look_at_the_clock()


class Connection(asyncio.Protocol):
    """One router's TCP connection."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._frames = soup.Frames()
        self._host = ""
        self._heard = self._said = time.monotonic()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, unless there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_MAX_UNSENT)
        if len(self._venue.connections) >= _MAX_CONNECTIONS:
            self._transport.abort()
        else:
            self._venue.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Cancel on disconnect: nothing works for a host that can't be told about it."""
        self._venue.connections.discard(self)
        if self._host:
            host, self._host = self._host, ""
            self._venue.stream(host).connection = None
            self._venue.send(host, self._venue.exchange.disconnected(host, stamp()))

    def pause_writing(self) -> None:
        """Drop a peer that takes nothing off the wire."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what arrived; answer it in one write."""
        self._heard = time.monotonic()
        answers: list[bytes] = []
        wrong = ""
        try:
            for kind, payload in self._frames.feed(data):
                if kind == soup.UNSEQUENCED and self._host:
                    answers += self._order(payload)
                elif not self._talk(kind, payload):
                    break
        except soup.MalformedPacket as error:
            wrong = str(error)
        if answers:
            self._venue.send(self._host, answers)
        self._venue.arm_timer()
        if wrong:
            self._venue.malformed += 1
            self._venue.last_malformed = f"{self._host or 'before login'}: {wrong}"
            self.close(soup.frame(soup.DEBUG, wrong.encode("ascii", "replace")[:200]))

    def write(self, data: bytes) -> None:
        """Send."""
        self._said = time.monotonic()
        self._transport.write(data)

    def close(self, last_words: bytes = b"") -> None:
        """Say why, and end it."""
        if not self._transport.is_closing():
            self._transport.write(last_words)
            self._transport.close()

    def look_at_the_clock(self) -> None:
        """Send a heartbeat when due; drop a client that is silent for too long."""
        now, deadlines = time.monotonic(), self._venue.deadlines
        allowed = deadlines.silence_s if self._host else deadlines.login_s
        if now - self._heard > allowed:
            self._transport.abort()
        elif self._host and now - self._said >= deadlines.heartbeat_s:
            self.write(soup.frame(soup.SERVER_HEARTBEAT))

    def _order(self, payload: bytes) -> list[bytes]:
        message = ouch.unpack_inbound(payload)
        if isinstance(message, ouch.EnterOrder):
            return self._venue.exchange.enter(self._host, message, self._heard, stamp())
        return self._venue.exchange.cancel(self._host, message, stamp())

    def _talk(self, kind: bytes, payload: bytes) -> bool:
        """Deal with a packet that is no order; false ends the conversation."""
        if kind == soup.LOGIN_REQUEST and not self._host:
            return self._login(soup.unpack_login_request(payload))
        if kind == soup.LOGOUT_REQUEST and self._host:
            self.close(soup.frame(soup.END_OF_SESSION))
            return False
        if kind not in (soup.CLIENT_HEARTBEAT, soup.DEBUG) or not self._host:
            when = "now" if self._host else "before the login"
            raise soup.MalformedPacket(f"packet type {kind!r} is not expected {when}")
        return True

    def _login(self, login: soup.LoginRequest) -> bool:
        if not login.username.isalnum():
            return self._refuse(soup.NOT_AUTHORIZED)
        stream = self._venue.stream(login.username)
        if stream.connection is not None:
            # Two processes that trade as one host are one too many: the first keeps the session.
            # Not "session not available": the session is well, and a client that took it for
            # gone would begin again at 1 and hear of every execution a second time.
            return self._refuse(soup.NOT_AUTHORIZED)
        if login.session not in ("", self._venue.session):
            return self._refuse(soup.SESSION_NOT_AVAILABLE)
        first = login.sequence or stream.next_sequence
        missed = stream.since(first)
        if missed is None:
            return self._refuse(soup.SESSION_NOT_AVAILABLE)
        self._host = login.username
        stream.connection, stream.release = self, login.password
        stream.logins += 1
        accepted = soup.pack_login_accepted(soup.LoginAccepted(self._venue.session, first))
        # the heartbeat after the replay tells the client that it missed nothing more
        self.write(
            b"".join((soup.frame(soup.LOGIN_ACCEPTED, accepted), *missed))
            + soup.frame(soup.SERVER_HEARTBEAT)
        )
        return True

    def _refuse(self, reason: bytes) -> bool:
        self._venue.refused_logins += 1
        self.close(soup.frame(soup.LOGIN_REJECTED, reason))
        return False


def stamp() -> int:
    """Return nanoseconds since midnight (UTC), as OUCH counts time."""
    return time.time_ns() % _DAY_NS


def _session_name(venue: str) -> str:
    """Return a name that no earlier run of this venue had."""
    return venue[:2].ljust(2, "X") + format(time.time_ns() // 1_000_000 % 10**8, "08d")
