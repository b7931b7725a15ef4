"""What a host shows: marks, files, processes, and all of it together as evidence. Pure.

Everything here was seen by the agent in one look, and says nothing about what should be.
"""

from __future__ import annotations

from deploytool.agent.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.words import (
        Clock,
        Count,
        Digest,
        Document,
        Hex,
        Mode,
        Path,
        Pid,
        Port,
        Text,
        Time,
        Word,
    )

# --- marks: small files in STATE that outlive the agent, the deployer and a reboot --------------


class Lock(Record):
    """Who may change this host: the holder of the newest token (a fencing token, which grows)."""

    token: Count
    holder: Word
    purpose: Word
    plan: Word
    since: Time


class RolloutMark(Record):
    """How far a rollout has come here: ``locked``, ``activating`` or ``confirmed``."""

    plan: Word
    target: Digest | None
    before: Digest | None
    phase: Word
    since: Time

    @property
    def touched(self) -> bool:
        """Whether this host may have been switched."""
        return self.phase != "locked"


class Finished(Record):
    """The last rollout that released its lock here: what it led to, and from where."""

    plan: Word
    target: Digest | None
    before: Digest | None


class Verified(Record):
    """The very process that a deployer saw run the release. ``start`` in clock ticks since boot."""

    release: Digest
    pid: Pid
    start: Count
    boot: Word
    token: Count
    since: Time


class Hold(Record):
    """A fleet that was left MIXED or UNKNOWN: by whom, since when, and the command that ends it."""

    verdict: Word
    holder: Word
    plan: Word
    next: Word
    since: Time


class Latch(Record):
    """A stop that holds here. ``artifact`` is what the artifact calls its own latch.

    ``hosts``: which hosts the stop was for, names between blanks; None where it did not say.
    """

    latch: Hex
    by: Word
    reason: Text
    since: Time
    artifact: Word | None = None
    hosts: Text | None = None


class Released(Record):
    """A stop that ended here by a lawful start. ``stopped``: the latch's ``since``.

    ``by`` asked for it. ``signer`` signed it; None where the artifact alone checks signatures, or
    the inventory names no signers.
    """

    latch: Hex
    stopped: Time
    since: Time
    by: Text
    signer: Text | None = None


class Deadman(Record):
    """An activation that must be confirmed within ``seconds``, in this boot, with this token.

    ``armed``: when that time began, in seconds since boot. It tells this activation's timer from an
    earlier one's, which can't be taken back everywhere.
    """

    boot: Word
    token: Count
    seconds: Count
    armed: Count


class Expired(Record):
    """A host that stopped serving because no confirmation came in time."""

    token: Count
    since: Time


class ReadBack(Record):
    """What was read back from the disk when a release was staged, in the boot that it was read in.

    As long as ``inode`` is still the file's (see ``word_of``), nobody has written to it since.
    """

    release: Digest
    boot: Word
    inode: Word


class Marks(Record):
    """All marks of a host. ``unreadable`` names those that are there and are not understood.

    Such a mark counts as the worst that it could say: a latch that can't be read is a latch.
    """

    token: Count = 0
    lock: Lock | None = None
    rollout: RolloutMark | None = None
    finished: Finished | None = None
    verified: Verified | None = None
    hold: Hold | None = None
    latch: Latch | None = None
    fenced: bool = False
    deadman: Deadman | None = None
    expired: bool = False
    previous: Digest | None = None
    meant: Digest | None = None
    """What served when this host was stopped, where another release is active since."""
    released: tuple[Released, ...] = ()
    """The latest stops that ended here, the newest last."""
    unreadable: tuple[Word, ...] = ()


# --- files --------------------------------------------------------------------------------------


class Rights(Record):
    """Whose a file is, and who may do what with it (stat(2))."""

    owner: Count
    group: Count
    mode: Mode


class Inode(Record):
    """One file of this boot, and what tells that nobody wrote to it since (stat(2)).

    Times in nanoseconds since the epoch, as text: they exceed what JSON keeps whole.
    """

    device: Count
    number: Count
    size: Count
    rights: Rights
    modified: Word
    changed: Word


def word_of(inode: Inode) -> str:
    """All of an inode in one word."""
    rights = inode.rights
    facts = (inode.device, inode.number, inode.size, rights.owner, rights.group, rights.mode)
    return ":".join((*map(str, facts), inode.modified, inode.changed))


class FileDigest(Record):
    """A file and the SHA-256 of its bytes; None where it can't be read."""

    path: Path
    sha: Digest | None = None
    missing: bool = False
    """There is no such file."""


class Started(Record):
    """A start that the agent made: its process, and the configuration that lay there then.

    A file without digest that is not missing changed while the process started.
    """

    boot: Word
    pid: Pid
    start: Count
    configs: tuple[FileDigest, ...]


class DiskRead(Record):
    """The SHA-256 of what lies on the disk. ``direct``: it was read past the page cache."""

    sha: Digest | None
    direct: bool


class KnownRelease(Record):
    """A release that was on this fleet at some time: what it is found by wherever it lies."""

    sha: Digest
    size: Count


class Starter(Record):
    """A file that may start the service beside its unit: it names what ``names`` says.

    That is the ``root``, the ``artifact`` or the ``account``; ``unreadable``: it may name anything.
    """

    path: Path
    names: Word
    sha: Digest | None = None


class ManifestShown(Record):
    """A manifest as it lies there. ``text`` None: it is larger than a manifest can be."""

    sha: Digest
    text: Document | None = None


class Signers(Record):
    """The signers file: its digest, and whose it and its folder are."""

    file: FileDigest
    rights: tuple[Rights, ...]


