"""What it comes to for a fleet that some hosts did not do what they were told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from deploytool.core.finding import Finding, Level
from deploytool.errors import HostFault

E = TypeVar("E")


def faults_of(outcomes: Mapping[str, object]) -> dict[str, HostFault]:
    """The hosts that did not do it, with why."""
    return {host: item for host, item in outcomes.items() if isinstance(item, HostFault)}


def fault_finding(host: str, fault: HostFault, rule: str = "answer", text: str = "") -> Finding:
    """A host that did not do what it was told, as a finding. ``text``: what else is said of it."""
    level = Level.UNKNOWN if fault.in_doubt else Level.MISMATCH
    return Finding(level, "", "", text or str(fault), rule, host, facts=fault.facts)


def came_of(faults: Mapping[str, HostFault], good: E, failed: E, unknown: E) -> E:
    """``good`` where no host failed; ``unknown`` where one may have done it all the same.

    ``failed`` says more than ``unknown``: it is known that what failed was not done.
    """
    if not faults:
        return good
    return unknown if any(fault.in_doubt for fault in faults.values()) else failed
