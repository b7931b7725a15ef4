"""What a rollout comes to, while it goes on and at its end. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from deploytool.errors import EnvironmentProblem
from deploytool.parity.model import Round
from deploytool.rollout.checks import Obstacle
from deploytool.rollout.model import Plan, Purpose, State


class Observer(Protocol):
    """Whoever watches a rollout. Calls come from the runner's own thread."""

    def state(self, state: State, hosts: tuple[str, ...]) -> None:
        """The rollout is now in ``state`` and works on ``hosts``."""

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """``host`` reached something (good), failed (bad), or is still at it (None)."""


@dataclass
class Report:
    """What a rollout came to. ``trouble`` has a line for each host that failed at something."""

    purpose: Purpose
    state: State
    label: str
    release: str
    plan: Plan | None = None
    round: Round | None = None
    before: dict[str, str | None] = field(default_factory=dict)
    obstacles: tuple[Obstacle, ...] = ()
    trouble: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    stopped: bool = False
    already: bool = False
    journal: EnvironmentProblem | None = None
    path: list[State] = field(default_factory=list)
