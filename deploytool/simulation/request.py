"""Reads a request as the helper does: the same words, the same refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from deploytool.fleet.protocol import FORMAT

_LINES_AT_MOST = 64
_NUMBERS = frozenset({"token", "size", "manifest_size", "pid", "start", "seconds", "keep", "since"})
_WORDS = frozenset(
    {
        *("holder", "purpose", "plan", "rollout", "boot", "disk", "ask", "verdict", "next"),
        *("by", "reason", "lease"),
    }
)
_HEXADECIMAL = frozenset({"latch", "only"})
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9@._:+-]+")
_FLAG = re.compile(r"[A-Z][A-Z0-9_]{0,31}")
_NUMBER = re.compile(r"[0-9]{1,15}")


class HelperRefusal(Exception):
    """The helper says no, with its own word for why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


@dataclass
class HelperRequest:
    """What was asked, and the payload that came with it."""

    verb: str
    nonce: str
    payload: bytes
    requires: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> str:
        """The value of a key; empty where the request did not have it."""
        return self.values.get(key, "")

    def number(self, key: str) -> int:
        """A value that is a number; 0 where the request did not have it."""
        return int(self[key] or 0)

    def needs(self, *keys: str) -> None:
        """Makes sure that keys were in the request.

        Raises:
            HelperRefusal: one wasn't.
        """
        for key in keys:
            if not self[key]:
                raise HelperRefusal("bad-request", f"{key} is missing")


def first_line(line: str) -> HelperRequest | None:
    """The request that a first line begins; None where it is not this helper's language."""
    words = line.split(" ", 2)
    if len(words) < 3 or words[0] != FORMAT or not re.fullmatch(r"[0-9a-f]+", words[1]):
        return None
    return HelperRequest(words[2], words[1], b"")


def read(request: HelperRequest, rest: bytes) -> None:
    """Reads the lines that follow, and leaves what comes after them as the payload.

    Raises:
        HelperRefusal: a line is not allowed, or the request has no end.
    """
    for _ in range(_LINES_AT_MOST):
        line, newline, rest = rest.partition(b"\n")
        if not newline:
            raise HelperRefusal("bad-request", "the request ended early")
        key, _, value = line.decode("ascii", "replace").partition(" ")
        if key == ".":
            request.payload = rest
            return
        _take(request, key, value)
    raise HelperRefusal("bad-request", "the request has too many lines")


_KEYS: tuple[tuple[frozenset[str], re.Pattern[str], str], ...] = (
    (_NUMBERS, _NUMBER, "is not a number"),
    (frozenset({"flag"}), _FLAG, "is not the name of one"),
    (frozenset({"release", "before"}), re.compile(rf"none|{_DIGEST.pattern}"), "is not a SHA-256"),
    (frozenset({"manifest"}), _DIGEST, "is not a SHA-256"),
    (_HEXADECIMAL, re.compile(r"[0-9a-f]+"), "is not hexadecimal"),
    (_WORDS | {"requires"}, _WORD, "has characters that are not allowed"),
)
"""What each key's value may be, and what is said of one that may not."""


def _take(request: HelperRequest, key: str, value: str) -> None:
    for keys, form, wrong in _KEYS:
        if key in keys:
            if not form.fullmatch(value):
                raise HelperRefusal("bad-request", f"{key} {wrong}")
            break
    else:
        raise HelperRefusal("bad-request", "unknown key")
    if key == "requires":
        request.requires.insert(0, value)
    request.values[key] = value
