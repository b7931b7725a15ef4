"""One look at every process of this host: what it executes, maps, holds, and is connected to."""

from __future__ import annotations

import errno
import os
import stat as modes
import time

from deploytool.agent.linux.opening import fail
from deploytool.agent.linux.proc import (
    ARGUMENTS_AT_MOST,
    GONE,
    Stat,
    command_of,
    open_process,
    read_accounts,
    read_all,
    read_group,
    read_once,
    read_process_of_thread,
    read_stat,
    running_thread,
    shown,
    start_of,
)
from deploytool.agent.linux.sockets import Wanted, tables
from deploytool.agent.model import Process
from deploytool.agent.port import HeldFile, View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.agent.port import HeldSocket, Interest

MAPS_AT_MOST = 64 * 1024 * 1024
ARGUMENTS_SHOWN = 64
LOOK_S = 20.0
"""What has not been inspected by then is hidden: an account can make each process take long."""
_THREADS_TRIED, _THREAD_PAUSE_S = 5, 0.003
"""So many threads are tried where the first one has ended, and each may end too."""
DESCRIPTORS_AT_ONCE = 1024
"""A process may hold a million: after so many it is asked whether there is time left."""
_TOO_LATE = f"this look could not inspect every process within {LOOK_S:.0f} s"
_DELETED = b" (deleted)"
_RANK = {"exe": 0, "map": 1, "fd": 2}
_ANCESTORS_AT_MOST = 64


class HeldInode:
    """A regular file that a process has to do with, before it is known to matter."""

    __slots__ = ("changed", "device", "how", "name", "number", "path", "size")

    def __init__(self, how: str, name: str, path: bytes, found: os.stat_result) -> None:
        self.how = how
        self.name = name
        self.path = path
        self.device = found.st_dev
        self.number = found.st_ino
        self.size = found.st_size
        self.changed = found.st_ctime_ns

    def shown(self, pid: int) -> HeldFile:
        """As the port shows it."""
        deleted = self.path.endswith(_DELETED) and not os.path.lexists(self.path)
        path = self.path[: -len(_DELETED)] if deleted else self.path
        return HeldFile(
            how=self.how,
            handle=self.name if self.name.startswith("/") else f"/proc/{pid}/{self.name}",
            device=self.device,
            number=self.number,
            size=self.size,
            path=shown(path),
            deleted=deleted,
            changed=str(self.changed),
        )


class Seen:
    """One process as it was read; what of it is shown is decided when all were."""

    __slots__ = (
        "accounts",
        "arguments",
        "client",
        "files",
        "group",
        "hidden",
        "named",
        "names",
        "network",
        "pid",
        "program",
        "sockets",
        "stat",
        "through",
    )

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.through = pid  # the thread by which it is inspected
        self.stat: Stat | None = None
        self.accounts: tuple[int, ...] = ()
        self.arguments = b""
        self.group = ""
        self.program: HeldInode | None = None
        self.files: dict[tuple[int, int], HeldInode] = {}
        self.named: list[HeldInode] = []
        self.names = False  # whether an argument names a file of interest
        self.sockets: list[bytes] = []
        self.network = b""
        self.hidden = ""
        self.client = False

    def hide(self, what: str, error: OSError) -> None:
        """Notes what could not be seen of it, and why; the first reason is kept."""
        self.hidden = self.hidden or f"its {what} can't be read: {error.strerror}"

    @property
    def has_files(self) -> bool:
        """Whether a file of interest is executed, mapped, held open or named by it."""
        return bool(self.files) or self.names

    @property
    def is_cut(self) -> bool:
        """Whether it may have more arguments than are shown."""
        long = len(self.arguments) >= ARGUMENTS_AT_MOST
        return long or self.arguments.count(b"\0") >= ARGUMENTS_SHOWN

    @property
    def words(self) -> list[bytes]:
        """Its arguments."""
        return self.arguments.rstrip(b"\0").split(b"\0") if self.arguments else []

    def view(self, sockets: tuple[HeldSocket, ...]) -> View:
        """As the port shows it."""
        stat = self.stat
        held = (*self.files.values(), *(self.named if self.has_files else ()))
        process = Process(
            pid=self.pid,
            parent=stat.parent if stat else 0,
            start=stat.start if stat else 0,
            state=stat.state if stat else "unknown",
            account=self.accounts[1] if self.accounts else 0,
            command=command_of(self.arguments),
            still=stat is not None and start_of(self.pid) == stat.start,
        )
        return View(
            process=process,
            group=self.group,
            program=self.program.shown(self.through) if self.program else None,
            accounts=self.accounts,
            files=tuple(file.shown(self.through) for file in held),
            sockets=sockets,
            arguments=tuple(shown(word) for word in self.words[:ARGUMENTS_SHOWN]),
            client=self.client,
            hidden=self.hidden,
        )


