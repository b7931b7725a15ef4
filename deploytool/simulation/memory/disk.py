"""A disk in memory: what programs see of it, and what a loss of power leaves.

Programs see the page cache. The disk holds what was synced, and of the rest what its kernel
happened to write back. The model is the weakest that Linux gives on its usual file systems, so that
what survives it survives there:

- A file's bytes are on the disk after fsync(2) of that file. Of bytes written since, a loss of
  power leaves none, all, any prefix, or blocks of zeroes in their place. (ext4 with
  ``data=ordered`` and delayed allocation may leave an empty file under a new name: ext4(5),
  ``auto_da_alloc``, which saves only some of those that do not sync. XFS may leave zeroes.)
- A name is on the disk after fsync(2) of its folder; that of the file does not do it (fsync(2),
  NOTES of the file's own page). Changes of names that were not synced are kept or lost one by one.
  ext4 and XFS keep them in order, other file systems reorder them (Pillai et al., All File Systems
  Are Not Created Equal, OSDI 2014, table 1), and a program that relies on the order is found out.
- One change is whole: after rename(2) either the old names are there or the new ones, never neither
  (the journals of ext4, XFS and Btrfs). Changes of one name or of one inode keep their order.
- What was synced stays, unless the disk rots.
- A sync that fails with EIO has dropped the bytes: a later one succeeds and does not bring them
  back (Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020).
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

BLOCK = 4096
Kind = Literal["file", "folder", "link", "other"]


def fail(code: int, name: str = "") -> NoReturn:
    """Raises what the kernel would."""
    raise OSError(code, os.strerror(code), name)


@functools.lru_cache(maxsize=4096)
def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal, worked out once for the same bytes: a matrix asks for it often."""
    return hashlib.sha256(content).hexdigest()


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


@dataclass(eq=False, slots=True, repr=False)
class Node:
    """One inode. ``content`` is a file's bytes or where a link leads, as programs see it."""

    number: int
    kind: Kind
    mode: int
    owner: int = 0
    group: int = 0
    content: bytes = b""
    entries: dict[str, Node] = field(default_factory=dict)
    modified: int = 0
    changed: int = 0
    above: Node | None = None
    name: str = ""
    names: int = 0
    """How many names it has: none or one, there are no hard links."""
    opened: int = 0
    """How many open descriptors hold it, so that its blocks outlive its names."""
    locked: Any = None
    """Who holds its lock (flock(2))."""
    disk_content: bytes = b""
    disk_entries: dict[str, Node] = field(default_factory=dict)
    disk_mode: int = 0
    rotten: bytes | None = None
    """What the disk gives instead of what was written there."""
    shown: Any = None
    """What stat(2) last said of it, and when: whoever asks remembers it here."""
    dropped: bool = False
    """A sync failed, and what was written until then never comes to the disk."""

    @property
    def on_disk(self) -> bytes:
        """What a reader past the page cache gets; it has the kernel write the cache back first."""
        if self.rotten is not None:
            return self.rotten
        return self.disk_content if self.dropped else self.content

    def __repr__(self) -> str:
        return f"<{self.kind} {self.number} {self.name}>"

    def rot(self, content: bytes) -> None:
        """The disk gives other bytes from now on; the page cache still has the good ones."""
        self.rotten = content


Place = tuple[int, str]


@dataclass(eq=False, slots=True)
class _Change:
    """One change of names, whole or not at all. ``puts``: folder, name, and what it stands for."""

    puts: tuple[tuple[Node, str, Node | None], ...]
    needs: frozenset[Place]
    gives: frozenset[Place]


