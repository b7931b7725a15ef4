"""Runs programs to their end: bounded in time and in what they print, and nothing stays behind.

A program gets three pipes, a session of its own and a closed environment; of the agent's
descriptors, signals and limits it inherits none.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import time

from deploytool.agent.linux.programs import PATH
from deploytool.agent.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

ENVIRONMENT: Mapping[str, str] = {"PATH": PATH, "LANG": "C"}
"""All that a program finds in its environment."""
GRACE_S = 1.0
"""How long a program may take to end once it was told to, before it is killed."""
ERRORS_AT_MOST = 4096
"""Bytes of standard error that are kept, the last ones."""
_TERM, _KILL = 15, 9
_AT_ONCE = 65536
_POLL_MS = 20
"""How often a program is looked at where the kernel has no pidfd_open(2)."""
_SIGNALS = tuple(number for number in range(1, 32) if number not in (9, 19))


class ProgramEnd:
    """How a program ended. ``code`` None: it was killed; ``why`` says by what."""

    def __init__(self, code: int | None, output: bytes, errors: bytes, why: str) -> None:
        self.code = code
        self.output = output
        self.errors = errors
        self.why = why

    @property
    def text(self) -> str:
        """What it printed to standard error and why it was killed, for a person."""
        printed = self.errors.decode("utf-8", "replace").strip()
        return "; ".join(part for part in (printed, self.why) if part)[-ERRORS_AT_MOST:]


def spawn(argv: Sequence[str], streams: Sequence[int], environment: Mapping[str, str]) -> int:
    """Starts a program in a session of its own; gives its PID.

    ``streams``: what becomes its standard input, output and error; none of them is one of the
    agent's own three.

    Raises:
        OSError: it can't be started.
    """
    # posix_spawn(3) has no attribute for limits: the agent's own is lifted meanwhile.
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    try:
        return os.posix_spawnp(
            argv[0],
            [os.fsencode(word) for word in argv],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, ours, at) for at, ours in enumerate(streams)],
            setsid=True,
            setsigmask=(),
            setsigdef=_SIGNALS,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def detach(
    argv: Sequence[str],
    output: int,
    before: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> None:
    """Starts a program that is left to itself, as a child of init; ``output`` takes what it prints.

    ``before`` is called in the process that becomes the program.

    Raises:
        OSError: it can't be started.
    """
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        _become(argv, output, before, environment, tells)
    os.close(tells)
    try:
        os.waitpid(child, 0)
        failed = os.read(told, 16)  # its end is closed when the program was started
    finally:
        os.close(told)
    if failed:
        raise OSError(int(failed), os.strerror(int(failed)), argv[0])


def _become(
    argv: Sequence[str],
    output: int,
    before: Callable[[], None],
    environment: Mapping[str, str],
    tells: int,
) -> NoReturn:
    """In a child: its own child, in a session of its own, becomes the program."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for at, descriptor in enumerate((nowhere, output, output)):
            os.dup2(descriptor, at)
        before()
        os.execvpe(argv[0], [os.fsencode(word) for word in argv], environment)  # noqa: S606 no shell
    except OSError as error:
        os.write(tells, str(error.errno or 0).encode("ascii"))
    finally:
        os._exit(127)


