"""What can be rehearsed: each scenario plays on a fleet that is up, and says what it showed."""

from __future__ import annotations

from deploytool.rehearsal.scenarios import deploying
from deploytool.rehearsal.scenarios.model import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    deploying.HEALTHY,
    deploying.COPY_FAILS,
    deploying.MISSED_HOST,
)