class MembersFile(Record):
    """The fleet's own list of its hosts, as this host keeps it, and whose it and its folder are.

    ``text`` None: it can't be read, or is too large; ``missing``: there is none.
    """

    text: Document | None = None
    missing: bool = False
    rights: tuple[Rights, ...] = ()


# --- processes ----------------------------------------------------------------------------------


class Process(Record):
    """One process. ``still``: after the look it was there, with the same start time."""

    pid: Pid
    parent: Count
    start: Count
    state: Word
    account: Count
    command: Text
    still: bool = True


class ReleaseRun(Record):
    """A process of the service that runs a release: ``how`` is ``exe``, ``map`` or ``fd``."""

    pid: Pid
    how: Word
    inode: Word
    """``device:number``."""
    path: Path
    deleted: bool
    sha: Digest | None


class Other(Record):
    """A process that is not of the service, and what it is to it (see ``acting``).

    ``role``: ``acts``, ``account``, ``client``, ``neighbour``, ``reader`` or ``unseen``. ``ways``:
    in which ways. ``release``: what it runs or reads, where that was told. ``detail``: the file,
    the socket, or why it could not be seen.
    """

    pid: Pid
    role: Word
    ways: tuple[Word, ...] = ()
    release: Digest | None = None
    detail: Text = ""


class Owner(Record):
    """A process that holds a port that the service declares."""

    port: Port
    pid: Pid


class Running(Record):
    """What the main process was started with and has mapped executable.

    ``environment``: the names of its variables; those that decide which code is loaded with their
    values. Others may be secrets, and leave the host in no form.
    """

    arguments: tuple[Text, ...] = ()
    environment: tuple[Text, ...] = ()
    mapped: tuple[FileDigest, ...] = ()


class Property(Record):
    """One property of the unit, as systemd shows it (systemctl(1), show)."""

    name: Word
    value: Text


class Asked(Record):
    """What the running process says of itself, and how it was asked: ``socket`` or ``command``.

    ``code`` None: it did not end in time, was killed, or refused the line. ``answer`` is standard
    output alone.
    """

    way: Word
    code: Count | None
    answer: Document
    errors: Text = ""


class Made(Record):
    """What made the agent: which deploytool, and of each setting a short digest.

    It tells what differs where the agent's own digest does; nothing is proven by it.
    """

    tool: Text
    settings: tuple[Property, ...]


# --- together -----------------------------------------------------------------------------------


class HostEvidence(Record):
    """What one host showed in one look. What is absent was not shown."""

    agent: Digest
    """SHA-256 of the agent's own file."""
    made: Made
    machine: Word
    boot: Word
    clock: Clock
    root: Path
    rights: tuple[Rights, ...]
    """Of the release root, its ``releases`` and its ``state``."""
    current: Text
    """What the link says; ``none`` without one, ``not a link`` where it is something else."""
    marks: Marks
    main: Count = 0
    """The main process as the supervisor knows it; 0 without one."""
    age_s: Clock | None = None
    """How long the main process had run by then; None where it could not be looked at."""
    free: Count | None = None
    """Bytes that may still be written in the folder of releases."""
    lacks: tuple[Word, ...] = ()
    """Programs that were asked for and are not here."""
    asked_release: Word | None = None
    """``absent``, ``damaged``, ``unlabelled`` or ``intact``, of the release that was asked for."""
    label: ManifestShown | None = None
    """The manifest that the release that was asked for has here."""
    artifact: Inode | None = None
    disk: DiskRead | None = None
    manifest: ManifestShown | None = None
    signers: Signers | None = None
    members: MembersFile | None = None
    """None: this host has no root that could keep it."""
    unit: tuple[Property, ...] = ()
    log: tuple[Text, ...] = ()
    """The last lines that the service printed, where it has no main process."""
    unit_files: tuple[FileDigest, ...] = ()
    configs: tuple[FileDigest, ...] = ()
    started: Started | None = None
    """The last start that the agent made; another process than that was started by someone else."""
    processes: tuple[Process, ...] = ()
    group: tuple[Pid, ...] = ()
    """The processes of the service's control group."""
    runs: tuple[ReleaseRun, ...] = ()
    others: tuple[Other, ...] = ()
    """Every process of the whole host that is something to the service, and not of it."""
    whole: bool = False
    """The whole host was inspected; else what belongs to this release root (no root here)."""
    owners: tuple[Owner, ...] = ()
    open_ports: tuple[Port, ...] = ()
    """Declared ports on which something listens, also where no process that does is shown."""
    interpreters: tuple[FileDigest, ...] = ()
    libraries: tuple[FileDigest, ...] = ()
    """Of each interpreter that has some: its path, and one digest over its library folders."""
    running: Running | None = None
    preload: FileDigest | None = None
    """``/etc/ld.so.preload``, which every program loads (ld.so(8))."""
    starters: tuple[Starter, ...] | None = None
    """What else may start the service, at a reboot or by the clock; None: it was not asked for."""
    manager: tuple[Text, ...] | None = None
    """What the service manager gives to whatever it starts next, as ``Running.environment``."""
    redirects: tuple[Text, ...] | None = None
    """Packet rules that may send the traffic of a declared port elsewhere; None: not known."""
    redirects_unknown: Text = ""
    """Why that is not known."""
    state_writable: bool | None = None
    """Whether a mark could be written, synced and removed; None where it was not tried."""
    state_error: Text = ""
    status: Asked | None = None


class Survey(Record):
    """What is alive here that may act as the service, after a stop."""

    alive: tuple[Process, ...] = ()
    """Of the service, or acting as it."""
    others: tuple[Other, ...] = ()
    owners: tuple[Owner, ...] = ()
    open_ports: tuple[Port, ...] = ()
    latch: Latch | None = None
    latched: bool = False
    """A latch is there, also where it can't be read."""
    fenced: bool = False
