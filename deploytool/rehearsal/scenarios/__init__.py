"""What can be rehearsed: each scenario plays on a fleet that is up, and says what it showed."""

from __future__ import annotations

from deploytool.rehearsal.scenarios import arming, deploying, power, surroundings, underload
from deploytool.rehearsal.scenarios.model import Scenario
from deploytool.rehearsal.scenarios.stopdrill import drill

FIRST: tuple[Scenario, ...] = (
    deploying.HEALTHY,
    deploying.COPY_FAILS,
    deploying.MISSED_HOST,
)
"""What is played when nothing is named: the main job, in little time."""

MACHINES: tuple[Scenario, ...] = (
    power.REBOOT_MID_ROLLOUT,
    power.POWER_OFF,
    power.REBOOT_BRINGS_OLD_BUILD,
    surroundings.DISK_FULL,
    surroundings.CLOCK_OFF,
    surroundings.NETWORK_PARTITION,
)
"""What needs hosts with a power switch, a disk, a clock or a cable of their own."""

SCENARIOS: tuple[Scenario, ...] = (
    *FIRST,
    *MACHINES,
    underload.UNDER_LOAD,
    arming.FLAG_ARMING,
    drill.STOP_DRILL,
)