class ProcSurvey:
    """One look. ``agent``: the agent's own file, by which other runs of it are recognized."""

    def __init__(self, interest: Interest, agent: str) -> None:
        self._interest = interest
        self._agent = os.fsencode(agent)
        self._below = os.fsencode(interest.root) + b"/"
        self._sizes = frozenset(interest.sizes)
        self._wanted = Wanted(interest.ports, interest.peers)
        self._mapped: dict[bytes, os.stat_result | None] = {}
        self._until = time.monotonic() + LOOK_S
        self._boring: set[bytes] = set()
        """Mapped files of no release's size: a host's processes map the same few libraries."""
        self._named: dict[bytes, os.stat_result | None] = {}
        self._mounts = os.readlink(b"/proc/self/ns/mnt")
        self._own = os.stat("/proc/self/exe")

    def views(self) -> tuple[View, ...]:
        """Every process that is of interest, in the order of their numbers."""
        own = os.getpid()
        seen: dict[int, Seen] = {}
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1, own}
        # The last one first: it is the most likely to be gone in a moment.
        for pid in sorted(pids, reverse=True):
            found = self._look(pid)
            if found is not None:
                seen[pid] = found
        sockets = self._sockets(seen)
        self._mark_clients(seen, own)
        chosen = self._choose(seen, sockets)
        held = {
            pid: tuple(sockets[inode] for inode in seen[pid].sockets if inode in sockets)
            for pid in chosen
        }
        return tuple(seen[pid].view(held[pid]) for pid in sorted(chosen))

    def _choose(self, seen: dict[int, Seen], sockets: dict[bytes, HeldSocket]) -> set[int]:
        """Those of interest, and their parents."""
        interest = self._interest
        accounts = frozenset(interest.accounts)
        below = f"{interest.group}/"
        chosen: set[int] = set()
        for pid, one in seen.items():
            if one.hidden and not interest.whole:
                continue
            if (
                one.has_files
                or one.is_cut
                or one.hidden
                or not accounts.isdisjoint(one.accounts)
                or (interest.group and f"{one.group}/".startswith(below))
                or any(inode in sockets for inode in one.sockets)
            ):
                chosen.update(_line(seen, pid))
        return chosen

    def _mark_clients(self, seen: dict[int, Seen], own: int) -> None:
        """Marks what an agent on this host runs: this one, or another that answers just now."""
        agents = {own, *(pid for pid, one in seen.items() if self._is_agent(one))}
        for pid, one in seen.items():
            parents = list(_line(seen, pid))[1:]
            last = seen[parents[-1] if parents else pid].stat
            one.client = any(parent in agents for parent in parents) or (
                last is not None and last.parent in agents
            )

    def _is_agent(self, one: Seen) -> bool:
        """Whether it is this very interpreter, as this account, at work on the agent's file."""
        program = one.program
        return (
            program is not None
            and (program.device, program.number) == (self._own.st_dev, self._own.st_ino)
            and set(one.accounts) == {os.geteuid()}
            and self._agent in one.words
        )

    def _sockets(self, seen: dict[int, Seen]) -> dict[bytes, HeldSocket]:
        """Every socket of interest by its inode: each network namespace's tables once."""
        found: dict[bytes, HeldSocket] = {}
        if not self._wanted.some:
            return found
        found.update(self._wanted.here())
        done = {os.readlink(b"/proc/self/ns/net"), b""}
        for one in seen.values():
            if one.network in done or self._late():
                continue
            try:
                for table in tables(one.through):
                    found.update(self._wanted.match(table))
            except OSError:
                continue  # another process of that namespace, if it has one, shows it
            done.add(one.network)
        for one in seen.values():
            if one.network not in done:
                why = _TOO_LATE if self._late() else "its network namespace can't be inspected"
                one.hidden = one.hidden or why
        return found

    # --- one process --------------------------------------------------------------------------

    def _look(self, pid: int) -> Seen | None:
        """One process; None where it is gone, or the kernel's own."""
        one = Seen(pid)
        try:
            folder = open_process(pid)
        except OSError as error:
            if error.errno in GONE:
                return None
            one.hide("folder", error)
            return one
        try:
            one.stat = read_stat(folder)
            if one.stat.kernel:
                return None
            one.accounts = read_accounts(folder)
            one.group = read_group(folder)
            if one.stat.leaderless:
                self._inspect_by_thread(one, folder)
            else:
                self._inspect(one, folder)
            now = read_stat(folder)
            if one.hidden and now.exiting and not now.leaderless and running_thread(folder) is None:
                one.hidden = ""  # it ended under our eyes
        except OSError as error:
            if error.errno in GONE:
                return None
            one.hide("state", error)
        finally:
            os.close(folder)
        return one

    def _inspect_by_thread(self, one: Seen, folder: int) -> None:
        """One whose first thread has ended, by another one, which may end while it is inspected."""
        for _ in range(_THREADS_TRIED):
            thread = running_thread(folder)
            if thread is not None and self._inspect_thread(one, thread):
                return
            if not read_stat(folder).leaderless:
                return  # the whole process has ended
            time.sleep(_THREAD_PAUSE_S)
        one.hidden = one.hidden or "its threads begin and end faster than they can be inspected"

    def _inspect_thread(self, one: Seen, thread: int) -> bool:
        """Inspects a process by one of its threads; whether that was there until the end."""
        one.through, one.hidden = thread, ""
        try:
            other = open_process(thread)
        except OSError:
            return False
        try:
            # The number may be another process's by now.
            if read_process_of_thread(other) != one.pid:
                return False
            self._inspect(one, other)
        except OSError:
            return False
        else:
            return not one.hidden
        finally:
            os.close(other)

    def _inspect(self, one: Seen, folder: int) -> None:
        if self._late():
            one.hidden = _TOO_LATE
            return
        for what, step in (
            ("executable", self._see_program),
            ("arguments", self._see_arguments),
            ("mappings", self._see_mappings),
            ("descriptors", self._see_descriptors),
        ):
            try:
                step(one, folder)
            except OSError as error:
                # A process that ends has no executable any more, and no longer a folder later.
                one.hide(what, error)

    def _late(self) -> bool:
        return time.monotonic() > self._until

    def _see_program(self, one: Seen, folder: int) -> None:
        path = os.readlink(b"exe", dir_fd=folder)
        one.program = HeldInode("exe", "exe", path, os.stat("exe", dir_fd=folder))
        self._keep(one, one.program)

    def _see_arguments(self, one: Seen, folder: int) -> None:
        one.arguments = read_once("cmdline", folder, ARGUMENTS_AT_MOST)
        words = [word for word in one.words[1:ARGUMENTS_SHOWN] if word[:1] not in (b"-", b"")]
        if not words:
            return
        elsewhere = os.readlink(b"ns/mnt", dir_fd=folder) != self._mounts
        for word in words:
            found = self._named_file(word, folder, elsewhere=elsewhere)
            if found is not None:
                base = "root" if word.startswith(b"/") else "cwd"
                name = f"{base}/{os.fsdecode(word.lstrip(b'/'))}"
                one.named.append(HeldInode("argument", name, word, found[1]))
                one.names |= found[1].st_size in self._sizes or found[0].startswith(self._below)

    def _named_file(
        self, word: bytes, folder: int, *, elsewhere: bool
    ) -> tuple[bytes, os.stat_result] | None:
        """The regular file that an argument leads to, and its whole path; None without one.

        Most processes have this one's mounts: what the same path means to them is asked once.
        """
        link = b"root" if word.startswith(b"/") else b"cwd"
        base = os.readlink(link, dir_fd=folder)
        whole = base.rstrip(b"/") + b"/" + word.lstrip(b"/")
        if elsewhere:
            facts = _stat_named(b"%s/%s" % (link, word.lstrip(b"/")), folder)
        elif whole in self._named:
            facts = self._named[whole]
        else:
            facts = self._named[whole] = _stat_named(whole)
        return None if facts is None else (whole, facts)

    def _see_mappings(self, one: Seen, folder: int) -> None:
        for span, key, path in executable_mappings(folder):
            below = path.startswith(self._below)
            if key in self._boring and not below:
                continue
            if key not in self._mapped:
                self._mapped[key] = _stat_mapped(span, path, folder)
            found = self._mapped[key]
            if found is not None:
                if found.st_size not in self._sizes:
                    self._boring.add(key)
                self._keep(one, HeldInode("map", f"map_files/{span}", path, found))
            elif below or os.geteuid() == 0:
                one.hidden = one.hidden or f"it maps {shown(path)}, which can't be inspected"

    def _see_descriptors(self, one: Seen, folder: int) -> None:
        if self._wanted.some:
            one.network = os.readlink(b"ns/net", dir_fd=folder)
        held = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            for count, name in enumerate(os.listdir(held)):
                if count % DESCRIPTORS_AT_ONCE == 0 and self._late():
                    one.hidden = one.hidden or _TOO_LATE
                    break
                try:
                    path = os.readlink(name.encode("ascii"), dir_fd=held)
                    if path.startswith(b"/"):
                        facts = os.stat(name, dir_fd=held)
                        self._keep(one, HeldInode("fd", f"fd/{name}", path, facts), facts.st_mode)
                    elif path.startswith(b"socket:["):
                        one.sockets.append(path[8:-1])
                except FileNotFoundError:
                    continue  # closed meanwhile
        finally:
            os.close(held)

    def _keep(self, one: Seen, held: HeldInode, mode: int = modes.S_IFREG) -> bool:
        """Keeps a file that is of interest, once, in the strongest way that it is held."""
        if not (held.size in self._sizes or held.path.startswith(self._below)):
            return False
        if not modes.S_ISREG(mode):
            return False
        key = (held.device, held.number)
        if key in one.files and _RANK[one.files[key].how] <= _RANK[held.how]:
            return False
        one.files[key] = held
        return True


