"""Every fault that is brought upon real hosts: its name, when it strikes, and how it may end.

A fault that the simulated fleet has too takes its name and its sentence from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from deploytool.rehearsal.fleets.model import Kind
from deploytool.simulation.faults import Fault


class Moment(Enum):
    """When a fault strikes, by what the deployer's journal says."""

    BEFORE = "before the deploy"
    LOCKING = "while locking"
    STAGING = "while staging"
    STAGED = "before the first switch"
    BETWEEN = "between the waves"
    SWITCHED = "after the last wave"
    UNLOCKING = "after the proof"


EARLY = (Moment.BEFORE, Moment.STAGING)
LATE = (Moment.STAGED, Moment.BETWEEN, Moment.SWITCHED)
DURING = (Moment.STAGING, *LATE)
ALWAYS = (Moment.BEFORE, *DURING)
ON_THE_WAY = (Moment.LOCKING, *DURING, Moment.UNLOCKING)
"""For what strikes the way alone: a host that was proven stays what it is."""
ANYWHERE: tuple[Kind, ...] = ("container", "local", "vagrant")
ENTERED: tuple[Kind, ...] = ("container", "local")
"""For what breaks every way in by SSH: a virtual machine has no other."""
MACHINES: tuple[Kind, ...] = ("container", "vagrant")
CONTAINERS: tuple[Kind, ...] = ("container",)

DEPLOYED, REFUSED, RESTORED, HELD = 0, 3, 4, 5
INTERRUPTED, KILLED = 130, -9
HONEST = frozenset({DEPLOYED, REFUSED, RESTORED, HELD})
"""Ends that claim something true, whichever it is; that it is true is asked on the hosts."""
FAILED = frozenset({RESTORED, HELD})


@dataclass(frozen=True)
class CatalogueEntry:
    """One fault. ``early``: the ends that it may lead to when it was there before the deploy."""

    name: str
    sentence: str
    kinds: tuple[Kind, ...]
    moments: tuple[Moment, ...]
    early: frozenset[int] = HONEST
    ends: frozenset[int] = HONEST
    relayed: bool = False
    """The deployer reaches the hosts through a relay of ours, which breaks as told."""
    every_host: bool = True
    """Whether it strikes one host; otherwise it strikes the deployer."""

    def allowed(self, moment: Moment) -> frozenset[int]:
        """The ends that this fault may lead to when it strikes then."""
        return self.early if moment is Moment.BEFORE else self.ends


def _shared(
    fault: Fault,
    kinds: tuple[Kind, ...],
    moments: tuple[Moment, ...],
    early: set[int] | frozenset[int] = HONEST,
    ends: set[int] | frozenset[int] = HONEST,
    *,
    relayed: bool = False,
) -> CatalogueEntry:
    name = fault.name.lower().replace("_", "-")
    return CatalogueEntry(
        name, fault.value, kinds, moments, frozenset(early), frozenset(ends), relayed
    )


def _deployer(name: str, sentence: str, moments: tuple[Moment, ...], *ends: int) -> CatalogueEntry:
    allowed = frozenset(ends)
    return CatalogueEntry(name, sentence, ANYWHERE, moments, allowed, allowed, every_host=False)


