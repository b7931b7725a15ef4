"""The pinned host keys: OpenSSH's known_hosts file, narrowed to what names one host's own keys.

Paramiko's own reader drops lines that it can't read without a word, and stumbles over others: here
each is a mistake, named by its line, before anything is asked of a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from deploytool.errors import InputError
from deploytool.fleet.pinlines import damaged, pin_lines


@dataclass(frozen=True)
class Pin:
    """One line: the names of a host, plain or hashed, and one key of it."""

    names: tuple[str, ...]
    key: paramiko.PKey


@dataclass(frozen=True)
class Pins:
    """All keys that are pinned in one file."""

    lines: tuple[Pin, ...]

    def of(self, name: str) -> tuple[paramiko.PKey, ...]:
        """Every key that is pinned under this name, in the file's order: any of them will do."""
        return tuple(pin.key for pin in self.lines if _names(pin.names, name.lower()))

    def under(self, name: str, other: str | None) -> tuple[paramiko.PKey, ...]:
        """The same as ``ssh`` looks: under ``name``, a key type it lacks then under ``other``."""
        found = self.of(name)
        kinds = {key.get_name() for key in found}
        further = () if other is None else self.of(other)
        return (*found, *(key for key in further if key.get_name() not in kinds))


def _names(patterns: tuple[str, ...], name: str) -> bool:
    """Whether a line is about this host: sshd(8), "ssh_known_hosts file format".

    A pattern with ``!`` that fits takes the whole line out, whatever else fits.
    """
    fits = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if _fits(pattern[1:], name):
                return False
        else:
            fits = fits or _fits(pattern, name)
    return fits


def _fits(pattern: str, name: str) -> bool:
    if pattern.startswith("|"):
        return paramiko.HostKeys.hash_host(name, pattern) == pattern
    if "*" not in pattern and "?" not in pattern:
        return pattern.lower() == name
    return _wild(pattern.lower()).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _wild(pattern: str) -> re.Pattern[str]:
    """Only ``*`` and ``?`` are special: ``[`` stands before an address with a port."""
    special = {"*": ".*", "?": "."}
    return re.compile("".join(special.get(c) or re.escape(c) for c in pattern))


def read_pins(path: Path) -> Pins:
    """The keys that are pinned in the file ``path``.

    Raises:
        InputError: it can't be read, or has lines that are not understood; each is named.
    """
    means = "Nothing was touched. Without pinned keys no host can be trusted."
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(
            f"The pinned host keys in {path} can't be read: {why}.",
            means,
            f"Write each host's public key, read at its console, to {path}, one line a key.",
        ) from error
    pins, mistakes = _parse(text)
    if mistakes:
        raise InputError(
            f"The pinned host keys in {path} have {len(mistakes)} lines that are not understood.",
            means,
            "Fix the lines named here: each is NAMES KEYTYPE KEY, one public key of one host.",
            tuple(f"{path}:{number}: {why}" for number, why in mistakes),
        )
    return pins


@lru_cache(maxsize=4)
def _parse(text: str) -> tuple[Pins, tuple[tuple[int, str], ...]]:
    """Kept by the text: each session to each host of a large fleet asks for the same."""
    pins: list[Pin] = []
    mistakes = tuple(_read(text, pins))
    return Pins(tuple(pins)), mistakes


def _read(text: str, pins: list[Pin]) -> Iterator[tuple[int, str]]:
    """Fills ``pins``, and yields what is wrong and where."""
    for number, line in pin_lines(text):
        if isinstance(line, str):
            yield number, line
            continue
        try:
            key: paramiko.PKey = paramiko.PKey.from_type_string(line.kind, line.blob)
        except UnknownKeyType:
            continue  # such keys are never asked for here: it pins nothing, and harms nothing
        except (ValueError, paramiko.SSHException):
            yield number, damaged(line.kind)
            continue
        if key.asbytes() != line.blob:  # paramiko fills up with zeros what is missing
            yield number, damaged(line.kind)
        else:
            pins.append(Pin(line.names, key))
