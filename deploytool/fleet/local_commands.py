"""Commands of the inventory that run on the operator's machine: no shell, a deadline, one answer.

Each prints one JSON object. What it says of a moment (``taken``) is its own clock's.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.fields import Argv
from deploytool.fleet.model import PLACEHOLDER
from deploytool.fleet.protocol import ANSWER_BYTES_AT_MOST


def ask(argv: Argv, words: Mapping[str, str], folder: Path, timeout_s: float) -> str:
    """What the command prints, run in ``folder`` with its placeholders filled in.

    It gets a session of its own, so that Ctrl-C reaches us alone, and is ended with all that it
    started when ``timeout_s`` has passed.

    Raises:
        HostFault: it can't be started, failed, printed too much, or did not end in time (and may
            have taken effect then).
    """
    command = [PLACEHOLDER.sub(lambda found: words[found.group(1)], text) for text in argv]
    name = excerpt(command[0])
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        text = f"{name} can't be run: {error.strerror}"
        raise HostFault(FaultKind.UNREACHABLE, text) from error
    try:
        output, errors = _read(process, time.monotonic() + timeout_s, name, timeout_s)
    finally:
        # Also what it left behind: nothing of it goes on once it was answered for.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != 0:
        why = excerpt(errors.decode("utf-8", "replace"))
        raise HostFault(FaultKind.REFUSED, f"{name} ended with {process.returncode}: {why}")
    return output.decode("utf-8", "replace")


def _read(
    process: subprocess.Popen[bytes], ends: float, name: str, timeout_s: float
) -> tuple[bytes, bytes]:
    """Its output and errors, once both have ended and it has."""
    late = HostFault(FaultKind.TIMEOUT, f"{name} did not end within {timeout_s:g} s", in_doubt=True)
    said: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as waiting, process:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                said[stream.fileno()] = bytearray()
                waiting.register(stream.fileno(), selectors.EVENT_READ)
        while waiting.get_map():
            found = waiting.select(max(0.0, ends - time.monotonic()))
            if not found:
                _end(process)
                raise late
            for key, _ in found:
                part = os.read(key.fd, 65536)
                said[key.fd] += part
                if len(said[key.fd]) > ANSWER_BYTES_AT_MOST:
                    _end(process)
                    raise HostFault(FaultKind.PROTOCOL, f"{name} printed too much", in_doubt=True)
                if not part:
                    waiting.unregister(key.fd)
        try:
            process.wait(max(0.001, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            _end(process)
            raise late from None
    output, errors = said.values()
    return bytes(output), bytes(errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ask_json(
    argv: Argv, words: Mapping[str, str], folder: Path, timeout_s: float
) -> dict[str, object]:
    """The one JSON object that the command prints.

    Raises:
        HostFault: as ``ask``, or what it prints is no JSON object.
    """
    text = ask(argv, words, folder, timeout_s)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HostFault(FaultKind.PROTOCOL, f"no JSON in its answer: {excerpt(text)}") from error
    if not isinstance(said, dict):
        raise HostFault(FaultKind.PROTOCOL, f"its answer is no JSON object: {excerpt(text)}")
    return said


def moment(said: Mapping[str, object]) -> float:
    """The time of an answer (``taken``), in seconds since the epoch.

    Raises:
        HostFault: it doesn't say, or not with a number.
    """
    taken = said.get("taken")
    if isinstance(taken, bool) or not isinstance(taken, int | float) or not 0 <= taken <= 2**37:
        raise HostFault(FaultKind.PROTOCOL, f"'taken' is no time: {excerpt(repr(taken))}")
    return float(taken)
