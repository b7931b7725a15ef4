"""What the market's tests talk with: a service in a thread, a router made of a plain socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from deploytool.market import ouch, soup
from deploytool.market.control import Json, ask
from deploytool.market.venue import Market

PATIENCE_S = 5.0


class Service(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@contextlib.contextmanager
def running(service: Service) -> Iterator[None]:
    """Run a service on an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(service.start(), loop).result(PATIENCE_S)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(service.stop(), loop).result(PATIENCE_S)
    finally:
        asyncio.run_coroutine_threadsafe(_settle(), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        loop.close()


async def _settle() -> None:
    """Let cancelled tasks and closed transports end."""
    for _ in range(5):
        await asyncio.sleep(0.001)


class RawRouter:
    """The router's side of a session, made of a socket and the codecs and nothing else."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, PATIENCE_S)
        self._frames = soup.Frames()
        self._got: list[tuple[bytes, bytes]] = []

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        self.sock.sendall(soup.frame(kind, payload))

    def login(self, user: str = "RTR001", session: str = "", sequence: int = 1) -> bytes:
        login = soup.LoginRequest(user, "0123456789", session, sequence)
        self.send(soup.LOGIN_REQUEST, soup.pack_login_request(login))
        kind, payload = self.next()
        return kind + payload

    def enter(self, token: str, side: bytes = b"B", shares: int = 100, price: int = 100_000,
              tif: int = ouch.MARKET_HOURS, stock: str = "ACME") -> None:  # fmt: skip
        self.send(soup.UNSEQUENCED, ouch.pack(order(token, side, shares, price, tif, stock)))

    def cancel(self, token: str, shares: int = 0) -> None:
        self.send(soup.UNSEQUENCED, ouch.pack(ouch.CancelOrder(ouch.alpha(token, 14), shares)))

    def next(self) -> tuple[bytes, bytes]:
        """Return the next frame; b"" for the end of the stream."""
        end = time.monotonic() + PATIENCE_S
        while not self._got:
            assert time.monotonic() < end, "the venue said nothing"
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return b"", b""
            self._got += self._frames.feed(data)
        return self._got.pop(0)

    def answer(self) -> ouch.Outbound:
        """Return the next sequenced message; heartbeats pass by."""
        while True:
            kind, payload = self.next()
            if kind != soup.SERVER_HEARTBEAT:
                assert kind == soup.SEQUENCED, (kind, payload)
                return ouch.unpack_outbound(payload)

    def close(self) -> None:
        self.sock.close()


def order(token: str, side: bytes = b"B", shares: int = 100, price: int = 100_000,
          tif: int = ouch.MARKET_HOURS, stock: str = "ACME") -> ouch.EnterOrder:  # fmt: skip
    return ouch.EnterOrder(
        ouch.alpha(token, 14), side, shares, ouch.alpha(stock, 8), price, tif, b"DEPL", b"Y",
        b"A", b"N", 0, b"N", b"N",
    )  # fmt: skip


class Rig:
    """A running market of one venue, its control socket, and routers that call on it."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._routers: list[RawRouter] = []

    def router(self) -> RawRouter:
        bound = self.market.bound[0]
        router = RawRouter((bound.host, bound.port))
        self._routers.append(router)
        return router

    def ask(self, command: str, **arguments: object) -> Json:
        return ask(self.market.control, command, PATIENCE_S, **arguments)

    def close(self) -> None:
        for router in self._routers:
            router.close()


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.005)
