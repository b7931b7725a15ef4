"""The warm way: a watch on this machine, which has every line open, is asked to stop hosts.

This is imported before anything else, and so imports next to nothing itself.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time

from deploytool.stop.runtime_dir import candidates, owned

TYPE_CHECKING = False  # typing takes longer to import than a host to halt
if TYPE_CHECKING:
    from typing import Any

PATIENCE_S = 0.3
"""So long the warm way may take; then the cold one starts beside it."""
_PEER = struct.Struct("3i")
_CHUNK = 65536
_BYTES_AT_MOST = 1024 * 1024


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a local socket (unix(7), SO_PEERCRED)."""
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(said)[1])


class WatchClient:
    """What a watch was asked, and what it has answered so far; every wait has an end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self.taking: frozenset[str] = frozenset()
        """Hosts that it tells, those over a line that was open before the others."""
        self.heard: dict[str, float] = {}
        """Hosts that have begun to answer it, and when something was last heard of each.

        In ``time.monotonic``.
        """
        self.climbed: dict[str, dict[str, object]] = {}
        """Hosts whose ladder has ended, as JSON."""
        self.renewals: dict[str, dict[str, float]] = {}
        self.changed = False
        """The inventory is another one than the watch has read: what it knows need not be so."""
        self.trouble = ""
        self.over = False
        self.answered = False

    def listen(self, patience_s: float) -> bool:
        """Takes in what comes within ``patience_s``; True once there is no more to come."""
        ends = time.monotonic() + patience_s
        while not self.over:
            self._connection.settimeout(max(0.001, ends - time.monotonic()))
            try:
                data = self._connection.recv(_CHUNK)
            except TimeoutError:
                break
            except OSError:
                data = b""
            self._buffer += data
            if not data or len(self._buffer) > _BYTES_AT_MOST:
                self.over = True
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    # Another version, or no watch at all: the cold way says how it is.
                    self.over, self.trouble = True, "the watch of this machine is not understood"
            if time.monotonic() >= ends:
                break
        return self.over

    def _take(self, said: dict[str, Any]) -> None:
        if "taking" in said:
            taking, renewals = [str(host) for host in said["taking"]], dict(said["renewals"])
            self.taking, self.renewals = frozenset(taking), renewals
            self.changed, self.answered = bool(said["changed"]), True
        elif "heard" in said:
            self.heard[str(said["heard"])] = time.monotonic()
        elif "climbed" in said:
            self.climbed[str(said["climbed"]["host"])] = dict(said["climbed"])
        else:
            self.over = bool(said["over"])

    def close(self) -> None:
        """Hangs up; what it was asked for it goes on with."""
        self._connection.close()


def ask(inventory: str, request: dict[str, object]) -> tuple[WatchClient | None, str]:
    """Asks the watch of this inventory; None where there is none, and else why it can't be asked.

    Only a watch of the same user is asked.
    """
    try:
        paths = candidates(inventory, ".sock")
    except OSError:
        return None, ""  # what is wrong with the inventory, the cold way says
    troubles = []
    for path in paths:
        warm, trouble = _ask(path, request)
        if warm is not None:
            return warm, ""
        troubles += [trouble] if trouble else []
    return None, "; ".join(troubles)


def _ask(path: str, request: dict[str, object]) -> tuple[WatchClient | None, str]:
    if not os.path.exists(path):  # noqa: PTH110 pathlib is slow to import
        return None, ""
    if not owned(path) or not owned(os.path.dirname(path)):  # noqa: PTH120
        return None, f"{path} is not this user's alone: the watch behind it is not asked"
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    try:
        connection.connect(path)
        if peer_uid(connection) not in {0, os.getuid()}:
            raise PermissionError("another user answers there")
        connection.sendall(json.dumps(request).encode() + b"\n")
    except ConnectionRefusedError:
        connection.close()
        return None, ""  # it was left by a watch that has ended
    except OSError as error:
        connection.close()
        return None, f"the watch of this machine can't be asked: {error}"
    return WatchClient(connection), ""
