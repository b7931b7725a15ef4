"""Evidence, expectations and verdicts: frozen values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from deploytool.errors import HostFault
from deploytool.fleet.model import Digest


@dataclass(frozen=True)
class Process:
    """One process as the kernel showed it. ``start`` in clock ticks since boot (proc(5), 22)."""

    pid: int
    parent: int
    start: int
    state: str
    command: str


@dataclass(frozen=True)
class Run:
    """A process that runs a release: ``how`` is ``exe`` or ``fd``, ``sha`` is of what it runs."""

    pid: int
    how: str
    inode: str
    sha: str
    path: str

    @property
    def deleted(self) -> bool:
        """Whether the file was unlinked while it runs."""
        return self.path.endswith(" (deleted)")


@dataclass(frozen=True)
class Mark:
    """What the helper wrote down when a deployer had verified this very process."""

    release: str
    pid: int
    start: int
    boot: str
    since: int


@dataclass(frozen=True)
class Lock:
    """Who holds a host. ``since`` in seconds since the epoch."""

    token: int
    holder: str
    purpose: str
    plan: str
    since: int


@dataclass(frozen=True)
class RolloutMark:
    """How far a rollout has come on a host, as the host itself has it. ``None``: no release."""

    plan: str
    target: str | None
    before: str | None
    phase: str
    since: int

    @property
    def touched(self) -> bool:
        """Whether this host may have been switched."""
        return self.phase != "locked"


@dataclass(frozen=True)
class Finished:
    """The last rollout that gave its lock back on a host: what it led to, and from where."""

    plan: str
    target: str | None
    before: str | None


@dataclass(frozen=True)
class Hold:
    """A fleet that was left MIXED or UNKNOWN: since when, by whom, and what ends it."""

    verdict: str
    holder: str
    plan: str
    next: str
    since: int


@dataclass(frozen=True)
class Halt:
    """A stop that holds on a host: by whom, why, since when (the operator's clock), and how hard.

    ``fenced``: nothing is started there until it is let in again.
    """

    latch: str
    by: str
    reason: str
    since: int
    fenced: bool
    artifact: str = ""
    """What the artifact calls its own latch, where it has one."""


@dataclass(frozen=True)
class Signers:
    """The host's signers file: its digest, and owner, group and mode of it and of its folder."""

    sha: str
    rights: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What one host showed in one round; absent means that it did not show it."""

    helper: str
    machine: str
    boot: str
    root: str
    rights: tuple[str, ...]
    skew_s: float
    current: str
    main_pid: int
    free_bytes: int | None = None
    lacks: tuple[str, ...] = ()
    token: int = 0
    lock: Lock | None = None
    verified: Mark | None = None
    rollout: RolloutMark | None = None
    finished: Finished | None = None
    hold: Hold | None = None
    halt: Halt | None = None
    previous: str | None = None
    meant: str | None = None
    """The release that served when this host was stopped, where another is active since."""
    unconfirmed: bool = False
    release_state: str | None = None
    label: bytes | None = None
    file: str | None = None
    disk_sha: str | None = None
    disk_way: str | None = None
    manifest_sha: str | None = None
    manifest: bytes | None = None
    signers: Signers | None = None
    unit: Mapping[str, str] = field(default_factory=dict)
    unit_files: tuple[tuple[str, str], ...] = ()
    configs: tuple[tuple[str, str], ...] = ()
    processes: Mapping[int, Process] = field(default_factory=dict)
    still: Mapping[int, int] = field(default_factory=dict)
    group: frozenset[int] = frozenset()
    runs: tuple[Run, ...] = ()
    unseen: frozenset[int] = frozenset()
    owners: tuple[tuple[int, int], ...] = ()
    interpreters: tuple[tuple[str, str], ...] = ()
    status: Mapping[str, object] | None = None
    status_text: str = ""

    @property
    def release(self) -> str | None:
        """The SHA-256 that ``current`` names; None where nothing is active."""
        prefix, _, name = self.current.rpartition("/")
        return name if prefix == "releases" else None

    @property
    def idle(self) -> bool:
        """Whether it was seen that nothing of the service runs there: no process, and no port."""
        running = self.main_pid or self.group or self.runs or self.processes
        return not (running or self.unseen or self.owners)

    @property
    def identity(self) -> tuple[str, str]:
        """What makes it one host: eight release roots on one machine are eight hosts."""
        return self.machine, self.root


@dataclass(frozen=True)
class Expected:
    """What one host has to show. ``release`` None: nothing is active and nothing runs."""

    release: Digest | None
    manifest_sha: str | None
    version: str | None
    flag_table: str | None
    wire: str | None
    helper: str
    unit_path: str | None
    unit_sha: str | None
    ports: tuple[int, ...]
    signers: str | None = None
    """The digest of the signers file; None where the inventory names none."""
    verified: bool = True
    """Whether the running process must be the very one that a deployer verified."""
    disk: bool = True
    """Whether the bytes on disk must have been read in this round."""


class Level(Enum):
    """How a finding counts. UNKNOWN: it could not be seen; MISMATCH: it was seen to be wrong."""

    MISMATCH = "MISMATCH"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Finding:
    """One thing that keeps a host from being a MATCH."""

    level: Level
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, found {self.found}"


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
    release: str | None
    evidence: Evidence | None

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

    def count(self, verdict: Verdict) -> int:
        """How many hosts have this verdict."""
        return sum(host.verdict is verdict for host in self.hosts)


RoundAnswers = Mapping[str, Evidence | HostFault]
"""What one round brought: for each host its evidence, or why it gave none."""
