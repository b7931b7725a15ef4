"""Programs that run beside the loop: the loop waits for them, and orders don't.

What a program reads and writes are files in memory, so nothing is left behind, and a full disk
changes nothing. A program that doesn't end in time is killed.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from router.loop import Loop

DEADLINE_S: Final = 2.0
# Killed ones count until the kernel has let go of them.
MAX_PROGRAMS: Final = 8
MAX_OUTPUT: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code, or in words why there is none."""

    code: int | None
    output: str
    errors: str
    why: str = ""

    @property
    def trouble(self) -> str:
        """What it said, or what became of it, in one line."""
        said = " ".join((self.errors or self.output).split())[:500]
        return self.why or said or f"it ended with {self.code}"


Done = Callable[[Ended], None]


@dataclass(slots=True)
class _Program:
    """One program under way."""

    pid: int
    pidfd: int
    output: int
    errors: int
    until_s: float
    done: Done | None


class Subprocesses:
    """Starts programs, a bounded number of them, each for a bounded time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._programs: dict[int, _Program] = {}

    def run(
        self,
        command: Sequence[str],
        done: Done,
        *,
        reads: bytes = b"",
        files: Sequence[bytes] = (),
        until_s: float | None = None,
    ) -> None:
        """Start `command`; `done` is called once, and never from here.

        Each of `files` is there for the program under the path that stands in the command as
        `{0}`, `{1}`. `reads` is its standard input. `until_s`, on the monotonic clock, is when it
        is killed.
        """
        # Even what fails at once is told by a later turn, so that nobody is called back too early.
        if len(self._programs) >= MAX_PROGRAMS:
            self._tell_later(done, f"{MAX_PROGRAMS} programs run beside this router already")
            return
        opened: list[int] = []
        try:
            opened.extend(_in_memory(content) for content in (reads, b"", b"", *files))
            pid = _spawn(command, opened)
        except (OSError, ValueError) as error:
            self._tell_later(done, f"{command[0]} can't be started: {error}")
        else:
            output, errors = os.dup(opened[1]), os.dup(opened[2])
            until_s = time.monotonic() + DEADLINE_S if until_s is None else until_s
            self._watch(_Program(pid, -1, output, errors, until_s, done))
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _watch(self, program: _Program) -> None:
        try:
            program.pidfd = os.pidfd_open(program.pid)
        except OSError as error:  # a kernel before 5.3
            os.kill(program.pid, signal.SIGKILL)
            os.waitpid(program.pid, 0)
            os.close(program.output)
            os.close(program.errors)
            if program.done is not None:
                self._tell_later(program.done, f"this kernel can't wait for a program: {error}")
            return
        self._programs[program.pidfd] = program
        self._loop.add(program.pidfd, lambda _events: self._ended(program))

    def _tell_later(self, done: Done, why: str) -> None:
        event = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

        def tell(_events: int) -> None:
            self._loop.remove(event)
            os.close(event)
            done(Ended(None, "", "", why))

        self._loop.add(event, tell)

    def _ended(self, program: _Program) -> None:
        try:
            _, status = os.waitpid(program.pid, os.WNOHANG)
            code, why = os.waitstatus_to_exitcode(status), ""
        except ChildProcessError as error:
            code, why = None, f"nobody can say how it ended: {error}"
        output, errors = _read(program.output), _read(program.errors)
        self._forget(program)
        if program.done is not None:
            program.done(Ended(code, output, errors, why))

    def _forget(self, program: _Program) -> None:
        del self._programs[program.pidfd]
        self._loop.remove(program.pidfd)
        for descriptor in (program.pidfd, program.output, program.errors):
            os.close(descriptor)

    def tick(self, now_s: float) -> None:
        """Kill what is late, and say so."""
        for program in list(self._programs.values()):
            if now_s <= program.until_s or program.done is None:
                continue
            done, program.done = program.done, None
            signal.pidfd_send_signal(program.pidfd, signal.SIGKILL)
            done(Ended(None, "", "", "it did not end in time, and was killed"))

    def close(self) -> None:
        """Kill what runs; nobody is told any more."""
        for program in list(self._programs.values()):
            signal.pidfd_send_signal(program.pidfd, signal.SIGKILL)
            self._forget(program)


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("router", os.MFD_CLOEXEC)
    try:
        written = os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        os.close(descriptor)
        raise
    if written != len(content):
        os.close(descriptor)
        raise OSError("no memory for what a program reads")
    return descriptor


def _spawn(command: Sequence[str], opened: Sequence[int]) -> int:
    """Start it with the first three as its standard files, and the others under their paths."""
    files = opened[3:]
    paths = [f"/proc/self/fd/{descriptor}" for descriptor in files]
    for descriptor in files:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - the os module's own signature
    actions = [(os.POSIX_SPAWN_DUP2, opened[target], target) for target in range(3)]
    return os.posix_spawnp(
        command[0],
        [part.format(*paths) for part in command],
        {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
        file_actions=actions,
        setsigdef=[signal.SIGPIPE],
    )


def _read(descriptor: int) -> str:
    return os.pread(descriptor, MAX_OUTPUT, 0).decode("utf-8", "replace").strip()
