"""One line to one host's helper: the stock ``ssh`` client, asked and heard without ever waiting.

Everything else goes over fabric and paramiko. A stop does not: OpenSSH's client starts in a tenth
of the time, and what breaks the one should not break the other (docs/decisions/stop.md).
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from contextlib import suppress

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.protocol import ANSWER_BYTES_AT_MOST, Call, Reply, excerpt, parse_reply
from deploytool.fleet.protocol import request as framed

_CHUNK = 65536
_CHUNKS_AT_ONCE = 4


class Line:
    """A running client. ``stdout`` and ``stderr`` are descriptors to wait on.

    Raises:
        HostFault: the client can't be started.
    """

    def __init__(self, argv: tuple[str, ...]) -> None:
        try:
            # In a session of its own: a Ctrl-C is for us to hear, and must not end it half-way.
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise HostFault(FaultKind.UNREACHABLE, f"ssh can't be started: {error}") from error
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self.stdout, self.stderr = (pipe.fileno() for pipe in pipes if pipe)
        for descriptor in (self._stdin, self.stdout, self.stderr):
            os.set_blocking(descriptor, False)
        self._heard = bytearray()
        self._errors = bytearray()
        self._unsent = b""
        self._nonce = ""
        self._call: Call | None = None
        self._asked_at = 0.0
        self.reached = False
        """Whether the helper has ever begun to answer."""
        self.begun = False
        """Whether it has begun to answer what was asked last."""
        self.over = False

    @property
    def asked(self) -> Call | None:
        """What was asked and is not answered yet."""
        return self._call

    @property
    def unsent(self) -> bool:
        """Whether something still waits to be taken by the client."""
        return bool(self._unsent)

    @property
    def stdin(self) -> int:
        """Where what is unsent goes."""
        return self._stdin

    def ask(self, call: Call, payload: bytes = b"") -> None:
        """Sends a call; its answer comes with ``hear``."""
        self._call, self._nonce = call, secrets.token_hex(16)
        self._asked_at = time.time()
        self.begun = False
        self._heard.clear()
        self._unsent += framed(call, self._nonce) + payload
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

    def hear(self) -> Reply | None:
        """Takes in what has arrived; gives the answer once it is whole, else None.

        Raises:
            HostFault: refused, not understood, or the client has ended.
        """
        call = self._call
        self._read(self.stderr, self._errors)
        ended = self._read(self.stdout, self._heard)
        if call is None:
            if ended:
                raise self._fault(Call("none", changes=False))
            return None
        if f"deploytool {self._nonce} begin".encode() in self._heard:
            self.begun = self.reached = True
        if f"\ndeploytool {self._nonce} end ".encode() in self._heard and (
            self._heard.endswith(b"\n")
        ):
            self._call = None
            reply = parse_reply(bytes(self._heard), self._nonce, call)
            return Reply(reply.lines, self._asked_at)
        if ended or len(self._heard) > ANSWER_BYTES_AT_MOST:
            raise self._fault(call)
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

    def _fault(self, call: Call) -> HostFault:
        """Why the client ended: what it printed last is the reason that a person can use."""
        self.over = True
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0.2)
        self._read(self.stderr, self._errors)
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        kind = FaultKind.LOST if self.reached else FaultKind.UNREACHABLE
        text = excerpt(lines[-1]) if lines else f"ssh ended with {self._process.returncode}"
        return HostFault(kind, text, in_doubt=call.changes and self.reached)

    def close(self) -> None:
        """Ends the client, and with it our end of whatever it waits for; the host goes on."""
        self.over = True
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        with suppress(OSError):
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
