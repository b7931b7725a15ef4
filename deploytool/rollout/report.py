"""What a rollout comes to, while it goes on and at its end. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from deploytool.errors import EnvironmentProblem
from deploytool.parity.model import Round
from deploytool.rollout.checks import Obstacle
from deploytool.rollout.model import Plan, Purpose, State


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
