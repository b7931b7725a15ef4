"""SoupBinTCP 3.00: packets, and a connection that never blocks, never grows, never waits."""

import fcntl
import socket
import struct
from collections.abc import Callable
from typing import Final

from router.loop import READ, WRITE, Loop

HEARTBEAT_S: Final = 1.0
SILENCE_S: Final = 15.0
MAX_PACKET: Final = 128
MAX_OUT: Final = 4 * 1024 * 1024
# What is read at once bounds the time between two looks at the control socket.
READ_BYTES: Final = 16 * 1024

LOGIN: Final = struct.Struct(">Hc6s10s10s20s")
ACCEPTED: Final = struct.Struct(">Hc10s20s")
CLIENT_HEARTBEAT: Final = b"\x00\x01R"
SERVER_HEARTBEAT: Final = b"\x00\x01H"
LOGOUT: Final = b"\x00\x01O"
END: Final = b"\x00\x01Z"
UNSENT: Final = 0x894B  # SIOCOUTQNSD: bytes that were given to the kernel and have not left it
NO_LINGER: Final = struct.pack("ii", 1, 0)


def debug(text: str) -> bytes:
    """Say why, before closing."""
    data = text.encode("ascii", "replace")[: MAX_PACKET - 1]
    return struct.pack(">Hc", 1 + len(data), b"+") + data


def login(user: str, password: str, session: str, sequence: int) -> bytes:
    """Make a login request."""
    return LOGIN.pack(
        47, b"L",
        user.ljust(6).encode(), password.ljust(10).encode(),
        session.rjust(10).encode(), str(sequence).rjust(20).encode(),
    )  # fmt: skip


def accepted(session: str, sequence: int) -> bytes:
    """Make the answer to a good login."""
    return ACCEPTED.pack(31, b"A", session.rjust(10).encode(), str(sequence).rjust(20).encode())


def rejected(reason: bytes) -> bytes:
    """Make the answer to a bad login."""
    return b"\x00\x02J" + reason


class BadInputError(Exception):
    """The peer sent something that no peer of ours sends; the message says what."""


def packet_end(data: bytes, at: int) -> int:
    """Give where the packet at `at` ends; it may not all be there yet. Refuses a silly length."""
    length = data[at] << 8 | data[at + 1]
    if not 0 < length <= MAX_PACKET:
        raise BadInputError(f"packet of length {length}")
    return at + 2 + length


def nothing() -> None:
    """Ask nothing before a write."""


class Link:
    """A TCP connection with packets in and a buffer out."""

    __slots__ = (
        "_inbox", "_loop", "_sock", "_waiting", "before_send", "closed", "fd", "heard_s",
        "on_bytes", "on_closed", "out", "partial", "sent_s",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        now_s: float,
        on_bytes: Callable[[bytes], int],
        on_closed: Callable[[str], None],
    ) -> None:
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = loop
        self._sock = sock
        self._inbox = b""
        self._waiting = False
        self.closed = False
        self.fd = sock.fileno()
        self.heard_s = self.sent_s = now_s
        self.on_bytes = on_bytes
        self.on_closed = on_closed
        self.before_send = nothing  # may take from `out` what must not leave, or close
        self.out = bytearray()
        self.partial = 0  # bytes at the start of `out` whose packet has begun to leave
        loop.add(self.fd, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._writable()
        if not self.closed and events & ~WRITE:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"connection lost: {error.strerror}")
            return
        if not data:
            self.close("closed by the peer")
            return
        self.heard_s = -1.0  # set to the time at the next tick: no clock call here
        if self._inbox:
            data = self._inbox + data
        try:
            used = self.on_bytes(data)
        except BadInputError as error:
            self.out += debug(str(error))
            self.flush()
            self.close(str(error))
            return
        self._inbox = data[used:]

    def flush(self) -> None:
        """Send what is ready. The one place where bytes leave over TCP."""
        if not self.out or self.closed:
            return
        if self._waiting:
            if len(self.out) > MAX_OUT:
                self.close("the peer doesn't read: too much is waiting for it")
            return
        self.before_send()
        if not self.out or self.closed:
            return
        try:
            sent = self._sock.send(self.out)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close(f"connection lost: {error.strerror}")
            return
        self.sent_s = -1.0
        if sent == len(self.out):
            self.out.clear()
            self.partial = 0
            return
        self._keep_rest(sent)

    def _keep_rest(self, sent: int) -> None:
        end = self.partial
        while end < sent:
            end += 2 + int.from_bytes(self.out[end : end + 2], "big")
        self.partial = end - sent
        del self.out[:sent]
        if not self._waiting:
            self._waiting = True
            self._loop.change(self.fd, READ | WRITE)

    def _writable(self) -> None:
        if self._waiting:
            self._waiting = False
            self._loop.change(self.fd, READ)
        self.flush()

    def stuck(self) -> bool:
        """Whether bytes that were sent, or half a packet, still lie here and would leave later."""
        if self._waiting or self.partial:
            return True
        return any(fcntl.ioctl(self._sock, UNSENT, bytes(4)))

    def reset(self, why: str) -> None:
        """End it, and throw away what still lies here."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.close(why)

    def tick(self, now_s: float, heartbeat: bytes) -> None:
        """Keep the connection alive, or see that it isn't."""
        if self.heard_s < 0:
            self.heard_s = now_s
        if self.sent_s < 0:
            self.sent_s = now_s
        if now_s - self.heard_s > SILENCE_S:
            self.close(f"nothing heard for {SILENCE_S:.0f} seconds")
        elif now_s - self.sent_s >= HEARTBEAT_S and not self.out:
            self.out += heartbeat

    def close(self, why: str) -> None:
        """End it, once."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove(self.fd)
        self._sock.close()
        self.on_closed(why)
