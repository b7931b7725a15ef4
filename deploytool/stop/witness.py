"""Asks the witness of silence: somebody other than the hosts, such as the market or a drop copy."""

from __future__ import annotations

import json
import subprocess
import time

from deploytool.stop.card import Card
from deploytool.stop.model import Witnessed

_BYTES_AT_MOST = 1024 * 1024
_LAST_SECOND = 2**37


def ask_witness(card: Card) -> Witnessed | str:
    """What the command that ``silence:`` names says; in words, why it says nothing of use.

    It runs on this machine, in the inventory's folder, without a shell, within its deadline.
    """
    if not card.silence:
        return "the inventory names no witness (silence:), so nobody else has seen the silence"
    asked = time.time()
    try:
        done = subprocess.run(
            card.silence,
            cwd=card.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=card.silence_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the witness did not answer within {card.silence_s:g} s"
    except OSError as error:
        return f"the witness can't be asked: {error}"
    answered = time.time()
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"the witness ended with {done.returncode}: {words[-1] if words else 'no word'}"
    try:
        return parse(done.stdout[:_BYTES_AT_MOST], asked, answered)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"the witness is not understood: {error!r:.200}"


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
