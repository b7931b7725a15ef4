"""The alphabets of requests and answers: each kind of text or number, and what it may be. Pure.

A kind is a name that stands in an annotation. While the agent runs it is ``str``, ``int`` or
``float``; ``CHECKS`` says what a value of it must be, once, for both ends.
"""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Digest = str
"""A SHA-256 in 64 lower-case hexadecimal digits."""
Hex = str
"""Hexadecimal digits, at most 128."""
Word = str
"""A word that can stand in a file of marks, in a command that is pasted, and in a unit's name."""
Name = str
"""The name of a flag, as an inventory and a registry spell it."""
Text = str
"""Anything that was printed or found: shown to a person, escaped, and never decided by."""
Document = str
"""A whole small file, such as a manifest or a signed request; at most 64 KiB."""
Path = str
"""A path as the kernel or the inventory has it."""
Count = int
"""A number of things or bytes, or an identifier that the kernel counts up."""
Pid = int
"""A process that can be signalled without hitting init or a group: above 1 (kill(2))."""
Time = int
"""Seconds since the epoch."""
Clock = float
"""Seconds since the epoch, with a fraction."""
Seconds = int
"""A length of time in whole seconds; at most a day."""
Port = int
"""A TCP port."""
Mode = int
"""Permission bits, as in stat(2)."""

COUNT_AT_MOST = 2**53
"""The last integer that every JSON parser keeps whole (RFC 8259, section 6)."""
PID_AT_MOST = 2**22
"""PID_MAX_LIMIT of 64-bit Linux (proc(5), /proc/sys/kernel/pid_max)."""
LAST_SECOND = 2**37
"""A calendar goes a little further: what is later can't be shown."""
TEXT_AT_MOST = 4096
DOCUMENT_AT_MOST = 65536
_WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@._:+-")
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_HEX = frozenset("0123456789abcdef")


def is_digest(value: object) -> bool:
    """Whether this is a SHA-256 as releases are named by."""
    return isinstance(value, str) and len(value) == 64 and _HEX.issuperset(value)


def is_word(value: object) -> bool:
    """Whether this is one word of the narrow alphabet."""
    return isinstance(value, str) and 0 < len(value) <= 200 and _WORD.issuperset(value)


def is_hex(value: object) -> bool:
    """Whether these are hexadecimal digits."""
    return isinstance(value, str) and 0 < len(value) <= 128 and _HEX.issuperset(value)


def is_name(value: object) -> bool:
    """Whether this can name a flag."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= 32
        and _NAME.issuperset(value)
        and "A" <= value[0] <= "Z"
    )


def _text(limit: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and len(value) <= limit


def _integer(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is_path(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TEXT_AT_MOST and "\0" not in value


def _is_clock(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= LAST_SECOND  # type: ignore[arg-type,operator] # it is a number


CHECKS: Mapping[str, Callable[[object], bool]] = {
    "bool": lambda value: type(value) is bool,
    "Digest": is_digest,
    "Hex": is_hex,
    "Word": is_word,
    "Name": is_name,
    "Text": _text(TEXT_AT_MOST),
    "Document": _text(DOCUMENT_AT_MOST),
    "Path": _is_path,
    "Count": _integer(0, COUNT_AT_MOST),
    "Pid": _integer(2, PID_AT_MOST),
    "Time": _integer(0, LAST_SECOND),
    "Clock": _is_clock,
    "Seconds": _integer(0, 86400),
    "Port": _integer(1, 65535),
    "Mode": _integer(0, 0o7777),
}
"""What a value of each kind must be."""
