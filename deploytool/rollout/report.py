"""What a rollout comes to, while it goes on and at its end. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from deploytool.core.finding import Finding
from deploytool.errors import EnvironmentProblem
from deploytool.parity.model import Round
from deploytool.rollout.model import Plan, Purpose, State


@dataclass
class Report:
    """What a rollout came to. ``trouble``: by host, the last thing that it failed at."""

    purpose: Purpose
    state: State
    label: str
    release: str
    plan: Plan | None = None
    round: Round | None = None
    before: dict[str, str | None] = field(default_factory=dict)
    obstacles: tuple[Finding, ...] = ()
    trouble: dict[str, Finding] = field(default_factory=dict)
    interrupted: bool = False
    stopped: bool = False
    already: bool = False
    may_be_halted: bool = False
    """Whether the user, or the inventory, says that hosts may be HALTED when it ends."""
    journal: EnvironmentProblem | None = None
    path: list[State] = field(default_factory=list)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that it rests on: what forbids it, what went wrong, what the last round found."""
        last = self.round.findings if self.round is not None else ()
        return tuple(dict.fromkeys((*self.obstacles, *self.trouble.values(), *last)))
