"""The operators' door: a Unix socket, one line of JSON in, one line out."""

import json
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from router import resume, status
from router.certificate import BadCertificateError
from router.flags import FlagRefusedError
from router.latch import HALTED, REDUCING, ResumeRefusedError
from router.lease import LeaseRefusedError
from router.loop import Loop
from router.pending import Answer, Made, Pending
from router.signatures import NotSignedError

if TYPE_CHECKING:
    from router.arming import Arming
    from router.engine import Engine
    from router.release import Process, Release
    from router.signatures import Signatures

MAX_REQUEST: Final = 65536
MAX_CALLERS: Final = 32
CALLER_S: Final = 5.0
PEER: Final = struct.Struct("3i")
REFUSALS: Final = (
    BadCertificateError,
    FlagRefusedError,
    LeaseRefusedError,
    NotSignedError,
    ResumeRefusedError,
)


class RequestRefusedError(Exception):
    """The request can't be followed; the message says why."""


def bind(folder: Path) -> socket.socket:
    """Listen in the state folder, however long its path: through a descriptor of the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    old_mask = os.umask(0o177)
    try:
        (folder / "control.sock").unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.bind(f"/proc/self/fd/{descriptor}/control.sock")
        sock.listen(MAX_CALLERS)
    finally:
        os.umask(old_mask)
        os.close(descriptor)
    return sock


class Operated(Protocol):
    """What an operator asks and tells: the server."""

    arming: "Arming"
    engine: "Engine"
    fleet: str
    folder: Path
    host: str
    process: "Process"
    release: "Release"
    signatures: "Signatures"

    def after(self) -> None:
        """Write the record, then let things go."""
        ...

    def find_orders(self, token: str) -> list[dict[str, Any]]:
        """Tell of the children whose token begins so."""
        ...


class Control:
    """Accepts callers, a bounded number of them, each for a bounded time."""

    def __init__(self, server: Operated, loop: Loop, sock: socket.socket) -> None:
        self._server = server
        self._loop = loop
        self._sock = sock
        self._callers: dict[int, tuple[socket.socket, float]] = {}
        self._waiting: dict[int, Pending] = {}
        self._commands: dict[str, Callable[[Answer], Made]] = {
            "status": self._status,
            "halt": self._halt,
            "reduce": self._reduce,
            "lease": self._lease,
            "resume": self._resume,
            "flag": self._flag,
            "metrics": self._metrics,
            "orders": self._orders,
        }
        loop.add(sock.fileno(), self._accept, urgent=True)

    def _accept(self, _events: int) -> None:
        try:
            caller, _ = self._sock.accept()
        except OSError:
            return
        _, uid, _ = PEER.unpack(caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
        if uid not in (0, os.geteuid()) or len(self._callers) >= MAX_CALLERS:
            caller.close()
            return
        caller.settimeout(0)
        fd = caller.fileno()
        self._callers[fd] = (caller, time.monotonic())
        pieces = bytearray()
        self._loop.add(fd, lambda _events: self._read(fd, pieces), urgent=True)
        self._read(fd, pieces)  # most callers have written by now

    def _read(self, fd: int, pieces: bytearray) -> None:
        if fd in self._waiting:  # it has asked already: all that can still come is its end
            self._drop(fd)
            return
        caller, _ = self._callers[fd]
        try:
            data = caller.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        pieces += data
        if data and b"\n" not in pieces and len(pieces) <= MAX_REQUEST:
            return
        if b"\n" in pieces:
            line = bytes(pieces.partition(b"\n")[0])
            self._make(fd, lambda: self._follow(line))
        else:
            self._drop(fd)

    def _make(self, fd: int, make: Callable[[], Made]) -> None:
        """Answer now; or later, where the answer has to wait for something."""
        made = _answer(make)
        if isinstance(made, Pending):
            self._waiting[fd] = made
            self._loop.change(fd, 0)  # no more requests: only that the caller is gone is told
            made.when_made(lambda make: self._made(fd, make))
            return
        try:
            caller, _ = self._callers[fd]
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            caller.send(json.dumps(made).encode() + b"\n")
        except OSError:
            pass  # the caller is gone; what it asked for is done
        self._drop(fd)

    def _made(self, fd: int, make: Callable[[], Made]) -> None:
        del self._waiting[fd]
        self._make(fd, make)

    def _drop(self, fd: int) -> None:
        pending = self._waiting.pop(fd, None)
        if pending is not None:
            pending.give_up()
        caller, _ = self._callers.pop(fd)
        self._loop.remove(fd)
        caller.close()

    def tick(self, now_s: float) -> None:
        """Send away who doesn't ask."""
        for fd, (_, since_s) in list(self._callers.items()):
            if now_s - since_s > CALLER_S:
                self._drop(fd)

    def close(self) -> None:
        """Answer nobody any more."""
        for fd in list(self._callers):
            self._drop(fd)
        self._loop.remove(self._sock.fileno())
        self._sock.close()

    # -- requests ------------------------------------------------------------------------------

    def _follow(self, line: bytes) -> Made:
        self._server.engine.look_at_lease()  # what is answered must be true now
        request = _request(line)
        command = self._commands.get(str(request.get("command")))
        if command is None:
            raise RequestRefusedError(f"commands are {', '.join(sorted(self._commands))}")
        return command(request)

    def _status(self, _request: Answer) -> Answer:
        s = self._server
        return status.status(s.engine, s.release, s.process, s.host)

    def _metrics(self, _request: Answer) -> Answer:
        s = self._server
        return {"text": status.metrics(s.engine, s.release, s.process, s.host)}

    def _halt(self, request: Answer) -> Answer:
        return self._stop(HALTED, request)

    def _reduce(self, request: Answer) -> Answer:
        return self._stop(REDUCING, request)

    def _stop(self, state: str, request: Answer) -> Answer:
        # A halt is never refused for its form: an odd reason is better than no halt.
        reason, by = str(request.get("reason") or ""), str(request.get("by") or "")
        latch_id = self._server.engine.stop(state, reason, by)
        self._server.after()
        latch = self._server.engine.latch
        return {
            "latch": latch_id,
            "trading_state": latch.state,
            "on_disk": latch.on_disk,
            "sent": status.sent(self._server.engine, self._server.process),
        }

    def _lease(self, request: Answer) -> Answer:
        # Whoever renews may have looked at the process before this one: it says which it is.
        return {**self._server.engine.renew(_text(request, "nonce")), "pid": os.getpid()}

    def _resume(self, request: Answer) -> Made:
        if "request" in request:
            sealed, s = _text(request, "request"), self._server
            return resume.begin(s.engine, s.signatures, s.host, s.fleet, s.folder, sealed)
        if self._server.signatures.any:
            raise ResumeRefusedError(
                "SECOND_PERSON", "this router has signers: one of them must sign a request"
            )
        self._server.engine.resume(_text(request, "latch"), time.monotonic())
        return {"trading_state": self._server.engine.latch.state}

    def _flag(self, request: Answer) -> Made:
        arming, action = self._server.arming, _text(request, "action")
        if action == "show":
            return arming.show()
        name = _text(request, "flag")
        if action == "prepare":
            certificate = request.get("certificate")
            return arming.prepare(name, None if certificate is None else str(certificate))
        if action == "commit":
            return arming.commit(name)
        if action == "settle":
            return arming.settle(name)
        if action == "disarm":
            return arming.disarm(name)
        raise RequestRefusedError("action is prepare, commit, settle, disarm or show")

    def _orders(self, request: Answer) -> Answer:
        return {"orders": self._server.find_orders(str(request.get("token") or ""))}


def _answer(make: Callable[[], Made]) -> Made:
    try:
        made = make()
    except REFUSALS as refused:
        return {"ok": False, "rule": refused.rule, "error": str(refused)}
    except (RequestRefusedError, ValueError, RecursionError) as error:
        return {"ok": False, "rule": "REQUEST", "error": str(error)}
    return made if isinstance(made, Pending) else {"ok": True, **made}


def _request(line: bytes) -> Answer:
    request = json.loads(line)
    if not isinstance(request, dict):
        raise RequestRefusedError("a request is a JSON object")
    return request


def _text(request: Answer, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not value:
        raise RequestRefusedError(f"{key} must be given as text")
    return value