def _line(seen: dict[int, Seen], pid: int) -> Iterator[int]:
    """A process and its ancestors, as far as they were seen."""
    for _ in range(_ANCESTORS_AT_MOST):
        one = seen.get(pid)
        if one is None:
            return
        yield pid
        if one.stat is None:
            return
        pid = one.stat.parent


def executable_mappings(folder: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Address range, device with inode, and path of every file that is mapped executable."""
    content = read_all("maps", folder, MAPS_AT_MOST)
    for mark in (b"xp ", b"xs "):  # most lines are of other mappings: they are not taken apart
        at = content.find(mark)
        while at >= 0:
            end = content.find(b"\n", at)
            fields = content[content.rfind(b"\n", 0, at) + 1 : end].split(None, 5)
            if len(fields) == 6 and fields[1][2:] == mark[:2] and fields[4] != b"0":
                yield fields[0].decode("ascii"), fields[3] + b":" + fields[4], fields[5]
            at = content.find(mark, end)


def _stat_mapped(span: str, path: bytes, folder: int) -> os.stat_result | None:
    """Of a mapped file; by its name where the kernel keeps ``map_files`` from this account."""
    try:
        return os.stat(f"map_files/{span}", dir_fd=folder)
    except OSError:
        pass
    try:
        return os.stat(path)
    except OSError:
        return None


def _stat_named(path: bytes, folder: int | None = None) -> os.stat_result | None:
    try:
        facts = os.stat(path, dir_fd=folder)
    except (OSError, ValueError):
        return None
    return facts if modes.S_ISREG(facts.st_mode) else None


def mapped_files(pid: int, folder: int) -> Iterator[HeldFile]:
    """Every file that a process maps executable, each once, its program first.

    Raises:
        OSError: one of them can't be inspected.
    """
    program = HeldInode(
        "exe", "exe", os.readlink(b"exe", dir_fd=folder), os.stat("exe", dir_fd=folder)
    )
    done = {(program.device, program.number)}
    yield program.shown(pid)
    for span, _, path in executable_mappings(folder):
        found = _stat_mapped(span, path, folder)
        if found is None:
            raise fail(errno.EACCES, shown(path))
        if (found.st_dev, found.st_ino) not in done:
            done.add((found.st_dev, found.st_ino))
            yield HeldInode("map", f"map_files/{span}", path, found).shown(pid)
