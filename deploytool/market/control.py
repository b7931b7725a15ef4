"""The door for questions and orders to a running market or gateway.

A Unix socket, mode 0600: one line of JSON in, one line of JSON out, then it closes. The
answer is ``{"ok": true, "pid": N, ...}`` or ``{"ok": false, "error": "..."}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]
Handler = Callable[[Json], Json]

MAX_REQUEST: Final = 1 << 16
MAX_ANSWER: Final = 1 << 26
_ASK_DEADLINE_S: Final = 5.0
_SERVE_DEADLINE_S: Final = 30.0
"""Longer than any asker's own: a busy market must not hang up on one that still waits."""
_LISTEN_BACKLOG: Final = 16


class BadRequest(Exception):
    """The request can't be done; the text says why. Nothing was changed."""


class ControlFault(Exception):
    """Nobody answered, or not in time, or not to be understood, or with a refusal."""


class ControlServer:
    """Answers requests on a Unix socket for as long as its event loop runs."""

    def __init__(self, path: Path, handlers: dict[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A socket that somebody answers on is not taken over."""
        if self._path.exists():
            await asyncio.to_thread(_remove_if_dead, self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)  # there is no moment in which others may connect
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(before)
            listener.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            self._server = await asyncio.start_unix_server(
                self._serve, sock=listener, limit=MAX_REQUEST, backlog=_LISTEN_BACKLOG
            )
        except OSError:
            listener.close()
            raise

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SERVE_DEADLINE_S):
                line = await reader.readline()
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # the one who asked is gone, stalls, or sent an endless line: nobody to tell
        finally:
            writer.close()

    def _answer(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
            command = request.get("command") if isinstance(request, dict) else None
            handler = self._handlers.get(command) if isinstance(command, str) else None
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                return {"ok": False, "error": f'"command" must be one of: {known}'}
            return {"ok": True, "pid": os.getpid(), **handler(request)}
        except (BadRequest, ValueError, TypeError, KeyError) as error:
            return {"ok": False, "error": str(error) or type(error).__name__}


def ask(path: Path, command: str, timeout_s: float = _ASK_DEADLINE_S, **arguments: object) -> Json:
    """Put one request to the socket and return the answer, or raise ControlFault."""
    end = time.monotonic() + timeout_s
    request = json.dumps({"command": command, **arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(timeout_s)
            door.connect(str(path))
            door.sendall(request)
            told = bytearray()
            while not told.endswith(b"\n"):
                door.settimeout(max(0.001, end - time.monotonic()))
                part = door.recv(1 << 18)
                if not part or len(told) > MAX_ANSWER:
                    raise ControlFault(f"{path}: the answer to {command!r} broke off")
                told += part
    except OSError as error:
        raise ControlFault(f"{path}: no answer to {command!r}: {error}") from error
    answer = json.loads(told)
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        raise ControlFault(f"{path}: {command!r} was refused: {answer.get('error')}")
    return answer


def _remove_if_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise FileExistsError(f"{path}: another process listens there")
