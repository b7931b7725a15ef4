"""What a contest of tools measured."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass
class Contest:
    """Who was measured on which hosts with which size, and the seconds that each run took."""

    hosts: int
    size_mib: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, tool: str) -> float:
        """The middle one of a tool's runs."""
        return statistics.median(self.seconds[tool])
