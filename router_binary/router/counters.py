"""What has been counted since the process started."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Shown by `status` and `metrics`."""

    parents: int = 0
    open_parents: int = 0
    executions: int = 0
    executed_qty: int = 0
    rejects: int = 0
    flag_rejects: int = 0
    duplicates: int = 0
    market_rejects: int = 0
    cancels: int = 0
    repeated: int = 0
    bad_input: int = 0
    dropped_reports: int = 0
