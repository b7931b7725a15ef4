"""A relay between the deployer and one host: TCP as it is, until it is told to break."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_CHUNK = 65536
_DELAY_S = 1.5
"""How long a relay sits on what it was told to hold up."""

Rule = Callable[["Pair", bytes, bool], bytes | None]
"""What becomes of a chunk: ``up`` is towards the host. None ends the connection."""


@dataclass(eq=False)
class Pair:
    """One connection through the relay: the deployer's end, and the host's."""

    deployer: socket.socket
    host: socket.socket

    def close(self) -> None:
        """Ends both ends at once, with a reset rather than a goodbye."""
        for end in (self.deployer, self.host):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Relay:
    """Listens on loopback for one host. Its faults are the methods; ``heal`` ends them."""

    def __init__(self, address: str, port: int) -> None:
        self._target = (address, port)
        self._turn = threading.Lock()
        self._pairs: set[Pair] = set()
        self._rule: Rule | None = None
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting(self._listener)

    # --- faults -----------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Nobody listens any more, and what was connected is cut."""
        _stop(self._listener)
        self.cut()

    def stall(self) -> None:
        """Connections are taken and stay open, and nothing comes through them."""
        self._open.clear()

    def cut(self) -> None:
        """What is connected is cut, now; who comes anew gets through."""
        with self._turn:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.close()

    def cut_midway(self, after: int = 3000) -> None:
        """Cuts once so many more bytes have gone to the host; once."""
        self._rule = _Count(after, up=True)

    def cut_answer(self, after: int = 300) -> None:
        """Cuts once so many more bytes have come from the host; once."""
        self._rule = _Count(after, up=False)

    def lose_answer(self) -> None:
        """What the host says is lost; after a while the connection is, too."""
        self._rule = _Swallow()

    def hold_up(self) -> None:
        """Cuts the deployer's end, and hands the host what was under way only later."""
        self._rule = _Late()

    def alter(self) -> None:
        """Turns a bit of the next thing that goes to the host."""
        self._rule = _Alter()

    def heal(self) -> None:
        """All comes through again, as at the beginning."""
        self._rule = None
        self._open.set()
        if self._listener.fileno() == -1:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._accepting(self._listener)

    def close(self) -> None:
        """Ends it for good."""
        self._closed = True
        self._open.set()
        _stop(self._listener)
        self.cut()

    # --- passing on -------------------------------------------------------------------------------

    def _accepting(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                deployer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(deployer,), daemon=True).start()

    def _connect(self, deployer: socket.socket) -> None:
        self._open.wait()
        try:
            host = socket.create_connection(self._target, timeout=10)
        except OSError:
            deployer.close()
            return
        host.settimeout(None)
        pair = Pair(deployer, host)
        with self._turn:
            self._pairs.add(pair)
        for up in (True, False):
            threading.Thread(target=self._pump, args=(pair, up), daemon=True).start()

    def _pump(self, pair: Pair, up: bool) -> None:  # noqa: FBT001 the direction, of two
        source, sink = (pair.deployer, pair.host) if up else (pair.host, pair.deployer)
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._open.wait()
                rule = self._rule
                passed = data if rule is None else rule(pair, data, up)
                if passed is None:
                    self._rule = None  # it has struck, and strikes once
                    break
                sink.sendall(passed)
        with self._turn:
            self._pairs.discard(pair)
        pair.close()


class _Count:
    """Lets so many bytes through in one direction, and then ends the connection."""

    def __init__(self, after: int, *, up: bool) -> None:
        self._left, self._up = after, up

    def __call__(self, _pair: Pair, data: bytes, up: bool) -> bytes | None:  # noqa: FBT001 a Rule
        if up is self._up:
            self._left -= len(data)
        return data if self._left > 0 else None


class _Swallow:
    """Takes all that comes from the host, and ends the connection when the host has had time."""

    def __init__(self) -> None:
        self._struck: Pair | None = None

    def __call__(self, pair: Pair, data: bytes, up: bool) -> bytes | None:  # noqa: FBT001 a Rule
        if up and self._struck is None:
            self._struck = pair
            threading.Timer(_DELAY_S, pair.close).start()
        return b"" if pair is self._struck and not up else data


class _Alter:
    """Turns one bit of what goes to the host, once."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self, _pair: Pair, data: bytes, up: bool) -> bytes | None:  # noqa: FBT001 a Rule
        if not up or self._done:
            return data
        self._done = True
        return data[:-1] + bytes([data[-1] ^ 1])


class _Late:
    """Ends the deployer's side of one connection, and hands on later what was on its way."""

    def __init__(self) -> None:
        self._struck: Pair | None = None

    def __call__(self, pair: Pair, data: bytes, up: bool) -> bytes | None:  # noqa: FBT001 a Rule
        if not up or self._struck not in {None, pair}:
            return data
        self._struck = pair
        with contextlib.suppress(OSError):
            pair.deployer.shutdown(socket.SHUT_WR)  # the deployer is told that all is over
        time.sleep(_DELAY_S)
        with contextlib.suppress(OSError):
            pair.host.sendall(data)
        time.sleep(_DELAY_S)
        return None


def _stop(listener: socket.socket) -> None:
    # A thread in accept() is not woken by close() alone.
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
