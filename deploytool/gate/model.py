"""What the gate checks and what a check found: frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Check(Enum):
    """The checks, by the id that messages show, in the order in which they are held."""

    FLAGS = "GATE_FLAGS"
    RETIRED_CODE = "GATE_RETIRED_CODE"
    DEAD_CODE = "GATE_DEAD_CODE"
    MANIFEST = "GATE_MANIFEST"
    INVENTORY = "GATE_INVENTORY"
    REHEARSED = "GATE_REHEARSED"
    REPRODUCIBLE = "GATE_REPRODUCIBLE"


REASONS = {
    Check.FLAGS: "no bit and no name is used twice, against all history",
    Check.RETIRED_CODE: "nothing of a retired flag is in the artifact, and nothing unreachable",
    Check.DEAD_CODE: "no code ships that nothing uses",
    Check.MANIFEST: "the manifest is complete and true, of this very commit, and of nothing else",
    Check.INVENTORY: "every fleet is declared so that nothing can be skipped or taken for another",
    Check.REHEARSED: "this very digest was rehearsed on a fleet of this shape, without a lie",
    Check.REPRODUCIBLE: "who builds it again gets the same bytes, and these are released",
}
"""Why each check is there, in words that a person reads beside it."""


@dataclass(frozen=True)
class GateFinding:
    """One thing that a check has to say against what it looked at.

    ``rule`` is the check's id, or a finer rule's. ``path`` is relative to the repository's top,
    where it lies in it; ``line`` counts from 1. ``unknown``: it could not be looked at, so what is
    there is not known; that is no pass either.
    """

    rule: str
    path: str
    line: int
    text: str
    remedy: str
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}. To fix it: {self.remedy}"


@dataclass(frozen=True)
class Result:
    """What one check came to; ``evidence`` is what it looked at, in words with numbers."""

    check: Check
    evidence: tuple[str, ...]
    findings: tuple[GateFinding, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether it looked at something and has nothing to say against it."""
        return bool(self.evidence) and not self.findings


@dataclass(frozen=True)
class GateReport:
    """All results of one run; ``left_out`` are the checks that nobody asked for."""

    results: tuple[Result, ...]
    left_out: tuple[Check, ...]

    @property
    def findings(self) -> tuple[GateFinding, ...]:
        """Of all checks, in their order."""
        return tuple(finding for result in self.results for finding in result.findings)
