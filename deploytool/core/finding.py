"""One thing that a rule has to say of a host, or of the fleet, as a value. Pure.

Sentences are made of findings at the end; nothing is decided by reading one. What to do about a
finding is looked up by its ``rule``, and by its ``aspect`` where a rule looks at several things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Level(Enum):
    """How a finding counts. UNKNOWN: it could not be seen; MISMATCH: it was seen to be wrong.

    FORBIDS: for it, what was asked for may not be done. NOTE: it is told, and decides nothing.
    """

    MISMATCH = "MISMATCH"
    UNKNOWN = "UNKNOWN"
    FORBIDS = "FORBIDS"
    NOTE = "NOTE"


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    ``what`` was looked at, what was ``expected`` and what was ``found``; a finding that forbids has
    a sentence in ``found`` alone. ``facts``: the values that the sentence is made of.
    """

    level: Level
    what: str
    expected: str
    found: str
    rule: str = ""
    host: str = ""
    """The host, or what else it is about (the fleet, the senders)."""
    aspect: str = ""
    """Which of the things that its rule looks at; empty where it looks at one."""
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def text(self) -> str:
        """It as a sentence, without the host."""
        if not self.expected:
            return self.found
        return f"{self.what}: expected {self.expected}, found {self.found}"

    def __str__(self) -> str:
        return self.text

    @property
    def line(self) -> str:
        """It as a sentence, with the host."""
        return f"{self.host}: {self.text}"

    def document(self) -> dict[str, Any]:
        """It as a program reads it (deploytool/schemas/finding.json)."""
        return {
            "rule": self.rule,
            "aspect": self.aspect,
            "host": self.host,
            "level": self.level.value,
            "what": self.what,
            "expected": self.expected,
            "found": self.found,
            "text": self.text,
            "facts": dict(self.facts),
        }


def trouble(host: str, rule: str, text: str, **facts: object) -> Finding:
    """What was seen to go wrong on a host, as a sentence and in values."""
    return Finding(Level.MISMATCH, "", "", text, rule, host, facts=facts)


def forbids(host: str, rule: str, text: str, **facts: object) -> Finding:
    """A reason why what was asked for may not be done. ``host``: or what else it is about."""
    return Finding(Level.FORBIDS, "", "", text, rule, host, facts=facts)
