"""What can be rehearsed: each scenario plays on a fleet that is up, and says what it showed."""

from __future__ import annotations

from deploytool.rehearsal.scenarios import arming, deploying, stopdrill, underload
from deploytool.rehearsal.scenarios.model import Scenario

FIRST: tuple[Scenario, ...] = (
    deploying.HEALTHY,
    deploying.COPY_FAILS,
    deploying.MISSED_HOST,
)
"""What is played when nothing is named: the main job, in little time."""

SCENARIOS: tuple[Scenario, ...] = (
    *FIRST,
    underload.UNDER_LOAD,
    arming.FLAG_ARMING,
    stopdrill.STOP_DRILL,
)