def run(
    argv: Sequence[str],
    *,
    deadline_s: float,
    given: bytes = b"",
    output_at_most: int = 65536,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> ProgramEnd:
    """Runs a program to its end, or ends it; whatever it leaves of its process group is killed.

    One that can't be started is told as a shell tells it: code 127 or 126, and why.
    """
    pipes = [os.pipe(), os.pipe(), os.pipe()]
    theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
    ours = (pipes[0][1], pipes[1][0], pipes[2][0])
    try:
        pid = spawn(argv, theirs, environment)
    except OSError as error:
        for descriptor in ours:
            os.close(descriptor)
        code = 127 if error.errno == errno.ENOENT else 126
        return ProgramEnd(code, b"", f"{argv[0]}: {error.strerror}".encode(), "")
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return _Run(pid, ours, given, output_at_most).to_end(deadline_s)


class _Run:
    """A program that runs: its three pipes are served until it ends, or its time is up."""

    def __init__(self, pid: int, pipes: tuple[int, int, int], given: bytes, at_most: int) -> None:
        self._pid = pid
        self._input, self._output, self._errors = pipes
        self._left = memoryview(given)
        self._at_most = at_most
        self._printed = bytearray()
        self._complaints = bytearray()
        self._poll = select.poll()
        for descriptor in pipes:
            os.set_blocking(descriptor, False)
            events = select.POLLOUT if descriptor == self._input else select.POLLIN
            self._poll.register(descriptor, events)
        self._open = {*pipes}

    def to_end(self, deadline_s: float) -> ProgramEnd:
        """Serves it until it has ended, and all that it left behind."""
        why = ""
        ended = _descriptor_of(self._pid)
        try:
            if ended is not None:
                self._poll.register(ended, select.POLLIN)
            why = self._serve(deadline_s, ended)
        finally:
            # Its number is its own as long as it was not waited for, and so is its group's.
            signal_group(self._pid, _KILL)
            status = reap(self._pid, GRACE_S)
            for descriptor in (self._output, self._errors):
                while descriptor in self._open and self._read(descriptor):
                    pass  # what is still in the pipe
            for descriptor in (*self._open, *(() if ended is None else (ended,))):
                os.close(descriptor)
        if not why and len(self._printed) > self._at_most:
            why = self._too_much()
        if not why and (status is None or status < 0):
            why = "it does not end" if status is None else f"it was ended by signal {-status}"
        output = bytes(self._printed[: self._at_most])
        return ProgramEnd(None if why else status, output, bytes(self._complaints), why)

    def _serve(self, deadline_s: float, ended: int | None) -> str:
        """Until it ends; gives why it has to be killed, empty where it ended."""
        until = time.monotonic() + deadline_s
        why = ""
        while True:
            left = until - time.monotonic()
            if left <= 0:
                if why:
                    return why
                why = f"it did not end within {deadline_s:g} s"
                signal_group(self._pid, _TERM)
                until += GRACE_S
                continue
            wait = max(1, int(left * 1000))
            for descriptor, _ in self._poll.poll(wait if ended else min(wait, _POLL_MS)):
                if descriptor == ended:
                    return why
                if descriptor == self._input:
                    self._write()
                else:
                    self._read(descriptor)
            if len(self._printed) > self._at_most:
                return why or self._too_much()
            if ended is None and _has_ended(self._pid):
                return why

    def _too_much(self) -> str:
        return f"it printed more than {self._at_most} bytes"

    def _write(self) -> None:
        try:
            if self._left:
                self._left = self._left[os.write(self._input, self._left) :]
        except BlockingIOError:
            return
        except OSError:
            self._left = self._left[:0]  # it reads no more
        if not self._left:
            self._drop(self._input)

    def _read(self, descriptor: int) -> bool:
        """Takes what is there; whether there may be more."""
        try:
            part = os.read(descriptor, _AT_ONCE)
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        if not part:
            self._drop(descriptor)
        elif descriptor == self._output:
            self._printed += part[: self._at_most + 1 - len(self._printed)]
        else:
            self._complaints = (self._complaints + part)[-ERRORS_AT_MOST:]
        return bool(part) and len(self._printed) <= self._at_most

    def _drop(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._open.discard(descriptor)
        os.close(descriptor)


def _descriptor_of(pid: int) -> int | None:
    """What becomes readable when a child ends; None where the kernel has no pidfd_open(2)."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def signal_group(group: int, number: int) -> None:
    """Signals a process group, where there still is one."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # it is gone, or all that is left of it took another account


def reap(pid: int, within_s: float) -> int | None:
    """How a killed child ended; None where it does not, as in uninterruptible sleep."""
    until = time.monotonic() + within_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.002)
