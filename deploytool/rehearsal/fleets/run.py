"""Runs programs of this machine: always with a deadline, and never leaving one behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

from deploytool.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


def find(program: str, package: str) -> str:
    """The path of ``program``; administrators' folders count, which users often lack on PATH.

    Raises:
        EnvironmentProblem: it is not installed; names the Debian package that holds it.
    """
    where = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    if found := shutil.which(program, path=where):
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
) -> Outcome:
    """Runs a program to its end, whatever that is.

    It gets a session of its own: Ctrl-C reaches us alone, and we end it in good order. ``env`` is
    put beside our environment. ``line`` is told each line of its output as it comes.

    Raises:
        EnvironmentProblem: it could not be started, or did not end in time.
    """
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
        )
    except OSError as error:
        raise EnvironmentProblem(
            f"{argv[0]} can't be run: {error.strerror}.",
            "The fleet is not what it should be.",
            f"See why this fails: {' '.join(argv[:2])}",
        ) from error
    with process:
        try:
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
) -> str:
    """Runs a program that must succeed, and gives what it printed. See ``attempt``.

    Raises:
        EnvironmentProblem: it failed; with the last lines that it wrote.
    """
    outcome = attempt(argv, timeout_s, stdin, env, line)
    if outcome.code != 0:
        said = (outcome.err.strip() or outcome.out.strip()).splitlines()[-8:]
        raise EnvironmentProblem(
            f"{' '.join(argv[:3])} failed with exit code {outcome.code}.",
            "The fleet is not what it should be.",
            "Read the lines above; then take the fleet down and bring it up again.",
            tuple(said),
        )
    return outcome.out


def for_each(
    items: Iterable[Item], job: Callable[[Item], Result], at_once: int = _AT_ONCE
) -> list[Result]:
    """Does ``job`` for all items, a few at a time; all end before the first error is raised.

    Jobs here only run programs through this module, so each of them ends by a deadline.
    """
    pool = ThreadPoolExecutor(max_workers=at_once)
    try:
        futures = [pool.submit(job, item) for item in items]
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
