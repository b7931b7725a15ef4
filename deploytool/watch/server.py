"""The door of a watch: a local socket, for this user alone, through which a stop asks it."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploytool.errors import EnvironmentProblem
from deploytool.stop.model import StopRequest
from deploytool.stop.runtime_dir import candidates, folder, make_folder, stem
from deploytool.stop.watch_client import peer_uid

_REQUEST_BYTES = 64 * 1024
_INSTANT_AT_MOST = 1e11


@dataclass(frozen=True)
class StopCall:
    """What came through the door. ``hosts`` empty: all of them."""

    hosts: tuple[str, ...]
    order: StopRequest


class StopClient:
    """One stop that asked, and hears of it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(0)
        self._buffer = bytearray()

    def read(self) -> StopCall | None:
        """What it asks, once that is whole.

        Raises:
            ValueError: it asks nothing that can be understood, or has gone away before it did.
        """
        try:
            data = self.connection.recv(_REQUEST_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ValueError(str(error)) from error
        self._buffer += data
        if b"\n" not in self._buffer:
            if not data or len(self._buffer) > _REQUEST_BYTES:
                raise ValueError("it asked nothing")
            return None
        said = json.loads(bytes(self._buffer.partition(b"\n")[0]))
        order = StopRequest(
            by=str(said["by"]),
            reason=str(said["reason"]),
            latch=_hexadecimal(said["latch"]),
            pressed=_instant(said["pressed"]),
            only=_hexadecimal(said["only"]) if said["only"] else "",
        )
        # A host that was named twice is told once: its line carries one question at a time.
        return StopCall(tuple(dict.fromkeys(str(host) for host in said["stop"])), order)

    def tell(self, said: dict[str, Any]) -> None:
        """Says something; whoever has gone away misses it, and the stop goes on."""
        with suppress(OSError):
            self.connection.send(json.dumps(said).encode() + b"\n")

    def close(self) -> None:
        """Hangs up."""
        self.connection.close()


def _instant(value: object) -> float:
    seconds = float(str(value))
    if not 0 <= seconds <= _INSTANT_AT_MOST:
        raise ValueError(f"{value!r} is no instant")
    return seconds


def _hexadecimal(value: object) -> str:
    text = str(value)
    if not text or len(text) > 64 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{text!r} is not hexadecimal")
    return text


class StopServer:
    """The listening socket. Taking it over from a watch that still listens is refused.

    Raises:
        EnvironmentProblem: another watch of this inventory runs here, or there is no place for it.
    """

    def __init__(self, inventory: Path) -> None:
        self.inventory = inventory
        try:
            make_folder()
            for place in map(Path, candidates(str(inventory), ".sock")):
                if _answers(place):
                    raise EnvironmentProblem(
                        f"Another watch of {inventory} runs on this machine already.",
                        "Nothing was changed: one is enough, and only one renews leases.",
                        f"See who it is: fuser {place}",
                    )
            self.path = Path(folder(), f"{stem(str(inventory))}.sock")
            self.path.unlink(missing_ok=True)
            self.socket = socket.socket(socket.AF_UNIX)
            before = os.umask(0o177)
            try:
                self.socket.bind(str(self.path))
            finally:
                os.umask(before)
        except OSError as error:
            raise EnvironmentProblem(
                f"The watch's socket can't be made: {error}",
                "Nothing was changed. Without it a stop is cold, and works all the same.",
                "Make room in /run/user or in /tmp, then watch again.",
            ) from error
        self.socket.listen(16)
        self.socket.settimeout(0)

    def accept(self) -> StopClient | None:
        """Whoever knocks and is this user, or root; nobody else is let in."""
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return None
        try:
            allowed = peer_uid(connection) in {0, os.getuid()}
        except OSError:
            allowed = False
        if not allowed:
            connection.close()
            return None
        return StopClient(connection)

    def close(self) -> None:
        """Nobody is let in any more."""
        self.socket.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether somebody listens behind a socket's file."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # it can't be told: whoever may be there is left alone
    return True
