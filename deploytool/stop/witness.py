"""Asks the witness of silence: somebody other than the hosts, such as the market or a drop copy.

All hosts have been told by then. Whatever the witness does, it has so many seconds and so many
bytes, and what it leaves running is ended.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress

from deploytool.core.text import excerpt
from deploytool.stop.model import Witnessed
from deploytool.stop.targets import StopTargets

_BYTES_AT_MOST = 1024 * 1024
_CHUNK = 65536
_POLL_S = 0.01
NOT_UNDERSTOOD = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What comes of reading something else than what was agreed upon."""
_LAST_SECOND = 2**37


def ask_witness(card: StopTargets) -> Witnessed | str:
    """What the command that ``silence:`` names says; in words, why it says nothing of use.

    It runs on this machine, in the inventory's folder, without a shell, within its deadline.
    """
    if not card.silence:
        return "the inventory names no witness (silence:), so no one else has seen the silence"
    asked = time.time()
    try:
        code, said, errors = _run(card)
    except TimeoutError:
        return f"the witness did not answer within {card.silence_s:g} s"
    except (OSError, ValueError) as error:
        return f"the witness can't be asked: {error}"
    answered = time.time()
    if code != 0:
        words = errors.decode("utf-8", "replace").strip().splitlines()
        return f"the witness ended with {code}: {excerpt(words[-1]) if words else 'no word'}"
    try:
        return parse(said, asked, answered)
    except NOT_UNDERSTOOD as error:
        return f"the witness is not understood: {excerpt(repr(error))}"


def _run(card: StopTargets) -> tuple[int, bytes, bytes]:
    """Its exit code, and what it printed to the end of its standard output, or of its life.

    Raises:
        TimeoutError: it did not come to an end in time.
        OSError, ValueError: it can't be run.
    """
    ends = time.monotonic() + card.silence_s
    process = subprocess.Popen(
        card.silence,
        cwd=card.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said = {pipe.fileno(): bytearray() for pipe in (process.stdout, process.stderr) if pipe}
    out, err = said
    try:
        _read(process, said, ends)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it leaves behind is of its own group
        code = process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return code, bytes(said[out]), bytes(said[err])


def _read(process: subprocess.Popen[bytes], said: dict[int, bytearray], ends: float) -> None:
    """Takes in what it prints until it has ended; a child that holds its output is not waited for.

    Raises:
        TimeoutError: it did not end in time.
        ValueError: it prints too much.
    """
    with selectors.DefaultSelector() as selector:
        for descriptor in said:
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            over = _ended(process)
            ready = selector.select(0.0 if over else _POLL_S)
            for key, _ in ready:
                data = os.read(key.fd, _CHUNK)
                said[key.fd] += data
                if len(said[key.fd]) > _BYTES_AT_MOST:
                    raise ValueError("it prints too much")
                if not data:
                    selector.unregister(key.fd)
            if over and not ready:
                return
            if not over and time.monotonic() >= ends:
                raise TimeoutError


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; it is not reaped yet, so that nobody else can have its number."""
    how = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, how) is not None


def parse(output: bytes, asked: float, answered: float) -> Witnessed:
    """A witnessed out of what the witness printed: one JSON object, ``taken`` and ``last_child``.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    said = json.loads(output)
    if not isinstance(said, dict) or not isinstance(said["last_child"], dict):
        raise TypeError("it is no JSON object with an object of hosts in it")
    last = {str(h): None if t is None else _second(t) for h, t in said["last_child"].items()}
    return Witnessed(_second(said["taken"]), asked, answered, last)


def _second(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} is no time")
    if not 0 <= value <= _LAST_SECOND:
        raise ValueError("that is no time")
    return float(value)
