"""The operating system as the verbs see it. ``linux`` is it for real, the simulation in memory.

Every method is one step: where a run is cut short (a crash, a kill, a loss of power), it is cut
between two of them, or in the middle of one that changes something. Whatever fails raises
``OSError``, as the kernel would. Nothing here decides what is allowed.

Names within a folder are single components: no method follows a symbolic link below a release root,
so that no account can lead root elsewhere.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Literal, Protocol

    from deploytool.agent.model import Asked, DiskRead, Inode, Process
    from deploytool.agent.record import Record
    from deploytool.agent.settings import Settings
else:
    from deploytool.agent.record import Record

    Protocol = object


class Entry(Record):
    """One name in a folder. ``kind``: ``file``, ``folder``, ``link`` or ``other``."""

    kind: Word
    inode: Inode


class HeldFile(Record):
    """A file that a process executes (``exe``), maps executable (``map``) or holds open (``fd``).

    ``argument``: one of its arguments leads to it, by its own root and working folder; ``path`` is
    that argument then. ``handle`` is what the port reads the file by, whatever has become of its
    name. ``changed`` is its change time, for a digest that is remembered.
    """

    how: Word
    handle: Text
    device: Count
    number: Count
    size: Count
    path: Text
    deleted: bool
    changed: Word = "0"


class HeldSocket(Record):
    """A TCP socket of a process. ``listens``: it accepts; else it is connected to ``peer``."""

    port: Count
    listens: bool
    peer: Text = ""


class View(Record):
    """One process in a look at the whole host.

    ``group`` is its control group, ``program`` its executable, ``accounts`` the users that it acts
    as (proc_pid_status(5)), the real one first. ``files`` and ``sockets`` are
    those that ``Interest`` asks for. ``arguments`` are its first 4 KiB of them, at most 64.
    ``client``: an agent on this host runs it, as its control group or its parents show.
    ``hidden``: why something of it could not be seen, empty where all was.
    """

    process: Process
    group: Text
    program: HeldFile | None = None
    accounts: tuple[Count, ...] = ()
    files: tuple[HeldFile, ...] = ()
    sockets: tuple[HeldSocket, ...] = ()
    arguments: tuple[Text, ...] = ()
    client: bool = False
    hidden: Text = ""


class Interest(Record):
    """What a look at the whole host has to show, and of which processes.

    Files: regular ones below ``root`` or as large as one of ``sizes``, that are executed, mapped
    executable, held open, or named by an argument that is not an option. Of a process that has
    one, every regular file that an argument names: a program that is another file is told from one
    that is gone. Sockets: those that listen on ``ports``, and those
    connected to one of ``peers`` (``address:port``), in every network namespace.

    Processes: those that have such a file or socket, run as one of ``accounts``, belong to the
    control group ``group`` or one below it, have more arguments than a view shows, or are hidden;
    and the parents of all of these. Where
    it is not ``whole``, a process that this account may not inspect is left out instead.
    """

    root: Text
    sizes: tuple[Count, ...] = ()
    ports: tuple[Port, ...] = ()
    peers: tuple[Text, ...] = ()
    accounts: tuple[Count, ...] = ()
    group: Text = ""
    whole: bool = True


class UnitState(Record):
    """What the supervisor says of the service. ``properties`` are systemd's, in its own words."""

    main: Count = 0
    active: Word = "unknown"
    sub: Word = "unknown"
    group: Text = ""
    properties: tuple[Property, ...] = ()


class Printed(Record):
    """What a program printed: ``nft`` in JSON, ``iptables`` as iptables-save(8).

    ``text`` None: it failed.
    """

    program: Word
    text: Document | None


