"""The gateway's line to one router: connects, logs in, trusts or doesn't, keeps trying."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, cast

from deploytool.market import soup, wire

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_CONNECT_S: Final = 2.0
_LOGIN_S: Final = 5.0
_HEARTBEAT_S: Final = 1.0
_SILENCE_S: Final = 15.0
_CHORES_S: Final = 0.25
_MAX_UNSENT: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class RouterAddress:
    """Where a router listens for clients, and which host it has to be."""

    host: str
    address: str
    port: int


class LinkState(Enum):
    """How far a line has come."""

    DOWN = "down"
    CONNECTED = "logging in"
    TRUSTED = "trusted"
    REFUSED = "refused"


class LinkOwner(Protocol):
    """What a line asks and tells its gateway."""

    trusted: frozenset[str]

    def line_up(self, link: Link) -> None:
        """Tell that a trusted session begins."""

    def line_down(self, link: Link) -> None:
        """Tell that a trusted session ended."""

    def report(self, link: Link, report: wire.ExecutionReport) -> None:
        """Hand over an execution report."""

    def heard(self, link: Link) -> None:
        """Tell that something came, so that there may be something to do."""


class Link:
    """One router, for as long as the gateway runs."""

    def __init__(self, router: RouterAddress, user: str, password: str, owner: LinkOwner) -> None:
        self.router = router
        self.state = LinkState.DOWN
        self.why = "not connected yet"
        self.info: wire.SessionInfo | None = None
        self.since: float | None = None
        self.logins = 0
        self.sent = 0
        self.owner = owner
        self._login = soup.LoginRequest(user, password)
        self._line: _Line | None = None

    @property
    def trusted(self) -> bool:
        """Whether there is a session with a release that may be given orders."""
        return self.state is LinkState.TRUSTED

    @property
    def takes_orders(self) -> bool:
        """Whether a new parent may go there now."""
        return self.trusted and self.info is not None and self.info.trading_state == wire.ACTIVE

    async def run(self) -> None:
        """Connect, and again whenever the line breaks, with pauses that have an upper bound."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    _, line = await asyncio.get_running_loop().create_connection(
                        lambda: _Line(self), self.router.address, self.router.port
                    )
            except (OSError, TimeoutError) as error:
                self.why = f"can't connect: {str(error) or 'no answer in time'}"
            else:
                logins = self.logins
                await self._attend(line)
                if self.logins != logins:
                    pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE_S, pause * 2)

    def send(self, payloads: list[bytes]) -> None:
        """Send messages; only a trusted session gets any."""
        if self._line is None or not self.trusted:
            raise RuntimeError(f"{self.router.host} is {self.state.value}: nothing may go there")
        self.sent += len(payloads)
        self._line.write(b"".join(soup.frame(soup.UNSEQUENCED, p) for p in payloads))

    def reconsider(self) -> None:
        """Look again whether the router is trusted: what is trusted has changed."""
        if self._line is not None and self.info is not None:
            self.judge(self.info)

    def close(self, why: str) -> None:
        """Log out."""
        if self._line is not None:
            self.why = why
            self._line.close()

    def judge(self, info: wire.SessionInfo) -> None:
        """Trust the session or leave it, by what the router says of itself."""
        self.info = info
        reason = self._distrust(info)
        if reason:
            self._end()
            self.state = LinkState.REFUSED
            self.close(reason)
        elif self.state is not LinkState.TRUSTED:
            self.state, self.why = LinkState.TRUSTED, ""
            self.since = time.monotonic()
            self.logins += 1
            self.owner.line_up(self)

    async def _attend(self, line: _Line) -> None:
        self._line = line
        self.state, self.info, self.why = LinkState.CONNECTED, None, "the line broke"
        line.write(soup.frame(soup.LOGIN_REQUEST, soup.pack_login_request(self._login)))
        try:
            while not line.lost.is_set():
                try:
                    async with asyncio.timeout(_CHORES_S):
                        await line.lost.wait()
                except TimeoutError:
                    line.look_at_the_clock(self._patience_s)
        finally:
            line.abort()
            self._line = None
            self._fall()

    @property
    def _patience_s(self) -> float:
        return _LOGIN_S if self.info is None else _SILENCE_S

    def _fall(self) -> None:
        self._end()
        if self.state is not LinkState.REFUSED:
            self.state = LinkState.DOWN

    def _end(self) -> None:
        if self.state is LinkState.TRUSTED:
            self.state, self.since = LinkState.DOWN, None
            self.owner.line_down(self)

    def _distrust(self, info: wire.SessionInfo) -> str:
        if info.host != self.router.host:
            return f"{info.host} answers where {self.router.host} should"
        if info.release not in self.owner.trusted:
            return f"it runs {info.release[:12]} ({info.version}), which is not trusted"
        if self._line is None or self._line.session != info.release[:10]:
            return "its login shows another release than its SessionInfo"
        return ""


class _Line(asyncio.Protocol):
    """One TCP connection of a link."""

    def __init__(self, link: Link) -> None:
        self.session = ""
        self.lost = asyncio.Event()
        self._link = link
        self._frames = soup.Frames()
        self._heard = self._said = time.monotonic()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_MAX_UNSENT)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.lost.set()

    def pause_writing(self) -> None:
        self._link.why = "it reads nothing"
        self.abort()

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        try:
            for kind, payload in self._frames.feed(data):
                if not self._take(kind, payload):
                    break
        except soup.MalformedPacket as error:
            self._link.why = f"it sent garbage: {error}"
            self.abort()
        self._link.owner.heard(self._link)

    def write(self, data: bytes) -> None:
        self._said = time.monotonic()
        self._transport.write(data)

    def close(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(soup.frame(soup.LOGOUT_REQUEST))
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def look_at_the_clock(self, allowed_s: float) -> None:
        now = time.monotonic()
        if now - self._heard > allowed_s:
            self._link.why = f"silent for {now - self._heard:.0f} s"
            self.abort()
        elif self.session and now - self._said >= _HEARTBEAT_S:
            self.write(soup.frame(soup.CLIENT_HEARTBEAT))

    def _take(self, kind: bytes, payload: bytes) -> bool:
        link = self._link
        if kind == soup.SEQUENCED and link.trusted:
            if payload[:1] == b"9":
                wire.unpack_cancel_reject(payload)
            else:
                link.owner.report(link, wire.unpack_report(payload))
        elif kind == soup.LOGIN_ACCEPTED and not self.session:
            self.session = soup.unpack_login_accepted(payload).session
        elif kind == soup.UNSEQUENCED and self.session:
            link.judge(wire.unpack_session_info(payload))
        elif kind == soup.LOGIN_REJECTED:
            link.why = f"login refused: {payload!r}"
            self.close()
        elif kind == soup.DEBUG:
            link.why = payload.decode("ascii", "replace")
        elif kind == soup.END_OF_SESSION:
            link.why = "the router ended the session"
            self.close()
        elif kind != soup.SERVER_HEARTBEAT:
            raise soup.MalformedPacket(f"packet type {kind!r} is not expected now")
        # whoever was refused or has ended is not listened to any more
        return not self._transport.is_closing()