class Fate:
    """What a loss of power spares: each change that was not synced with this probability.

    ``ordered``: changes of names come to the disk in their order, as with the journals of ext4 and
    XFS: after the first that is lost, all are.
    """

    def __init__(self, seed: int = 0, keeps: float = 0.5, *, ordered: bool = False) -> None:
        self._random, self._keeps = random.Random(seed), keeps  # noqa: S311 it draws cases
        self._ordered, self._lost = ordered, False

    def spares(self) -> bool:
        """Whether the next change is on the disk."""
        spared = self._random.random() < self._keeps and not (self._ordered and self._lost)
        self._lost = self._lost or not spared
        return spared

    def tear(self, synced: bytes, written: bytes) -> bytes:
        """What is left of bytes of which only ``synced`` were synced."""
        if self._keeps in {0.0, 1.0}:
            return written if self._keeps else synced
        way = self._random.choice(("none", "all", "prefix", "zeroes"))
        if way in {"none", "all"}:
            return written if way == "all" else synced
        # What was overwritten in place may be torn anywhere, what was appended only behind.
        base = len(synced) if written.startswith(synced) else 0
        size = self._random.randint(base, len(written))
        if way == "prefix":
            return written[:size]
        at = self._random.randint(base, size)
        end = min(size, (at // BLOCK + 1) * BLOCK)
        return written[:at] + bytes(end - at) + written[end:size]


class Disk:
    """A file system. ``room`` is what is free, in bytes; ``clock`` gives nanoseconds."""

    def __init__(self, clock: Callable[[], int], room: int = 1 << 30) -> None:
        self.clock = clock
        self._size = room
        self._used = 0
        self.read_only = False
        self.direct = True
        """Whether it lets a reader past the page cache."""
        self.device = 2049
        self.failing: dict[tuple[str, str], int] = {}
        """Operation and name (``*``: any) to the error that it ends with."""
        self._numbers = 2
        self.changes = 0
        """How often a name changed: what was found by names holds as long as this does."""
        self.steps = 0
        """How often anything changed or was synced: a loss of power in between finds the same."""
        self._log: list[_Change] = []
        self.root = self._make("folder", 0o755)
        self.root.names = 1
        self._used = BLOCK

    @property
    def room(self) -> int:
        """Bytes that are free."""
        return self._size - self._used

    @room.setter
    def room(self, free: int) -> None:
        self._size = self._used + free

    # --- what programs do -----------------------------------------------------------------------

    def check(self, operation: str, name: str, *, changes: bool = False) -> None:
        """Fails where the disk is told to, or may not be written.

        Raises:
            OSError: it does.
        """
        if self.failing:
            code = self.failing.get((operation, name)) or self.failing.get((operation, "*"))
            if code:
                fail(code, name)
        if changes and self.read_only:
            fail(errno.EROFS, name)

    def find(self, folder: Node, name: str) -> Node:
        """What a name stands for.

        Raises:
            FileNotFoundError: nothing.
            NotADirectoryError: ``folder`` is none.
        """
        if folder.kind != "folder":
            fail(errno.ENOTDIR, name)
        found = folder.entries.get(name)
        if found is None:
            fail(errno.ENOENT, name)
        return found

    def make(self, folder: Node, name: str, kind: Kind, mode: int, *, content: bytes = b"") -> Node:
        """A new inode with a name. ``content``: where a link leads.

        Raises:
            OSError: the name is taken, the folder was removed, or there is no room.
        """
        if folder.kind != "folder":
            fail(errno.ENOTDIR, name)
        if name in folder.entries:
            fail(errno.EEXIST, name)
        self.check("make", name, changes=True)
        if not folder.names:
            fail(errno.ENOENT, name)  # it was removed while it was open
        if kind == "folder" and self.room < BLOCK:
            fail(errno.ENOSPC, name)
        node = self._make(kind, mode)
        node.content = node.disk_content = content
        self._used += BLOCK if kind == "folder" else 0
        folder.entries[name] = node
        node.names, node.above, node.name = 1, folder, name
        folder.modified = folder.changed = self.clock()
        self._note(((folder, name, node),), node)
        return node

    def write(self, node: Node, content: bytes, name: str = "") -> None:
        """Appends bytes, for programs to see.

        Raises:
            OSError: there is no room for all of them; what there was room for is written.
        """
        self.check("write", name, changes=True)
        fits = _blocks(len(node.content)) - len(node.content) + self.room // BLOCK * BLOCK
        self._set(node, node.content + content[:fits])
        if len(content) > fits:
            fail(errno.ENOSPC, name)

    def overwrite(self, node: Node, content: bytes) -> None:
        """Puts other bytes into a file in place, as no part of deploytool does."""
        self._set(node, content)

    def sync(self, node: Node, name: str = "") -> None:
        """Puts a file's bytes on the disk, or a folder's names.

        Raises:
            OSError: it fails; with EIO what was written is dropped.
        """
        try:
            self.check("sync", name, changes=False)
        except OSError as error:
            node.dropped = error.errno == errno.EIO
            raise
        self.steps += 1
        node.disk_mode = node.mode
        if node.kind == "folder":
            self._sync_names(node)
        elif not node.dropped:
            node.disk_content = node.content

    def rename(self, folder: Node, old: str, new: str, *, only_new: bool = False) -> None:
        """Gives an inode another name in one step.

        Raises:
            OSError: there is no such name, or the new one stands for what can't be replaced.
        """
        self.check("rename", old, changes=True)
        node, other = self.find(folder, old), folder.entries.get(new)
        if other is not None:
            if only_new:
                fail(errno.EEXIST, new)
            if other is node:
                return
            if node.kind != "folder" and other.kind == "folder":
                fail(errno.EISDIR, new)
            if node.kind == "folder" and other.kind != "folder":
                fail(errno.ENOTDIR, new)
            if other.entries:
                fail(errno.ENOTEMPTY, new)
            self._take(folder, new)
        del folder.entries[old]
        folder.entries[new] = node
        node.name = new
        node.changed = folder.modified = folder.changed = self.clock()
        self._note(((folder, old, None), (folder, new, node)), node, gone=other)

    def remove(self, folder: Node, name: str) -> None:
        """Takes a name from a file or a link, or an empty folder away.

        Raises:
            OSError: there is no such name, or the folder is not empty.
        """
        self.check("remove", name, changes=True)
        node = self.find(folder, name)
        if node.entries:
            fail(errno.ENOTEMPTY, name)
        self._take(folder, name)
        self._note(((folder, name, None),), gone=node)

    def set_mode(self, node: Node, mode: int, name: str = "") -> None:
        """Sets permission bits."""
        self.check("set_mode", name, changes=True)
        self.steps += 1
        node.mode, node.changed = mode, self.clock()

    @staticmethod
    def path_of(node: Node) -> str:
        """Its path as /proc shows it; the last one, where its name was taken away."""
        words: list[str] = []
        at: Node | None = node
        while at is not None:
            words.append(at.name)
            at = at.above
        return "/".join(reversed(words)) or "/"

    def walk(self, path: str, *, follow: bool = True, depth: int = 40) -> Node:
        """What a whole path stands for; symbolic links in it are followed.

        Raises:
            OSError: it stands for nothing, or its links lead in a circle.
        """
        at = self.root
        words = path.split("/")
        for number, word in enumerate(words):
            if word in {"", "."}:
                continue
            if word == "..":
                at = at.above or self.root
                continue
            found = self.find(at, word)
            if found.kind == "link" and (follow or any(words[number + 1 :])):
                if depth == 0:
                    fail(errno.ELOOP, path)
                rest = "/".join(words[number + 1 :])
                target = found.content.decode()
                base = "" if target.startswith("/") else self.path_of(at)
                return self.walk(f"{base}/{target}/{rest}", follow=follow, depth=depth - 1)
            at = found
        return at

    def close(self, node: Node) -> None:
        """Gives a descriptor back: the last one of an inode without names frees its blocks."""
        node.opened -= 1
        self._free(node)

    # --- what a loss of power does --------------------------------------------------------------

    def lose_power(self, fate: Fate) -> None:
        """The page cache is gone; what was not synced is there or not, as ``fate`` has it."""
        lost: set[Place] = set()
        for change in self._log:
            if lost.isdisjoint(change.needs) and fate.spares():
                _apply(change)
            else:
                lost |= change.gives
        self._log.clear()
        self.changes += 1
        for node in list(self._everything()):
            self._reread(node, fate)
        self._recount()

    def tree(self, *, on_disk: bool = False) -> dict[str, Node]:
        """Every inode by its path."""
        found: dict[str, Node] = {}
        left = [("", self.root)]
        while left:
            path, node = left.pop()
            found[path or "/"] = node
            entries = node.disk_entries if on_disk else node.entries
            left += [(f"{path}/{name}", below) for name, below in entries.items()]
        return found

    # --------------------------------------------------------------------------------------------

    def _make(self, kind: Kind, mode: int) -> Node:
        self._numbers += 1
        now = self.clock()
        return Node(self._numbers, kind, mode, modified=now, changed=now, disk_mode=mode)

    def _set(self, node: Node, content: bytes) -> None:
        self._used += _blocks(len(content)) - _blocks(len(node.content))
        self.steps += 1
        node.content = content
        node.modified = node.changed = self.clock()

    def _take(self, folder: Node, name: str) -> None:
        node = folder.entries.pop(name)
        node.names -= 1
        node.changed = folder.modified = folder.changed = self.clock()
        self._free(node)

    def _free(self, node: Node) -> None:
        if node.names == 0 and node.opened == 0:
            self._used -= _stored(node)

    def _note(
        self,
        puts: tuple[tuple[Node, str, Node | None], ...],
        node: Node | None = None,
        *,
        gone: Node | None = None,
    ) -> None:
        places: set[Place] = {(folder.number, name) for folder, name, _ in puts}
        places |= {(one.number, "") for one in (node, gone) if one is not None}
        gives = places | {(folder.number, "/") for folder, _, _ in puts}
        if gone is not None:
            # A folder goes only when all that was in it went.
            places.add((gone.number, "/"))
        self.changes += 1
        self.steps += 1
        self._log.append(_Change(puts, frozenset(places), frozenset(gives)))

    def _sync_names(self, folder: Node) -> None:
        wanted: set[Place] = {(folder.number, "/")}
        synced: list[_Change] = []
        for change in reversed(self._log):
            if not wanted.isdisjoint(change.gives):
                wanted |= change.needs
                synced.append(change)
        for change in reversed(synced):
            _apply(change)
            self._log.remove(change)

    def _everything(self) -> Iterator[Node]:
        return iter(self.tree(on_disk=True).values())

    @staticmethod
    def _reread(node: Node, fate: Fate) -> None:
        """What is in the page cache once an inode is read again."""
        if node.kind == "file":
            if node.content != node.disk_content:
                node.disk_content = (
                    node.disk_content
                    if node.dropped
                    else fate.tear(node.disk_content, node.content)
                )
            if node.rotten is not None:
                node.disk_content, node.rotten = node.rotten, None
            node.content = node.disk_content
        if node.mode != node.disk_mode:
            node.mode = node.mode if fate.spares() else node.disk_mode
            node.disk_mode = node.mode
        node.entries = dict(node.disk_entries)
        node.opened, node.locked, node.dropped = 0, None, False

    def _recount(self) -> None:
        """Blocks and names as fsck would count them."""
        nodes = set(self._everything())
        self._used = sum(map(_stored, nodes))
        for node in nodes:
            node.names = 0
        self.root.names = 1
        for node in nodes:
            for name, below in node.entries.items():
                below.names, below.above, below.name = 1, node, name


def _stored(node: Node) -> int:
    """Bytes of the disk that an inode takes."""
    if node.kind == "folder":
        return BLOCK
    return _blocks(len(node.content)) if node.kind == "file" else 0


def _apply(change: _Change) -> None:
    for folder, name, node in change.puts:
        if node is None:
            folder.disk_entries.pop(name, None)
        else:
            folder.disk_entries[name] = node