if TYPE_CHECKING:
    from deploytool.agent.model import Property
    from deploytool.agent.words import Count, Document, Port, Text, Word

    class Sink(Protocol):
        """A new file that is being written."""

        def write(self, content: bytes) -> None:
            """Appends all of ``content``."""

        def sync(self) -> None:
            """Puts what was written on the disk (fsync(2))."""

        def close(self) -> None:
            """Closes it; never raises."""

    class Folder(Protocol):
        """An open folder below which no symbolic link is followed."""

        @property
        def path(self) -> str:
            """Where it was when it was opened; for a person."""

        def folder(self, name: str) -> Folder:
            """Opens a folder in it."""

        def names(self) -> list[str]:
            """All names in it, sorted."""

        def entry(self, name: str) -> Entry | None:
            """What the name stands for; None where there is no such name."""

        def read(self, name: str, at_most: int) -> bytes:
            """A regular file's content; a larger one raises ``OSError`` (EFBIG)."""

        def target(self, name: str) -> str:
            """Where a symbolic link leads."""

        def create(self, name: str, mode: int) -> Sink:
            """A new file; an older one of that name raises ``FileExistsError``."""

        def make_folder(self, name: str, mode: int) -> None:
            """A new folder."""

        def make_link(self, name: str, target: str) -> None:
            """A new symbolic link."""

        def rename(self, old: str, new: str) -> None:
            """Gives it another name in one step; a file or link of that name is replaced."""

        def rename_new(self, old: str, new: str) -> None:
            """The same, and ``FileExistsError`` where that name is taken (renameat2(2))."""

        def set_mode(self, name: str, mode: int) -> None:
            """Sets a file's permission bits."""

        def remove(self, name: str) -> None:
            """Removes a file or a link; one that is not there raises ``FileNotFoundError``."""

        def remove_tree(self, name: str) -> None:
            """Removes a folder with all that is in it; one that is not there is no error."""

        def sync(self) -> None:
            """Puts the names in it on the disk (fsync(2) of the folder)."""

        def sync_file(self, name: str) -> None:
            """Puts a file's content on the disk."""

        def digest(self, name: str) -> str | None:
            """SHA-256 of what a program that opens the file now reads; None where it can't be."""

        def digest_disk(self, name: str) -> DiskRead:
            """SHA-256 of what is on the disk: past the page cache where the disk allows it."""

        def free(self) -> int:
            """Bytes that an account without privileges may still write here."""

        def lock(self, name: str, wait_s: float) -> AbstractContextManager[None]:
            """Holds a file's lock (flock(2)) while the block runs.

            Raises:
                TimeoutError: another holds it for longer than ``wait_s``.
            """

        def close(self) -> None:
            """Closes it; never raises."""

    class Files(Protocol):
        """Files by their whole path: what the inventory or systemd names."""

        def open_root(self, path: str) -> Folder:
            """Opens the release root; only this path may lead through symbolic links."""

        def inode(self, path: str) -> Inode | None:
            """A file's inode, as a program that opens it now finds it; None without one."""

        def read(self, path: str, at_most: int) -> bytes:
            """A file's content; a larger one raises ``OSError`` (EFBIG)."""

        def digest(self, path: str) -> str | None:
            """SHA-256 of a regular file; None where it can't be read."""

        def names(self, path: str) -> list[str]:
            """All names in a folder, sorted; none where there is no such folder."""

        def stamp_trees(self, paths: Sequence[str]) -> str:
            """SHA-256 over what shows that no file below some folders was written to since.

            That is each one's name, device, inode, size, times, mode and owner. ``__pycache__`` is
            left out: each host makes its own.
            """

        def digest_trees(self, paths: Sequence[str]) -> tuple[str, str]:
            """SHA-256 over the names and contents of the same files, and the stamp of those read.

            The stamp is empty where one of them may change and keep it.
            """

        def exists(self, path: str) -> bool:
            """Whether there is such a name, also of a link that leads nowhere."""

    class Processes(Protocol):
        """Every process of this host, as the kernel shows them."""

        def survey(self, interest: Interest) -> tuple[View, ...]:
            """One look at all of them but the agent's own process, init and the kernel's."""

        def process(self, pid: int) -> Process | None:
            """One process; None where there is none."""

        def digest(self, held: HeldFile) -> str | None:
            """SHA-256 of a file by way of the process that holds it."""

        def environment(self, process: Process) -> tuple[str, ...]:
            """The variables that it was started with, at most 64 KiB of them."""

        def mapped(self, process: Process) -> tuple[HeldFile, ...]:
            """Every file that it maps executable, its program included."""

        def system_slice(self) -> str:
            """The control group below which systemd has its services (systemd.special(7))."""

        def group(self, name: str) -> tuple[int, ...]:
            """The processes of a control group; none where there is no such group."""

        def kill_group(self, name: str) -> None:
            """Sends SIGKILL to all of a control group, also those that are born meanwhile."""

        def signal(self, pid: int, start: int, number: int) -> bool:
            """Sends a signal to that very process (pidfd_open(2)); False where it has ended."""

        def listening(self, ports: Sequence[int]) -> frozenset[int]:
            """Those of the ports on which a process listens."""

    class Supervisor(Protocol):
        """What starts and stops the service: systemd, or the agent itself."""

        def state(self) -> UnitState:
            """What it says of the service now."""

        def unit_files(self) -> tuple[str, ...]:
            """Every file that makes the unit, with its drop-ins, in systemd's order."""

        def restart(self, deadline_s: float) -> str:
            """Restarts the service; gives what it complains of, empty where it does not."""

        def stop(self, deadline_s: float) -> str:
            """Ends the service; gives why it could not, empty where it could."""

        def mask(self) -> Literal["yes", "runtime", "no"]:
            """Keeps it from being started: for good, until the next boot, or not at all."""

        def unmask(self) -> None:
            """Lets it be started again."""

        def masked(self) -> bool:
            """Whether it is kept from being started."""

        def set_timer(self, seconds: int, token: int) -> None:
            """Has ``expire`` asked of this host in so many seconds."""

        def clear_timer(self) -> None:
            """Takes that back."""

        def log(self, lines: int, *, own: bool) -> tuple[str, ...]:
            """The last lines that the service printed; not ``own``: and that were said of it."""

        def environment(self) -> tuple[str, ...]:
            """The variables that it gives every service it starts from now on."""

    class Commands(Protocol):
        """The service's own commands, run with its account's rights and nothing else."""

        def run(self, argv: Sequence[str], *, given: bytes, deadline_s: float) -> Asked:
            """Runs one to its end; what it leaves behind is killed."""

        def try_out(self, argv: Sequence[str], *, deadline_s: float) -> Asked:
            """Runs code that nothing has proven yet, to its end.

            As an account that no one else has, with no rights; whatever it started, and wherever
            that hid, is killed when it has answered or its time is up.
            """

        def ask_socket(
            self, path: str, line: str, peers: frozenset[tuple[int, int]], deadline_s: float
        ) -> Asked:
            """Asks a Unix socket, as the service's account; believed only of one of ``peers``.

            ``peers`` are (PID, start time); SO_PEERCRED tells who answers (unix(7)).

            Raises:
                OSError: it can't be asked, or another process answers.
                TimeoutError: one of them does not answer in time.
            """

        def signer(self, signature: str, signed: bytes, namespace: str) -> str | None:
            """Who of the signers file signed exactly this (ssh-keygen(1), -Y verify)."""

    class Machine(Protocol):
        """What makes this host itself, and its clocks."""

        def machine_id(self) -> str:
            """machine-id(5)."""

        def boot_id(self) -> str:
            """Differs from boot to boot."""

        def now(self) -> float:
            """Seconds since the epoch, as this host believes."""

        def uptime(self) -> float:
            """Seconds on a clock that is never set."""

        def age(self, start: int) -> float:
            """How long ago that was, in seconds. ``start``: in clock ticks since boot, as /proc."""

        def sleep(self, seconds: float) -> None:
            """Waits."""

        def account(self, name: str | None) -> int | None:
            """An account's number, of None the agent's own; None: there is no such account.

            Raises:
                OSError: that can't be told, for the directory of accounts does not answer.
            """

        def has_program(self, name: str) -> bool:
            """Whether it can be run by this name."""

        def packet_rules(self) -> tuple[Printed, ...]:
            """What each tool that lists packet rules prints; empty: none is on this host."""

        def draft(self) -> str:
            """A word that no other run of the agent on this host has: for names of drafts."""

    class System(Protocol):
        """All of it, for one run of the agent."""

        libraries: dict[str, str]
        """Digests of library folders that this run has read, by their stamps."""

        @property
        def settings(self) -> Settings:
            """What the inventory says."""

        @property
        def files(self) -> Files:
            """Its files."""

        @property
        def processes(self) -> Processes:
            """Its processes."""

        @property
        def supervisor(self) -> Supervisor:
            """Its supervisor."""

        @property
        def commands(self) -> Commands:
            """The service's commands."""

        @property
        def machine(self) -> Machine:
            """Itself and its clocks."""

    Payload = Callable[[int, float], bytes]
    """Gives at most so many bytes of what follows a request; none at its end.

    It raises ``TimeoutError`` where none comes within so many seconds.
    """
