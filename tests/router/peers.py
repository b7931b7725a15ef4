"""The other ends of the router's wires, written from the page docs/wire.md alone."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

REPORT = struct.Struct(">c16sccIIIIIHQI")
INFO = struct.Struct(">c32s32s32s16s16sQHHc")
NEW = struct.Struct(">c16scI8sIcH")
ENTER = struct.Struct(">c14scI8sII4scccIcc")
ACCEPTED = struct.Struct(">HBcQ14scI8sII4scQccIccc")
EXECUTED = struct.Struct(">HBcQ14sIIcQ")
CANCELED = struct.Struct(">HBcQ14sIc")
REJECTED = struct.Struct(">HBcQ14sc")


def packet(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">Hc", 1 + len(payload), kind) + payload


def login(user: str, password: str, session: str = "", sequence: str = "1") -> bytes:
    text = f"{user:<6}{password:<10}{session:>10}{sequence:>20}"
    return packet(b"L", text.encode())


def new_order(
    clordid: str, qty: int = 300, price: int = 100_000, side: str = "B", *, symbol: str = "ACME",
    tif: str = "0", flags: int = 0,
) -> bytes:  # fmt: skip
    body = NEW.pack(
        b"D", clordid.encode().ljust(16), side.encode(), qty, symbol.encode().ljust(8), price,
        tif.encode(), flags,
    )  # fmt: skip
    return packet(b"U", body)


def by_id(kind: str, clordid: str) -> bytes:
    return packet(b"U", kind.encode() + clordid.encode().ljust(16))


@dataclass(frozen=True)
class Report:
    clordid: str
    kind: str
    status: str
    qty: int
    last_qty: int
    last_px: int
    cum: int
    leaves: int
    reason: int
    exec_id: int
    cxl: int


class Client:
    """A gateway's session: logs in, sends, and reads what comes."""

    def __init__(self, address: tuple[str, int], user: str = "GATE01") -> None:
        self.sock = socket.create_connection(address, 5)
        self.sock.settimeout(5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._inbox = b""
        self.infos: list[tuple[Any, ...]] = []
        try:
            self.sock.sendall(login(user, "password"))
            kind, self.accepted = self.packet()
            assert kind == "A", (kind, self.accepted)
            kind, payload = self.packet()
            assert kind == "U"
            self.info = INFO.unpack(payload)
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *packets: bytes) -> None:
        self.sock.sendall(b"".join(packets))

    def packet(self) -> tuple[str, bytes]:
        """Give the next packet; ("", b"") at the end of the connection."""
        while len(self._inbox) < 2 or len(self._inbox) < 2 + (self._inbox[0] << 8 | self._inbox[1]):
            data = self.sock.recv(65536)
            if not data:
                return "", b""
            self._inbox += data
        end = 2 + (self._inbox[0] << 8 | self._inbox[1])
        found, self._inbox = self._inbox[2:end], self._inbox[end:]
        return chr(found[0]), found[1:]

    def report(self) -> Report:
        """Give the next execution report."""
        while True:
            kind, payload = self.packet()
            if kind == "S" and payload[:1] == b"8":
                _, clordid, exec_type, status, *rest = REPORT.unpack(payload)
                return Report(clordid.decode().strip(), exec_type.decode(), status.decode(), *rest)
            if kind == "U":
                self.infos.append(INFO.unpack(payload))
            if not kind:
                raise ConnectionError("closed by the router")
            assert kind in "UH", (kind, payload)

    def reports(self, count: int) -> list[Report]:
        return [self.report() for _ in range(count)]

    def until_done(self, clordid: str) -> list[Report]:
        """Give all reports of one parent up to its last."""
        found = []
        while True:
            found.append(self.report())
            if found[-1].clordid == clordid and found[-1].status in "248":
                return found


@dataclass
class Order:
    """What the market knows of one order."""

    login: str
    qty: int
    symbol: str
    side: str
    price: int
    tif: int
    customer: str
    leaves: int = 0


@dataclass
class Stream:
    """One login's session: all that was ever sent on it, for those who missed some."""

    name: str
    messages: list[bytes] = field(default_factory=list)