CATALOGUE: tuple[CatalogueEntry, ...] = (
    # The way to the host. What is there before the deploy is refused before anything is changed.
    _shared(
        Fault.CONNECTION_REFUSED, ANYWHERE, (Moment.BEFORE, *ON_THE_WAY), {REFUSED}, relayed=True
    ),
    _shared(Fault.CONNECT_TIMEOUT, ANYWHERE, (Moment.BEFORE, *ON_THE_WAY), {REFUSED}, relayed=True),
    _shared(Fault.CONNECTION_LOST, ANYWHERE, ON_THE_WAY, relayed=True),
    CatalogueEntry(
        "connection-lost-midway",
        "the connection is lost in the middle of a command",
        ANYWHERE,
        ON_THE_WAY,
        relayed=True,
    ),
    CatalogueEntry(
        "answer-lost",
        "the command is done, and its answer is lost",
        ANYWHERE,
        ON_THE_WAY,
        relayed=True,
    ),
    _shared(Fault.ANSWER_CUT, ANYWHERE, ON_THE_WAY, relayed=True),
    _shared(Fault.LATE, ANYWHERE, ON_THE_WAY, relayed=True),
    CatalogueEntry(
        "bytes-altered-on-the-way",
        "a bit is turned on its way to the host",
        ANYWHERE,
        ON_THE_WAY,
        relayed=True,
    ),
    _shared(Fault.AUTH_REFUSED, ANYWHERE, ALWAYS, {REFUSED}),
    _shared(Fault.HOST_KEY_CHANGED, ENTERED, ALWAYS, {REFUSED}),
    _shared(Fault.SHELL_NOISE, ANYWHERE, (Moment.BEFORE,), {DEPLOYED}),
    _shared(Fault.SUDO_ASKS, MACHINES, ALWAYS, {REFUSED}),
    CatalogueEntry(
        "sessions-killed",
        "every process of sshd but its first is killed on the host",
        CONTAINERS,
        DURING,
    ),
    _shared(Fault.HANGS, MACHINES, ALWAYS, {REFUSED}, FAILED),
    _shared(Fault.GONE, MACHINES, ALWAYS, {REFUSED}, FAILED),
    _shared(Fault.REBOOT, MACHINES, DURING),
    # Disks and rights.
    _shared(Fault.COPY_TRUNCATED, ANYWHERE, (Moment.BEFORE,), {RESTORED}),
    _shared(Fault.BYTES_CHANGED, ANYWHERE, ALWAYS),
    _shared(Fault.DISK_FULL, MACHINES, EARLY, {REFUSED}),
    _shared(Fault.DISK_READ_ONLY, MACHINES, ALWAYS, {REFUSED, RESTORED}, FAILED),
    CatalogueEntry(
        "rights-lost",
        "the agent may no longer be run",
        ANYWHERE,
        ALWAYS,
        frozenset({REFUSED}),
    ),
    _shared(Fault.AGENT_CHANGED, ANYWHERE, ALWAYS, {REFUSED}, FAILED),
    _shared(Fault.CONFIG_CHANGED, ANYWHERE, ALWAYS, {REFUSED}, FAILED),
    # The service.
    _shared(Fault.WONT_START, MACHINES, ALWAYS),
    CatalogueEntry(
        "dies-young",
        "the service starts, and dies after two seconds",
        MACHINES,
        (Moment.BEFORE, Moment.STAGING, Moment.STAGED),
        FAILED,
        FAILED,
    ),
    _shared(Fault.CRASHES, ANYWHERE, ALWAYS),
    _shared(Fault.RESTARTED, MACHINES, ALWAYS),
    _shared(Fault.SILENT, ANYWHERE, (Moment.SWITCHED,), HONEST, FAILED),
    _shared(Fault.VERSION_LIES, MACHINES, (*EARLY, Moment.STAGED), {RESTORED}),
    _shared(Fault.STATUS_STALE, MACHINES, ALWAYS, FAILED),
    _shared(Fault.OLD_SURVIVES, MACHINES, ALWAYS, {REFUSED}, FAILED),
    _shared(Fault.SECOND_COPY, MACHINES, ALWAYS, {REFUSED}),
    _shared(Fault.PORT_KEPT, MACHINES, ALWAYS, {REFUSED}, FAILED),
    _shared(Fault.DROP_IN, MACHINES, ALWAYS, {REFUSED}, FAILED),
    _shared(Fault.LINK_SWITCHED, ANYWHERE, ALWAYS),
    # The deployer itself. Where one is killed it is resumed, or undone; here, and from elsewhere.
    _deployer("deployer-killed", "the deployer is killed", DURING, KILLED),
    _deployer(
        "deployer-interrupted", "the user breaks it off", DURING, INTERRUPTED, DEPLOYED, HELD
    ),
    _deployer("journal-unwritable", "the operator's disk takes no more", DURING, HELD, DEPLOYED),
    _deployer("two-deployers", "another deployer begins with it", (Moment.BEFORE,), 0, REFUSED),
    _deployer(
        "other-deployer",
        "the deployer sleeps, and another takes its locks over and finishes",
        DURING,
        HELD,
        RESTORED,
        DEPLOYED,
    ),
)

NOT_ON_REAL_HOSTS: dict[str, str] = {
    "clock-wrong": "containers and local hosts have the machine's own clock",
    "disk-rots": "needs a device below the page cache; containers share the machine's",
    "copy-altered": "SSH's own checks end the connection first: see bytes-altered-on-the-way",
    "stopped": "a stop has a drill of its own: rehearse --scenario stop-drill",
    "deadman": "needs an inventory with a dead-man's time: tests/crash does it",
}
"""Faults that the simulated fleet has and these don't, and why."""

NOT_SIMULATED: dict[str, str] = {
    "connection-lost-midway": "connection-lost strikes at each step of an effect there",
    "answer-lost": "connection-lost strikes after the effect too there",
    "bytes-altered-on-the-way": "no bytes of SSH travel there; it ends the connection",
    "sessions-killed": "there are no sessions to kill; a deployer sees connection-lost",
    "rights-lost": "a deployer sees what it sees of sudo-asks",
    "dies-young": "no time passes there; crashes strikes between any two calls",
    "deployer-killed": "no fault of a host: tests/simulated/test_crashes.py",
    "deployer-interrupted": "no fault of a host: tests/simulated/test_interrupted.py",
    "journal-unwritable": "no fault of a host: tests/crash/test_journal.py",
    "two-deployers": "no fault of a host: tests/simulated/test_two.py",
}
"""Faults that are brought upon real hosts and are none of the simulated fleet, and why."""
