"""One line to one host's agent: the stock ``ssh`` client, asked and heard without ever waiting.

Everything else goes over fabric and paramiko. A stop does not: OpenSSH's client starts in a tenth
of the time, and what breaks the one should not break the other (docs/decisions/0009-stop.md).
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import time
from contextlib import suppress

from deploytool.agent.protocol import arrived, request_bytes
from deploytool.agent.requests import Answer, Request
from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.exchange_log import LOG, Conversed
from deploytool.fleet.protocol import (
    ANSWER_BYTES_AT_MOST,
    OTHER_VERSION,
    Call,
    Reply,
    parse_answer,
    parse_reply,
)
from deploytool.fleet.protocol import request as framed

_CHUNK = 65536
_CHUNKS_AT_ONCE = 4


_KEPT = 8
"""So many descriptors the lines leave to everything else, such as reading a record."""
_SCARCE = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.ENOBUFS,
    errno.EADDRNOTAVAIL,
)
"""What this machine says when it has run out of something, and nothing of any host."""
_CLIENT_FAILED = 255
_HUNG_UP = "kex_exchange_identification: "
_OF_HANGING_UP = (_HUNG_UP, "Connection closed by ", "Connection reset by ", "banner exchange: ")
_SCARCELY = tuple(os.strerror(number) for number in _SCARCE)


class NoRoom(Exception):
    """This machine has no room for one more client now. It says nothing of the host."""


class SshChannel:
    """A running client. ``stdout`` and ``stderr`` are descriptors to wait on.

    Raises:
        NoRoom: this machine has run out of something that it takes; later there may be room.
        HostFault: the client can't be started.
    """

    _running = 0

    def __init__(self, argv: tuple[str, ...], host: str) -> None:
        self._host = host
        self._exchange: Conversed | None = None
        pipes: list[int] = []
        try:
            # Made here: where the third can't be, subprocess loses those that it has made.
            for _ in range(3):
                pipes += os.pipe()
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if SshChannel._running and max(pipes) + _KEPT >= limit != resource.RLIM_INFINITY:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # noqa: TRY301
            theirs, ours = (pipes[0], pipes[3], pipes[5]), (pipes[1], pipes[2], pipes[4])
            # In a session of its own: a Ctrl-C is for us to hear, and must not end it half-way.
            self._process = subprocess.Popen(
                argv, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], start_new_session=True
            )
        except BaseException as error:
            for descriptor in pipes:
                os.close(descriptor)
            if isinstance(error, MemoryError) or getattr(error, "errno", None) in _SCARCE:
                raise NoRoom(str(error) or "out of memory") from error
            if isinstance(error, OSError | ValueError):
                text = f"ssh can't be started: {error}"
                raise HostFault(FaultKind.UNREACHABLE, text) from error
            raise
        for descriptor in theirs:
            os.close(descriptor)
        SshChannel._running += 1
        self._open = True
        self._stdin, self.stdout, self.stderr = ours
        for descriptor in ours:
            os.set_blocking(descriptor, False)
        self._heard = bytearray()
        self._errors = bytearray()
        self._unsent = b""
        self._nonce = ""
        self._asked: Call | Request | None = None
        self.asked_at = 0.0
        """When it was asked last, in seconds since the epoch."""
        self.of_agent = False
        """Whether it was asked in the agent's own format: the last rungs then need a new line."""
        self.reached = False
        """Whether the host has ever printed a word of ours: its shell's, or its agent's."""
        self.begun = False
        """Whether it has begun to answer what was asked last."""
        self.over = False

    @property
    def asked(self) -> Call | Request | None:
        """What was asked and is not answered yet."""
        return self._asked

    @property
    def unsent(self) -> bool:
        """Whether something still waits to be taken by the client."""
        return bool(self._unsent)

    @property
    def stdin(self) -> int:
        """Where what is unsent goes."""
        return self._stdin

    @property
    def said(self) -> str:
        """What the client has printed of errors."""
        return self._errors.decode("utf-8", "replace")

    @property
    def no_room(self) -> bool:
        """Whether the client ended because this machine had no room for what it needs.

        Its own last word counts, and not what a host may have printed before.
        """
        last = self.said.strip().rpartition("\n")[2]
        own = not self.reached and self._process.returncode == _CLIENT_FAILED
        return own and any(text in last for text in _SCARCELY)

    @property
    def turned_away(self) -> bool:
        """Whether the peer, or the jump host before it, hung up before its greeting.

        Nothing else may be in what the client printed: of a jump host whose key is refused it
        says so first.
        """
        own = not self.reached and self._process.returncode == _CLIENT_FAILED
        return own and self.said.startswith(_HUNG_UP) and not self._said_else()

    def _said_else(self) -> bool:
        return any(not line.startswith(_OF_HANGING_UP) for line in self.said.strip().splitlines())

    def keep_alive(self) -> None:
        """Sends an empty line, which an agent ignores, where nothing is asked of it now."""
        if self.of_agent and self._asked is None and not self._unsent:
            self._unsent = b"\n"
            self.flush()

    def ask(self, what: Call | Request) -> None:
        """Asks; the answer comes with ``hear``. A ``Call`` is one of the last rungs."""
        self._asked, self._nonce = what, os.urandom(16).hex()
        self.asked_at = time.time()
        request = None if isinstance(what, Call) else what
        self._exchange = LOG.asks(self._host, what.verb, request)
        self.begun = False
        self._heard.clear()
        if isinstance(what, Call):
            self._unsent += framed(what, self._nonce)
        else:
            self.of_agent = True
            self._unsent += request_bytes(what, self._nonce)
        self.flush()

    def flush(self) -> None:
        """Hands over what the client takes now; the rest waits."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._stdin, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""  # it has ended; what it printed says why

    def hear(self) -> Reply | Answer | None:
        """Takes in what has arrived; gives the answer once it is whole, else None.

        Raises:
            HostFault: refused, not understood, or the client has ended.
        """
        try:
            found = self._hear()
        except HostFault as fault:
            if self._exchange is not None:
                self._exchange.failed(fault)
                self._exchange = None
            raise
        if found is not None and self._exchange is not None:
            self._exchange.answered(None if isinstance(found, Reply) else found)
            self._exchange = None
        return found

    def _hear(self) -> Reply | Answer | None:
        asked = self._asked
        self._read(self.stderr, self._errors)
        ended = self._read(self.stdout, self._heard)
        if asked is None:
            if ended:
                raise self._fault(changes=False)
            return None
        self.reached = self.reached or arrived(self._nonce) in self._heard
        if f"deploytool {self._nonce} begin".encode() in self._heard:
            self.begun = self.reached = True
        if f"\ndeploytool {self._nonce} end ".encode() in self._heard and (
            self._heard.endswith(b"\n")
        ):
            self._asked = None
            heard = bytes(self._heard)
            if isinstance(asked, Call):
                return parse_reply(heard, self._nonce, asked)
            return parse_answer(heard, self._nonce, asked)
        if ended or len(self._heard) > ANSWER_BYTES_AT_MOST:
            raise self._fault(changes=asked.changes)
        return None

    def _read(self, descriptor: int, into: bytearray) -> bool:
        """Reads what is there; True at the end. A host that floods us is not read to its end."""
        with suppress(BlockingIOError):
            for _ in range(_CHUNKS_AT_ONCE):
                if not (data := os.read(descriptor, _CHUNK)):
                    return True
                if len(into) <= ANSWER_BYTES_AT_MOST:
                    into += data
        return False

    def _fault(self, *, changes: bool) -> HostFault:
        """Why the client ended: what it printed last is the reason that a person can use."""
        self.over = True
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0.2)
        self._read(self.stderr, self._errors)
        lines = self.said.strip().splitlines()
        if self._process.returncode == 0 and self.of_agent and not self.reached:
            # The helper of deploytool 0.1.0 ends without a word; an agent answers first.
            text = "it was made ready by deploytool 0.1.0, which knows the last rungs alone"
            return HostFault(FaultKind.AGENT, text, code=OTHER_VERSION)
        kind = FaultKind.LOST if self.reached else FaultKind.UNREACHABLE
        text = excerpt(lines[-1]) if lines else f"ssh ended with {self._process.returncode}"
        return HostFault(kind, text, in_doubt=changes and self.reached)

    def close(self) -> None:
        """Ends the client, and with it our end of whatever it waits for; the host goes on."""
        self.over = True
        if self._exchange is not None:
            self._exchange.failed(HostFault(FaultKind.LOST, "not waited for any longer"))
            self._exchange = None
        if self._open:  # once: by then another line may have their numbers
            self._open = False
            SshChannel._running -= 1
            for descriptor in (self._stdin, self.stdout, self.stderr):
                os.close(descriptor)
        with suppress(OSError):
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
