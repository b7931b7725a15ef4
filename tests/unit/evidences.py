"""Evidence of hosts that are a MATCH, to be spoiled by tests: it comes from simulated hosts."""

from __future__ import annotations

import functools

from deploytool.parity.judge import expect
from deploytool.parity.model import Evidence, Expected
from deploytool.parity.round import probe_call, read
from deploytool.simulation import fleet, program

RELEASE = program.build("2026.1")
MANIFEST = RELEASE[0]
OTHER_SHA = "f" * 64


@functools.cache
def rendered(supervisor: str = "systemd") -> fleet.Rendered:
    return fleet.Rendered.of(fleet.inventory(8, supervisor))


@functools.cache
def good(host: str = "router1", supervisor: str = "systemd") -> Evidence:
    """What a host shows that runs the release as it should."""
    running = fleet.running(host, rendered(supervisor), *RELEASE)
    return read(running.call(probe_call(), deadline_s=5))


@functools.cache
def bare(host: str = "router1", supervisor: str = "systemd") -> Evidence:
    """What a prepared host shows that has no release."""
    return read(fleet.bare(host, rendered(supervisor)).call(probe_call(), deadline_s=5))


@functools.cache
def wanted(host: str = "router1", supervisor: str = "systemd") -> Expected:
    """What that host has to show."""
    return expect(rendered(supervisor).inventory, host, MANIFEST)
