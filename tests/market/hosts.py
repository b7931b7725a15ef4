"""Routers made of plain sockets, and a gateway that talks with them."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

from deploytool.market import soup
from deploytool.market.control import Json, ask

from .peers import PATIENCE_S

RELEASE = "ab" * 32
LIMITS = {"ACME": [100_500, 99_500]}


class RawHost:
    """Where a router should be: accepts the gateway and says what the test wants said."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE_S)
        self.port: int = self.listener.getsockname()[1]
        self.sock: socket.socket | None = None
        self.exec_id = 0

    def accept(
        self,
        release: str = RELEASE,
        host: str = "",
        session: str = RELEASE[:10],
        accepted: int = 0b11,
    ) -> bytes:
        """Take a connection, let it log in, tell who is here; return the login."""
        if self.sock is not None:
            self.sock.close()
        self.sock, _ = self.listener.accept()
        self.sock.settimeout(PATIENCE_S)
        self._frames, self._got = soup.Frames(), list[tuple[bytes, bytes]]()
        kind, login = self.next()
        assert kind == soup.LOGIN_REQUEST
        answer = soup.pack_login_accepted(soup.LoginAccepted(session, 1))
        self.send(soup.frame(soup.LOGIN_ACCEPTED, answer))
        info = self.info(release, host or self.host, accepted=accepted)
        self.send(soup.frame(soup.UNSEQUENCED, info))
        return login

    @staticmethod
    def info(release: str, host: str, state: bytes = b"A", accepted: int = 0b11) -> bytes:
        return struct.pack(
            ">c32s32s32s16s16sQHHc", b"I", bytes.fromhex(release), bytes(32), bytes(32),
            host.encode().ljust(16), b"2026.1".ljust(16), 0, 0b11011, accepted, state,
        )  # fmt: skip

    def send(self, raw: bytes) -> None:
        assert self.sock is not None
        self.sock.sendall(raw)

    def next(self) -> tuple[bytes, bytes]:
        """Return the next frame that is no heartbeat; b"" for the end of the stream."""
        assert self.sock is not None
        end = time.monotonic() + PATIENCE_S
        while True:
            while self._got:
                if (frame := self._got.pop(0))[0] != soup.CLIENT_HEARTBEAT:
                    return frame
            assert time.monotonic() < end
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return b"", b""
            self._got += self._frames.feed(data)

    def order(self) -> tuple[str, bytes, int]:
        """Return the next message's ClOrdID, type and (where it has any) flags."""
        kind, payload = self.next()
        assert kind == soup.UNSEQUENCED
        flags = int.from_bytes(payload[35:37], "big")
        return payload[1:17].decode().strip(), payload[:1], flags

    def answer(self, name: str, exec_type: bytes, status: bytes, *numbers: int) -> None:
        """Send an execution report: OrderQty, LastQty, LastPx, CumQty, LeavesQty, Reason, Cxl."""
        qty, last, px, cum, leaves, reason, cxl = numbers
        self.exec_id += 1
        self.send(
            soup.frame(
                soup.SEQUENCED,
                struct.pack(
                    ">c16sccIIIIIHQI", b"8", name.encode().ljust(16), exec_type, status, qty,
                    last, px, cum, leaves, reason, self.exec_id, cxl,
                ),
            )
        )  # fmt: skip

    def close(self) -> None:
        self.listener.close()
        if self.sock is not None:
            self.sock.close()


class Rig:
    def __init__(self, control: Path, hosts: list[RawHost]) -> None:
        self.control = control
        self.hosts = hosts

    def ask(self, command: str, **arguments: object) -> Json:
        return ask(self.control, command, PATIENCE_S, **arguments)

    def load(self, parents: int = 1, flags: int = 0) -> None:
        self.ask("load", parents=parents, limits=LIMITS, qty=[100, 100], sides="B", flags=flags)

    def states(self) -> dict[str, int]:
        return {name: n for name, n in self.ask("report")["states"].items() if n}

    def member(self, number: int = 0) -> Json:
        member: Json = self.ask("sessions")["sessions"][number]
        return member
