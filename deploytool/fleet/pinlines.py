"""The lines of a known_hosts file, and what is wrong with them, without paramiko.

``stop`` asks here whether the file is of use at all, so this imports next to nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HASHED = re.compile(r"\|1\|[A-Za-z0-9+/]{27}=\|[A-Za-z0-9+/]{27}=")
_BYTES_AT_MOST = 16 * 1024 * 1024


@dataclass(frozen=True)
class PinLine:
    """One line: the names of a host, plain or hashed, the type of a key, and its bytes."""

    names: tuple[str, ...]
    kind: str
    blob: bytes


def pin_lines(text: str) -> Iterator[tuple[int, PinLine | str]]:
    """Each line that says something, by its number: what it pins, or what is wrong with it."""
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if fields and not fields[0].startswith("#"):
            yield number, _read(fields)


def _read(fields: list[str]) -> PinLine | str:
    if fields[0].startswith("@"):
        return f"markers such as {fields[0]} are not understood here"
    if len(fields) < 3:
        return "is not NAMES KEYTYPE KEY"
    names = tuple(fields[0].split(","))
    if any(name.startswith("|") and _HASHED.fullmatch(name) is None for name in names):
        return "the hashed name is damaged"
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    kind = fields[1].encode()
    typed = blob.startswith(len(kind).to_bytes(4, "big") + kind)
    if not typed or not ("-cert-" in fields[1] or _whole(blob)):
        return damaged(fields[1])
    return PinLine(names, fields[1], blob)


def damaged(kind: str) -> str:
    """What is said of a line whose key is not whole, or of another type."""
    return f"the key is not the {kind} key that the line says; it is damaged"


def _whole(blob: bytes) -> bool:
    """Whether a public key ends where one of its fields does (RFC 4251, section 5)."""
    at = 0
    while at < len(blob):
        at += 4 + int.from_bytes(blob[at : at + 4], "big")
    return at == len(blob)


def flaw(path: Path) -> str:
    """Why not every key that a known_hosts file should pin can be read; empty where it is sound."""
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_AT_MOST).decode("utf-8")
    except OSError as error:
        return f"can't be read: {error.strerror}"
    except (ValueError, MemoryError):
        return "can't be read: it is not UTF-8 text"
    pinned = 0
    for number, found in pin_lines(text):
        if isinstance(found, str):
            return f"line {number}: {found}"
        pinned += 1
    return "" if pinned else "holds no key"
