"""Evidence, expectations and verdicts: frozen values. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from deploytool.agent import model as agent
from deploytool.agent.model import (
    Finished,
    Hold,
    Latch,
    Lock,
    Made,
    Marks,
    Other,
    Process,
    Rights,
    RolloutMark,
)
from deploytool.agent.model import HostEvidence as Shown
from deploytool.core.finding import Finding, Level
from deploytool.errors import HostFault
from deploytool.fleet.members import Members, NotMembers, read_members
from deploytool.fleet.model import Digest


@dataclass(frozen=True)
class StandingHalt:
    """A stop that holds on a host: by whom, why, since when (the operator's clock), and how hard.

    ``fenced``: nothing is started there until it is let in again. A latch that can't be read is a
    latch all the same, of an unknown stop.
    """

    latch: str
    by: str
    reason: str
    since: int
    fenced: bool
    artifact: str = ""
    """What the artifact calls its own latch, where it has one."""

    @staticmethod
    def of(latch: Latch | None, *, latched: bool, fenced: bool) -> StandingHalt | None:
        """The stop that a host's marks tell of; None where none holds."""
        if latch is None:
            return StandingHalt("", "unknown", "unknown", 0, fenced) if latched or fenced else None
        # The last rungs of a stop have no blanks in their words.
        reason = latch.reason.replace("+", " ")
        return StandingHalt(
            latch.latch, latch.by, reason, latch.since, fenced, latch.artifact or ""
        )


@dataclass(frozen=True)
class ReleaseProcess:
    """A process that runs a release. ``sha`` None: its bytes were not read, or could not be."""

    pid: int
    sha: str | None
    path: str


_CODE = frozenset({"executes", "maps", "interprets"})
"""In which ways a process runs a release (``agent.acting``); others only act as the service."""


@dataclass(frozen=True)
class Evidence:
    """What one host showed in one round, and what only this side can tell of it.

    ``skew_s``: how far the host's clock is off, in seconds. ``status``: the JSON object that the
    running process said of itself; None with ``status_text`` saying why there is none.
    """

    shown: Shown
    skew_s: float
    status: Mapping[str, object] | None = None
    status_text: str = ""

    # --- marks ----------------------------------------------------------------------------------

    @property
    def marks(self) -> Marks:
        """The marks of the host."""
        return self.shown.marks

    @property
    def token(self) -> int:
        """The newest token of a lock that this host ever gave out."""
        return self.marks.token

    @property
    def lock(self) -> Lock | None:
        """Who holds the host."""
        return self.marks.lock

    @property
    def rollout(self) -> RolloutMark | None:
        """How far a rollout has come here."""
        return self.marks.rollout

    @property
    def finished(self) -> Finished | None:
        """The last rollout that gave its lock back here."""
        return self.marks.finished

    @property
    def hold(self) -> Hold | None:
        """That the fleet was left MIXED or UNKNOWN."""
        return self.marks.hold

    @cached_property
    def halt(self) -> StandingHalt | None:
        """The stop that holds here."""
        latched = "halted" in self.marks.unreadable
        return StandingHalt.of(self.marks.latch, latched=latched, fenced=self.marks.fenced)

    @property
    def unconfirmed(self) -> bool:
        """Whether a confirmation is awaited, or may be."""
        return self.marks.deadman is not None or "deadman" in self.marks.unreadable

    # --- releases -------------------------------------------------------------------------------

    @property
    def machine(self) -> str:
        """machine-id(5); empty where it has none."""
        return self.shown.machine

    @property
    def root(self) -> str:
        """The release root."""
        return self.shown.root

    @property
    def boot(self) -> str:
        """Differs from boot to boot."""
        return self.shown.boot

    @property
    def current(self) -> str:
        """What the link says."""
        return self.shown.current

    @property
    def release(self) -> str | None:
        """The SHA-256 that ``current`` names; None where nothing is active."""
        prefix, _, name = self.current.rpartition("/")
        return name if prefix == "releases" else None

    @property
    def release_state(self) -> str | None:
        """``absent``, ``damaged``, ``unlabelled`` or ``intact``, of the release asked for."""
        return self.shown.asked_release

    @property
    def label(self) -> bytes | None:
        """The manifest that the release that was asked for has here, where it is whole."""
        return _whole(self.shown.label)

    @property
    def manifest(self) -> bytes | None:
        """The manifest of the active release, where it is whole."""
        return _whole(self.shown.manifest)

    # --- processes ------------------------------------------------------------------------------

    @property
    def main_pid(self) -> int:
        """The main process; 0 without one."""
        return self.shown.main

    @cached_property
    def processes(self) -> Mapping[int, Process]:
        """The service's processes, and those that are something to it, by their numbers."""
        return {process.pid: process for process in self.shown.processes}

    @cached_property
    def unit(self) -> Mapping[str, str]:
        """What systemd says of the unit."""
        return {item.name: item.value for item in self.shown.unit}

    @cached_property
    def running(self) -> tuple[ReleaseProcess, ...]:
        """Every process that runs a release, of the service or beside it; not one that ended."""
        found = [ReleaseProcess(run.pid, run.sha, run.path) for run in self.shown.runs]
        found += [
            ReleaseProcess(other.pid, other.release, other.detail)
            for other in self.others("acts")
            if _CODE.intersection(other.ways)
        ]
        return tuple(item for item in found if self.stayed(item.pid) or item.pid == self.main_pid)

    def others(self, *roles: str) -> tuple[Other, ...]:
        """Processes that are not the service's and have one of these roles, and did not end."""
        return tuple(
            other for other in self.shown.others if other.role in roles and self.stayed(other.pid)
        )

    def stayed(self, pid: int) -> bool:
        """Whether a process was there all through the round; one not looked at may have been."""
        process = self.processes.get(pid)
        return process is None or process.still

    @property
    def idle(self) -> bool:
        """Whether it was seen that nothing of the service runs there: no process, and no port."""
        shown = self.shown
        running = shown.main or shown.group or shown.runs or shown.owners or shown.open_ports
        return not (running or self.others("acts", "unseen"))

    @cached_property
    def members(self) -> Members | str | None:
        """Whom this host believes to be a member, or why it is not known; None: it has no root."""
        kept = self.shown.members
        if kept is None:
            return None
        if kept.missing:
            return "none there"
        if len(kept.rights) != 2 or any(_others_write(rights) for rights in kept.rights):
            return "others than root may change it"
        if kept.text is None:
            return "it can't be read"
        try:
            return read_members(kept.text)
        except NotMembers as error:
            return str(error)

    @property
    def identity(self) -> tuple[str, str]:
        """What makes it one host: eight release roots on one machine are eight hosts."""
        return self.machine, self.root


def _others_write(rights: Rights) -> bool:
    return rights.owner != 0 or bool(rights.mode & 0o022)


def _whole(manifest: agent.ManifestShown | None) -> bytes | None:
    """A manifest's bytes, where they are those that the host digested."""
    if manifest is None or manifest.text is None:
        return None
    text = manifest.text.encode()
    return text if hashlib.sha256(text).hexdigest() == manifest.sha else None


@dataclass(frozen=True)
class Expected:
    """What one host has to show. ``release`` None: nothing is active and nothing runs."""

    release: Digest | None
    manifest_sha: str | None
    version: str | None
    flag_table: str | None
    wire: str | None
    agent: str
    made: Made
    unit_path: str | None
    unit_sha: str | None
    ports: tuple[int, ...]
    signers: str | None = None
    """The digest of the signers file; None where the inventory names none."""
    verified: bool = True
    """Whether the running process must be the very one that a deployer verified."""
    disk: bool = True
    """Whether the bytes on disk must have been read in this round."""
    surroundings: bool = True
    """Whether it must have been inspected what else may start the service."""
    redirects_checked: bool = False
    """Whether packet rules that can't be inspected are no proof."""
    arguments: tuple[str, ...] = ()
    """What the unit starts."""
    environment: tuple[str, ...] = ()
    """What the unit adds to its environment, ``NAME=value``."""
    fleet: str = ""
    declared: frozenset[str] = frozenset()
    """The hosts that the inventory lists."""


class Verdict(Enum):
    """The verdict on one host."""

    MATCH = "MATCH"
    MISMATCH = "MISMATCH"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class HostVerdict:
    """One declared host in one round."""

    host: str
    findings: tuple[Finding, ...]
    """What keeps it from being a MATCH."""
    release: str | None
    evidence: Evidence | None
    notes: tuple[Finding, ...] = ()
    """What is told beside the verdict, and decides nothing."""
    declared: frozenset[str] = frozenset()
    """The hosts that the inventory lists; none where no list of members is kept (no root)."""

    @property
    def verdict(self) -> Verdict:
        """MATCH only when there is nothing to find fault with, and there was evidence."""
        if any(finding.level is Level.MISMATCH for finding in self.findings):
            return Verdict.MISMATCH
        if self.findings or self.evidence is None:
            return Verdict.UNKNOWN
        return Verdict.MATCH


class Parity(Enum):
    """The verdict on a fleet."""

    PARITY = "PARITY"
    MIXED = "MIXED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Round:
    """One evidence round over a whole fleet: a verdict for each declared host, always."""

    release: Digest | None
    label: str
    hosts: tuple[HostVerdict, ...]
    uncovered: tuple[str, ...] = ()
    """What its proof says nothing about (see ``coverage``)."""

    @property
    def evidence(self) -> dict[str, Evidence]:
        """What was shown, by each host that answered."""
        return {host.host: host.evidence for host in self.hosts if host.evidence is not None}

    @property
    def parity(self) -> Parity:
        """PARITY only when every declared host is a MATCH.

        MIXED when any host mismatches or any two show different releases; else UNKNOWN.

        Raises:
            ValueError: there is no host: nothing about an empty fleet is true.
        """
        if not self.hosts:
            raise ValueError("a round over no hosts proves nothing")
        verdicts = {host.verdict for host in self.hosts}
        if verdicts == {Verdict.MATCH}:
            return Parity.PARITY
        shown = {host.release for host in self.hosts if host.evidence is not None}
        if Verdict.MISMATCH in verdicts or len(shown) > 1:
            return Parity.MIXED
        return Parity.UNKNOWN

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What keeps hosts from being a MATCH, host by host."""
        return tuple(finding for verdict in self.hosts for finding in verdict.findings)

    def count(self, verdict: Verdict) -> int:
        """How many hosts have this verdict."""
        return sum(host.verdict is verdict for host in self.hosts)


RoundAnswers = Mapping[str, Evidence | HostFault]
"""What one round brought: for each host its evidence, or why it gave none."""
