"""Whether a rollout that did not end is older than one can be. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from deploytool.fleet.model import Inventory, split_waves
from deploytool.parity.host_notices import hold_notice, lock_notice
from deploytool.parity.model import Evidence
from deploytool.parity.rules import CLOCK_SKEW_AT_MOST_S

_LOOKS = 4
"""How often a rollout waits for a soak, and looks again, at most."""
_ROUNDS = 12
"""More rounds than that, over all hosts, no rollout takes beside those of its waves."""


def longest_s(inventory: Inventory) -> float:
    """More than a rollout of this fleet can take, in seconds, with every deadline used up."""
    service, ssh = inventory.service, inventory.ssh
    # Going back is a wave too, and the proofs of both ways wait as waves do.
    waves = len(split_waves(inventory.waves, inventory.names)) + 3
    look_s = 2 * ssh.command_timeout_s
    start_s = ssh.command_timeout_s + service.ready_timeout_s + 2 * service.stop_timeout_s
    wave_s = start_s + _LOOKS * (service.soak_s + look_s) + 2 * look_s
    return ssh.transfer_timeout_s + waves * wave_s + _ROUNDS * look_s


def abandoned(evidence: Mapping[str, Evidence], now: float, at_most_s: float) -> dict[str, str]:
    """The hosts that something holds which no living deployer can, and what it is.

    ``now``: in seconds since the epoch. ``at_most_s``: as ``longest_s`` gives it.
    """
    found: dict[str, str] = {}
    too_old = now - at_most_s - CLOCK_SKEW_AT_MOST_S
    for host, item in evidence.items():
        if item.hold is not None and item.hold.since < too_old:
            found[host] = hold_notice(item.hold)
        elif item.lock is not None and item.lock.since < too_old:
            found[host] = lock_notice(item.lock)
    return found
