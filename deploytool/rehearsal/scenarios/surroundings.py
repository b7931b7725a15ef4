"""Scenarios about what a host stands in: its disk, its clock, its network."""

from __future__ import annotations

from contextlib import ExitStack

from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.scenarios.power import (
    When,
    all_run,
    brought_back,
    fails_honestly,
    named,
    on_baseline,
)
from deploytool.rehearsal.stage import Stage

_HOUR_S = 3600

_FILL = """
set -u
mkdir -p /var/rehearsal && cd /var/rehearsal
n=0
for size in 256M 16M 1M; do
    while [ "$n" -lt 4096 ] && fallocate -l "$size" "fill.$n" 2>/dev/null; do n=$((n + 1)); done
    rm -f "fill.$n"
done
df --output=avail -k . | tail -n 1
"""
_EMPTY = "rm -rf /var/rehearsal"
_SET_CLOCK = 'date -s "@$(($(date +%s) + $1))"'


def disk_full(stage: Stage, showing: Showing) -> None:
    """The disk of one host is full, truly: nobody is changed, and the host is named."""
    if not on_baseline(stage, showing):
        return
    victim, fleet = stage.last_host, stage.machines
    stage.forget(stage.candidate)
    told = fleet.inside(victim, ("sh", "-c", _FILL), timeout_s=60.0)
    try:
        showing.point(told.code == 0, f"{told.out.strip()} KiB are free on {victim}")
        ended = stage.deploy(stage.candidate)
        why = named(ended, victim)
        showing.point(ended.exit_code in {3, 4}, f"the deploy: exit {ended.exit_code}")
        showing.point("free" in why or "space" in why, f"{victim} is named: {why or 'NOT NAMED'}")
        all_run(stage, showing, stage.baseline)
    finally:
        fleet.inside(victim, ("sh", "-c", _EMPTY))
    after = stage.deploy(stage.candidate)
    showing.point(after.exit_code == 0, f"with room again: exit {after.exit_code}, {after.text}")


def clock_off(stage: Stage, showing: Showing) -> None:
    """One host's clock is an hour off: whatever expires would be wrong there, so nothing starts."""
    if not on_baseline(stage, showing):
        return
    victim, fleet = stage.last_host, stage.machines
    stage.forget(stage.candidate)
    fleet.inside(victim, ("sh", "-c", _SET_CLOCK, "sh", str(_HOUR_S)))
    try:
        ended = stage.deploy(stage.candidate)
        why = named(ended, victim)
        showing.point(ended.exit_code == 3, f"the deploy is refused: exit {ended.exit_code}")
        showing.point("clock" in why, f"{victim} is named: {why or 'NOT NAMED'}")
        seen = stage.status()
        showing.point(seen.exit_code == 5, f"status: exit {seen.exit_code}, {seen.text}")
        all_run(stage, showing, stage.baseline)
    finally:
        fleet.inside(victim, ("sh", "-c", _SET_CLOCK, "sh", str(-_HOUR_S)))
    after = stage.status()
    showing.point(after.exit_code == 0, f"set right: exit {after.exit_code}, {after.text}")


def partition(stage: Stage, showing: Showing) -> None:
    """A host drops off the network once it holds the copy; nobody else is switched."""
    if not on_baseline(stage, showing):
        return
    victim, fleet = stage.last_host, stage.machines
    stage.forget(stage.candidate)
    others = tuple(host.name for host in stage.record.hosts if host.name != victim)
    with ExitStack() as cable:

        def pull() -> None:
            cable.enter_context(fleet.cut_off(victim))

        pulled = When(victim, "staged", pull)
        ended = stage.deploy(stage.candidate, observer=pulled, hurried=True)
        showing.point(pulled.acted, f"{victim} dropped off the network after the copy")
        fails_honestly(stage, showing, ended, victim)
        all_run(stage, showing, stage.baseline, others)
    brought_back(stage, showing, ended)


DISK_FULL = Scenario("disk-full", "the disk of one host is full", disk_full, ("vagrant",))
CLOCK_OFF = Scenario(
    "clock-off-by-an-hour", "the clock of one host is an hour off", clock_off, ("vagrant",)
)
NETWORK_PARTITION = Scenario(
    "network-partition",
    "a host drops off the network between copy and switch",
    partition,
    ("vagrant", "container"),
)
