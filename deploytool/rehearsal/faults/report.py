"""What a campaign of faults came to: a line a case, and the counts that decide."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from deploytool.gate.record import Shape


@dataclass(frozen=True)
class PlayedCase:
    """How one case went. An empty ``lie``, ``unresolved`` or ``odd`` is a good one.

    ``lie``: a claim of success, or of restoration, that the hosts contradict. ``unresolved``:
    neither proven nor named, or not brought to one release afterwards. ``odd``: an honest end, but
    not one that this fault may lead to.
    """

    case: str
    fault: str
    struck: bool
    code: int | None
    mended_by: tuple[str, ...]
    seconds: float
    lie: str = ""
    unresolved: str = ""
    odd: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is to be said against it."""
        return not (self.lie or self.unresolved or self.odd)

    def __str__(self) -> str:
        end = "hangs" if self.code is None else "killed" if self.code < 0 else f"exit {self.code}"
        then = f"; then {', '.join(self.mended_by)}" if self.mended_by else ""
        late = "" if self.struck else " (ended before the fault could strike)"
        said = [
            f"{what}: {text}"
            for what, text in (
                ("FALSE", self.lie),
                ("UNRESOLVED", self.unresolved),
                ("UNEXPECTED", self.odd),
            )
            if text
        ]
        mark = "ok  " if self.good else "FAIL"
        head = f"{mark} {self.case}{late}: {end}{then}, {self.seconds:.1f} s"
        return "\n".join([head, *(f"       {line}" for line in said)])


@dataclass
class Campaign:
    """All cases of one run; ``shape``: of the fleet that they were played on, once it was up."""

    kind: str
    hosts: int
    seed: int
    possible: int
    planned: int
    shape: Shape | None = None
    played: list[PlayedCase] = field(default_factory=list)

    @property
    def lies(self) -> list[PlayedCase]:
        """Cases in which deploytool claimed what was not true."""
        return [item for item in self.played if item.lie]

    @property
    def unresolved(self) -> list[PlayedCase]:
        """Cases that were neither proven nor named, or that did not converge."""
        return [item for item in self.played if item.unresolved]

    @property
    def odd(self) -> list[PlayedCase]:
        """Cases with an end that their fault may not lead to."""
        return [item for item in self.played if item.odd]

    @property
    def passed(self) -> bool:
        """Whether there was something to play, and nothing is to be said against any of it."""
        return bool(self.played) and all(item.good for item in self.played)

    def lines(self) -> list[str]:
        """The summary."""
        ends = Counter(item.code for item in self.played)
        told = ", ".join(
            f"{count} x {'hangs' if code is None else 'killed' if code < 0 else f'exit {code}'}"
            for code, count in sorted(ends.items(), key=lambda item: str(item[0]))
        )
        slowest = max(self.played, key=lambda item: item.seconds, default=None)
        faults = len({item.fault for item in self.played})
        return [
            (
                f"cases            {len(self.played)} of {self.possible} possible, "
                f"{faults} faults, {self.hosts} {self.kind} hosts, seed {self.seed}"
            ),
            f"ends             {told or 'none'}",
            f"struck           {sum(item.struck for item in self.played)}",
            f"false successes  {len(self.lies)}",
            f"unresolved       {len(self.unresolved)}",
            f"unexpected ends  {len(self.odd)}",
            f"slowest          {slowest.seconds:.1f} s: {slowest.case}" if slowest else "slowest -",
            f"in all           {sum(item.seconds for item in self.played):.0f} s",
        ]

    def document(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "fleet": self.kind,
            "hosts": self.hosts,
            "seed": self.seed,
            "possible": self.possible,
            "planned": self.planned,
            "cases": [
                {
                    "case": item.case,
                    "fault": item.fault,
                    "struck": item.struck,
                    "exit": item.code,
                    "mended_by": list(item.mended_by),
                    "seconds": round(item.seconds, 1),
                    "false": item.lie,
                    "unresolved": item.unresolved,
                    "unexpected": item.odd,
                }
                for item in self.played
            ],
            "false_successes": len(self.lies),
            "unresolved": len(self.unresolved),
            "unexpected_ends": len(self.odd),
        }
