"""The agent's entry: answers requests from its standard input until that ends, or one is refused.

Its standard streams are moved away first, so that no program that it starts can write into the
protocol. A change in progress is carried to its end also when the connection is lost.
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import sys
import time

from deploytool.agent.linux import Linux
from deploytool.agent.protocol import (
    FIRST_LINE_AT_MOST,
    FORMAT,
    REQUEST_AT_MOST,
    answer_begin,
    answer_rest,
    parse_first_line,
    parse_json,
)
from deploytool.agent.record import Malformed
from deploytool.agent.requests import LetIn, Probe, RefusedAnswer
from deploytool.agent.serve import serve
from deploytool.agent.settings import Settings
from deploytool.agent.signals import signal
from deploytool.agent.verbs import find
from deploytool.agent.words import is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType
    from typing import NoReturn

    from deploytool.agent.requests import Answer, Request

REQUESTS_AT_MOST = 100_000
"""So many are answered by one run."""
IDLE_S = 86400.0
"""How long it waits for another request."""
REST_S = 60.0
"""How long the rest of a request may take to arrive, and an answer to be taken."""
USAGE, BUG = 64, 70
"""Exit codes (sysexits.h): what arrived is not a request; the agent itself failed."""
_SETTINGS_AT_MOST = 1024 * 1024
_AT_ONCE = 65536


class Input:
    """What arrives. Reads may be short, and another program may have made them non-blocking."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = b""
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def line(self, at_most: int, wait_s: float) -> bytes | None:
        """One line with its end; None where the input has ended before it.

        Raises:
            OSError: it is longer (EMSGSIZE), or does not come in time (``TimeoutError``).
        """
        until = time.monotonic() + wait_s
        parts = [self._held]
        length = len(self._held)
        while b"\n" not in parts[-1]:
            if length > at_most:
                raise OSError(errno.EMSGSIZE, "the line is too long")
            parts.append(self._read(_AT_ONCE, until - time.monotonic()))
            length += len(parts[-1])
            if not parts[-1]:
                return None
        line, end, self._held = b"".join(parts).partition(b"\n")
        if len(line) >= at_most:
            raise OSError(errno.EMSGSIZE, "the line is too long")
        return line + end

    def take(self, at_most: int, wait_s: float) -> bytes:
        """At most so many bytes of what follows; none at its end. See ``port.Payload``."""
        if self._held:
            taken, self._held = self._held[:at_most], self._held[at_most:]
            return taken
        return self._read(at_most, wait_s)

    def _read(self, at_most: int, wait_s: float) -> bytes:
        until = time.monotonic() + wait_s
        while True:
            left = until - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                raise TimeoutError(errno.ETIMEDOUT, f"nothing arrived within {wait_s:g} s")
            try:
                return os.read(self._descriptor, at_most)
            except BlockingIOError:
                continue  # another process that shares the pipe was faster
            except ConnectionError:
                return b""


