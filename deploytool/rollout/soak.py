"""Whether what serves has run long enough to have died young. Pure.

The time counts from the process's own start, as its host shows it: whoever started it, and
whichever deployer saw it first.
"""

from __future__ import annotations

from collections.abc import Mapping

from deploytool.parity.model import Evidence


def left_s(serving: Mapping[str, Evidence], soak_s: float) -> dict[str, float]:
    """How long each main process has still to run, in seconds; only those that have to.

    A process whose age was not shown has all of it before it.
    """
    left = {host: soak_s - (item.shown.age_s or 0.0) for host, item in serving.items()}
    return {host: seconds for host, seconds in left.items() if seconds > 0}
