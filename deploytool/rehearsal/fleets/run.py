"""Runs programs of this machine: always with a deadline, and never leaving one behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

from deploytool.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_GRACE_S = 20.0
_AT_ONCE = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """How a program ended and what it said."""

    code: int
    out: str
    err: str


def which(program: str) -> str | None:
    """The path of ``program``; administrators' folders count, which users often lack on PATH."""
    where = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(program, path=where)


def find(program: str, package: str) -> str:
    """The path of ``program``, which has to be there.

    Raises:
        EnvironmentProblem: it is not installed; names the Debian package that holds it.
    """
    if found := which(program):
        return found
    raise EnvironmentProblem(
        f"The program {program} is not installed on this machine.",
        "Nothing was started.",
        f"sudo apt-get install {package}",
    )


def attempt(
    argv: Sequence[str],
    timeout_s: float,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    line: Callable[[str], None] | None = None,
    keep: Sequence[int] = (),
) -> Outcome:
    """Runs a program to its end, whatever that is.

    It gets a session of its own: Ctrl-C reaches us alone, and we end it in good order. ``env`` is
    put beside our environment. ``line`` is told each line of its output as it comes. ``keep``:
    descriptors of ours that it holds too.

    Raises:
        EnvironmentProblem: it could not be started, or did not end in time.
    """
    go_on()
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env=None if env is None else {**os.environ, **env},
            pass_fds=keep,
        )
    except OSError as error:
        raise EnvironmentProblem(
            f"{argv[0]} can't be run: {error.strerror}.",
            "The fleet is not what it should be.",
            f"See why this fails: {' '.join(argv[:2])}",
        ) from error
    jobs = _here.jobs
    with process, nullcontext() if jobs is None else jobs.counted(process):
        try:
            go_on()  # it may have been broken off just before it was counted
            if line is None:
                out, err = process.communicate(stdin, timeout=timeout_s)
            else:
                out, err = _watch(process, timeout_s, line)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise EnvironmentProblem(
                    f"{' '.join(argv[:3])} did not end within {timeout_s:g} s.",
                    "It was ended. The fleet is not what it should be.",
                    "Look at the machine's load, then take the fleet down and bring it up again.",
                ) from error
            raise
    return Outcome(process.returncode, out, err)


def _watch(
    process: subprocess.Popen[str], timeout_s: float, line: Callable[[str], None]
) -> tuple[str, str]:
    """Reads what a program says while it says it, both streams as one."""
    said: list[str] = []

    def read(stream: IO[str] | None) -> None:
        for text in stream or ():
            said.append(text)
            line(text.rstrip())

    readers = [
        threading.Thread(target=read, args=(stream,), daemon=True)
        for stream in (process.stdout, process.stderr)
    ]
    for reader in readers:
        reader.start()
    if process.stdin is not None:
        process.stdin.close()
    process.wait(timeout_s)
    for reader in readers:
        reader.join(_GRACE_S)
    return "".join(said), ""


def _end(process: subprocess.Popen[str]) -> None:
    """SIGTERM first: mmdebstrap and podman then clean up after themselves.

    Its whole process group: a shell that waits for a child hears nothing before that ends.
    """
    _tell(process, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        _tell(process, signal.SIGKILL)


def _tell(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def run(
    argv: Sequence[str],
    timeout_s: float,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    line: Callable[[str], None] | None = None,
    keep: Sequence[int] = (),
) -> str:
    """Runs a program that must succeed, and gives what it printed. See ``attempt``.

    Raises:
        EnvironmentProblem: it failed; with the last lines that it wrote.
    """
    outcome = attempt(argv, timeout_s, stdin, env, line, keep)
    if outcome.code != 0:
        said = (outcome.err.strip() or outcome.out.strip()).splitlines()[-8:]
        raise EnvironmentProblem(
            f"{' '.join(argv[:3])} failed with exit code {outcome.code}.",
            "The fleet is not what it should be.",
            "Read the lines above; then take the fleet down and bring it up again.",
            tuple(said),
        )
    return outcome.out


class _Jobs:
    """The programs that the jobs of one ``for_each`` run now, to end them when it is broken off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self.over = False

    def enter(self) -> None:
        """Makes what this thread runs from now on count."""
        _here.jobs = self

    @contextmanager
    def counted(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Within the block ``end`` ends that process."""
        with self._lock:
            self._running.add(process)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(process)

    def end(self) -> None:
        """Ends all of them, side by side: asked first, made to after a grace for all together."""
        with self._lock:
            self.over = True
            running = [process for process in self._running if process.poll() is None]
        for process in running:
            _tell(process, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _tell(process, signal.SIGKILL)


class _Here(threading.local):
    """What this thread does its work for."""

    jobs: _Jobs | None = None


_here = _Here()


def go_on() -> None:
    """Keeps a job of ``for_each`` from going on when that was broken off.

    Raises:
        KeyboardInterrupt: it was.
    """
    if _here.jobs is not None and _here.jobs.over:
        raise KeyboardInterrupt


def for_each(
    items: Iterable[Item], job: Callable[[Item], Result], at_once: int = _AT_ONCE
) -> list[Result]:
    """Does ``job`` for all items, a few at a time; all end before the first error is raised.

    A job that fails keeps none from its turn: what is left of a fleet doesn't depend on the order
    in which threads happened to run. Jobs here run programs through this module, or wait and ask
    ``go_on``: each of them ends by a deadline. Ctrl-C does not wait for that, it ends the programs.
    """
    jobs = _Jobs()
    pool = ThreadPoolExecutor(max_workers=at_once, initializer=jobs.enter)
    try:
        futures = [pool.submit(job, item) for item in items]
        return [future.result() for future in futures]
    except BaseException as error:
        if not isinstance(error, Exception):
            pool.shutdown(wait=False, cancel_futures=True)
            jobs.end()
        raise
    finally:
        pool.shutdown()