class AnswerStream:
    """Where answers go; none is lost because the other side reads slowly."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, content: bytes) -> bool:
        """Writes all of it; False where it is not taken, for good or for too long."""
        until = time.monotonic() + REST_S
        left = memoryview(content)
        while left:
            if not self._poll.poll(max(0.0, until - time.monotonic()) * 1000):
                return False
            try:
                left = left[os.write(self._descriptor, left[:_AT_ONCE]) :]
            except BlockingIOError:
                continue
            except OSError:
                return False
        return True


class Termination:
    """SIGTERM: ends the agent at once while it waits, and after the request that it is at."""

    def __init__(self) -> None:
        self._busy = False
        self._asked = False
        signal.signal(signal.SIGTERM, self._end)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN)
        # Where the caller ignores it, the kernel keeps from us how our own programs ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if not self._busy:
            raise SystemExit(0)
        self._asked = True

    def __enter__(self) -> None:
        """A request begins."""
        self._busy = True

    def __exit__(self, *_: object) -> None:
        """It has ended."""
        self._busy = False
        if self._asked:
            raise SystemExit(0)

    def waiting(self) -> Waiting:
        """While the block runs it waits, though a request began."""
        return Waiting(self)


class Waiting:
    """Within a request: it ends at once again."""

    def __init__(self, termination: Termination) -> None:
        self._termination = termination

    def __enter__(self) -> None:
        """The wait begins."""
        self._termination.__exit__()

    def __exit__(self, *_: object) -> None:
        """It has ended."""
        self._termination.__enter__()


class Agent:
    """One run of the agent."""

    def __init__(
        self,
        settings: Settings,
        digest: str,
        source: Input,
        sink: AnswerStream,
        *,
        by_rule: bool = False,
    ) -> None:
        self._by_rule = by_rule
        self._system = Linux(settings)
        self._digest = digest
        self._input = source
        self._output = sink
        self._termination = Termination()

    def run(self, line: bytes | None) -> int:
        """Answers ``line``, and what follows it; gives the exit code."""
        for _ in range(REQUESTS_AT_MOST):
            if line is None:
                return 0
            with self._termination:
                code = self._answer(line)
            if code is not None:
                return code
            line = self._next()
        return 0

    def _next(self) -> bytes | None:
        """The next request's first line; an empty one only keeps the connection from being cut."""
        line = self._input.line(FIRST_LINE_AT_MOST, IDLE_S)
        while line == b"\n":
            line = self._input.line(FIRST_LINE_AT_MOST, IDLE_S)
        return line

    def _answer(self, line: bytes) -> int | None:
        """Answers one request; None where another may follow, else the exit code."""
        try:
            nonce, kind = parse_first_line(line)
        except Malformed as error:
            return self._answer_other(line, error)
        if not self._output.write(answer_begin(nonce)):
            return 0
        self._get_ready(kind)
        answer: Answer | RefusedAnswer
        try:
            request = self._rest(kind)
        except OSError as error:
            answer = RefusedAnswer(code="bad-request", text=str(error.strerror))
        else:
            answer = self._carried_out(kind, request)
        taken = self._output.write(answer_rest(nonce, answer))
        return 0 if isinstance(answer, RefusedAnswer) or not taken else None

    def _rest(self, kind: type[Request]) -> bytes:
        """The rest of a request. One that changes something is carried to its end once it began."""
        if kind.changes:
            return self._input.line(REQUEST_AT_MOST, REST_S) or b""
        with self._termination.waiting():
            return self._input.line(REQUEST_AT_MOST, REST_S) or b""

    def _get_ready(self, kind: type[Request]) -> None:
        """Imports what the verb needs, while the rest of the request may still be on its way."""
        find(kind.verb)
        if kind is Probe:
            system = self._system
            _ = system.files, system.machine, system.processes, system.supervisor

    def _carried_out(self, kind: type[Request], line: bytes) -> Answer | RefusedAnswer:
        if self._by_rule and kind is LetIn:
            text = "only root itself lets a host in, and not the deploy account"
            return RefusedAnswer(code="rights", text=text)
        return serve(self._system, self._digest, kind, line, self._input.take)

    def _answer_other(self, line: bytes, error: Malformed) -> int:
        """Refuses what no verb of this version is, in the format in which it was asked."""
        words = line.decode("ascii", "replace").split()
        if len(words) != 3 or not is_hex(words[1]):
            return USAGE
        if words[0] == FORMAT:
            refused = RefusedAnswer(code="other-version", text=str(error))
            self._output.write(answer_begin(words[1]) + answer_rest(words[1], refused))
            return 0
        if words[0] != "deploytool/1":
            return USAGE
        text = f"refused other-version in this conversation requests have the format {FORMAT}\n"
        end = f"deploytool {words[1]} end {text}".encode("ascii")
        self._output.write(answer_begin(words[1]) + end)
        return 0


def _own_streams() -> tuple[int, int]:
    """Standard input and output, moved away; nothing else that was inherited stays open."""
    while os.open(os.devnull, os.O_RDWR) < 3:
        pass  # one of the three was closed, and must not become a file of ours
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                pass  # the listing's own
    source, sink = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.dup2(2, 1)
    return source, sink


def main(content: bytes, parts: Mapping[str, bytes], words: Sequence[str]) -> NoReturn:
    """Runs the agent.

    ``words``: nonce and verb of the first request, whose line was read already; and ``deploy``
    where it is run by the rule of sudo that the deploy account has.

    What can't be answered ends without the last line of an answer: its effect is then in doubt.
    """
    source, sink = _own_streams()
    os.umask(0o022)
    os.chdir("/")
    digest = hashlib.sha256(content).hexdigest()
    settings = Settings.from_json(parse_json(parts["settings"], _SETTINGS_AT_MOST), strict=True)
    first = " ".join((FORMAT, *words[:2])).encode("ascii", "replace")
    by_rule = tuple(words[2:]) == ("deploy",)
    agent = Agent(settings, digest, Input(source), AnswerStream(sink), by_rule=by_rule)
    try:
        code = agent.run(first)
    except OSError as error:
        sys.stderr.write(f"deploytool: {error}\n")
        code = BUG
    sys.stderr.flush()
    os._exit(code)  # nothing is left to be done, and taking an interpreter down costs a host time