class Market:
    """A market in a thread: `mode` fill, rest or reject; cancels on disconnect; replays."""

    def __init__(self, mode: str = "fill", port: int = 0) -> None:
        self.mode = mode
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self.listener.getsockname()[1]
        self.orders: dict[str, Order] = {}
        self.streams: dict[str, Stream] = {}
        self.logins: list[tuple[str, str, str, int]] = []
        self.executed: dict[str, int] = {}
        self.cancel_requests = 0
        self.after_orders: int | None = None  # disconnect without a word after so many orders
        self.heard = b""
        self.said = b""
        self._match = 0
        self._conns: dict[socket.socket, str] = {}
        self._inboxes: dict[socket.socket, bytes] = {}
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join(5)
        for conn in [*self._conns, self.listener]:
            conn.close()

    def _run(self) -> None:
        beat = time.monotonic()
        while not self._stop:
            ready, _, _ = select.select([self.listener, *self._conns], [], [], 0.02)
            for sock in ready:
                if sock is self.listener:
                    conn, _ = self.listener.accept()
                    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._conns[conn], self._inboxes[conn] = "", b""
                else:
                    self._read(sock)
            if time.monotonic() - beat > 0.2:
                beat = time.monotonic()
                for conn, user in list(self._conns.items()):
                    if user:
                        self._send(conn, packet(b"H"))

    def _send(self, conn: socket.socket, data: bytes) -> None:
        self.said += data
        try:
            conn.sendall(data)
        except OSError:
            self.drop(conn)

    def _read(self, conn: socket.socket) -> None:
        try:
            data = conn.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.drop(conn)
            return
        self.heard += data
        data = self._inboxes[conn] + data
        while len(data) >= 3 and len(data) >= 2 + (data[0] << 8 | data[1]):
            end = 2 + (data[0] << 8 | data[1])
            self._packet(conn, chr(data[2]), data[3:end])
            if conn not in self._conns:
                return
            data = data[end:]
        self._inboxes[conn] = data

    def drop(self, conn: socket.socket) -> None:
        """Disconnect; the orders of that login are cancelled."""
        user = self._conns.pop(conn, "")
        self._inboxes.pop(conn, None)
        conn.close()
        for token, order in self.orders.items():
            if order.login == user and order.leaves:
                self._cancel(None, user, token, b"Z")

    def drop_all(self) -> None:
        for conn in list(self._conns):
            conn.shutdown(socket.SHUT_RDWR)

    def say(self, user: str, message: bytes) -> None:
        """Send a sequenced message to a login, and keep it."""
        self.streams[user].messages.append(message)
        for conn, name in list(self._conns.items()):
            if name == user:
                self._send(conn, message)

    def _packet(self, conn: socket.socket, kind: str, payload: bytes) -> None:
        if kind == "L":
            self._login(conn, payload)
        elif kind == "U" and payload[:1] == b"O":
            self._enter(conn, payload)
        elif kind == "U" and payload[:1] == b"X":
            self.cancel_requests += 1
            token = payload[1:15].decode()
            if self.orders[token].leaves:
                self._cancel(conn, self._conns[conn], token, b"U")
        elif kind == "O":
            self.drop(conn)

    def _login(self, conn: socket.socket, payload: bytes) -> None:
        user, password = payload[:6].decode().strip(), payload[6:16].decode().strip()
        session, sequence = payload[16:26].decode().strip(), int(payload[26:46])
        self.logins.append((user, password, session, sequence))
        stream = self.streams.get(user)
        if session and (stream is None or stream.name != session):
            self._send(conn, packet(b"J", b"S"))
            return
        if stream is None:
            stream = self.streams[user] = Stream(f"S{len(self.streams)}X{self.port % 1000}")
        self._conns[conn] = user
        self._send(conn, packet(b"A", f"{stream.name:>10}{sequence:>20}".encode()))
        self._send(conn, b"".join(stream.messages[sequence - 1 :]))

    def _enter(self, conn: socket.socket, payload: bytes) -> None:
        user = self._conns[conn]
        if self.after_orders is not None:
            self.after_orders -= 1
            if self.after_orders < 0:
                self.after_orders = None
                self.drop(conn)
                return
        (_, token, side, qty, symbol, price, tif, firm, display, capacity, sweep, minimum, cross,
         customer) = ENTER.unpack(payload)  # fmt: skip
        key = token.decode()
        assert key not in self.orders, f"token {key} used twice"
        if self.mode == "reject":
            self.say(user, REJECTED.pack(25, 83, b"J", 1, token, b"X"))
            return
        order = Order(
            user, qty, symbol.decode().strip(), side.decode(), price, tif, customer.decode(), qty
        )
        self.orders[key] = order
        self.say(user, ACCEPTED.pack(
            67, 83, b"A", 1, token, side, qty, symbol, price, tif, firm, display, len(self.orders),
            capacity, sweep, minimum, cross, b"L", b" ",
        ))  # fmt: skip
        if not order.leaves:
            return  # the line was cut while we accepted, and the order went with it
        if self.mode == "fill":
            self.fill(key, qty)
        elif tif == 0:
            self._cancel(conn, user, key, b"I")

    def fill(self, token: str, qty: int) -> None:
        """Trade some of an order at its price."""
        order = self.orders[token]
        order.leaves -= qty
        self._match += 1
        self.executed[token] = self.executed.get(token, 0) + qty
        self.say(order.login, EXECUTED.pack(
            41, 83, b"E", 1, token.encode(), qty, order.price, b"A", self._match
        ))  # fmt: skip

    def _cancel(self, conn: socket.socket | None, user: str, token: str, why: bytes) -> None:
        del conn
        order = self.orders[token]
        message = CANCELED.pack(29, 83, b"C", 1, token.encode(), order.leaves, why)
        order.leaves = 0
        self.say(user, message)
