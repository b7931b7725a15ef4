"""Files and folders as the agent reaches them: no symbolic link below a root is followed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from deploytool.agent.model import DiskRead, Inode, Rights
from deploytool.agent.port import Entry
from deploytool.simulation.memory.computer import OpenFile
from deploytool.simulation.memory.disk import Disk, Node, fail, sha256
from deploytool.simulation.memory.run import Run

_NO_NAMES = frozenset({"", ".", ".."})


def inode(disk: Disk, node: Node) -> Inode:
    """What stat(2) says."""
    return _stat(disk, node).inode


def _stat(disk: Disk, node: Node) -> Entry:
    """Made once as long as nothing of it changes: a matrix asks for it often."""
    now = (node.modified, node.changed, node.mode, node.owner, node.group, len(node.content))
    if node.shown is not None and node.shown[0] == now:
        found: Entry = node.shown[1]
        return found
    made = Inode(
        device=disk.device,
        number=node.number,
        size=4096 if node.kind == "folder" else len(node.content),
        rights=Rights(owner=node.owner, group=node.group, mode=node.mode),
        modified=str(node.modified),
        changed=str(node.changed),
    )
    entry = Entry(kind=node.kind, inode=made)
    node.shown = now, entry
    return entry


def _regular(node: Node, name: str) -> Node:
    if node.kind != "file":
        codes = {"folder": errno.EISDIR, "link": errno.ELOOP}
        fail(codes.get(node.kind, errno.EINVAL), name)
    return node


def _bounded(node: Node, at_most: int, name: str) -> bytes:
    if len(node.content) > at_most:
        fail(errno.EFBIG, name)
    return node.content


class MemorySink:
    """A new file that is being written."""

    def __init__(self, run: Run, node: Node, name: str) -> None:
        self._run, self._node, self._name = run, node, name
        self._held: OpenFile | None = run.computer.hold(run.task, node)

    def write(self, content: bytes) -> None:
        """Appends all of ``content``."""
        run, disk = self._run, self._run.computer.disk
        run.point(f"write {self._name}")
        if run.hook is not None and len(content) > 1:
            half = len(content) // 2
            disk.write(self._node, content[:half], self._name)
            run.point(f"write {self._name}, half done")
            content = content[half:]
        disk.write(self._node, content, self._name)

    def sync(self) -> None:
        """Puts what was written on the disk."""
        self._run.point(f"sync {self._name}")
        self._run.computer.disk.sync(self._node, self._name)

    def close(self) -> None:
        """Closes it; never raises."""
        if self._held is not None and not self._run.ended:
            self._run.task.held.remove(self._held)
            self._run.computer.disk.close(self._node)
        self._held = None


class _Held:
    """A lock that is held since it was made."""

    def __init__(self, node: Node, run: Run) -> None:
        self._node, self._run = node, run

    def __enter__(self) -> None:
        """It is held already."""

    def __exit__(self, *_: object) -> None:
        """Lets it go."""
        if self._node.locked is self._run.task:
            self._node.locked = None


class MemoryFolder:
    """An open folder."""

    def __init__(self, run: Run, node: Node, path: str) -> None:
        self._run, self._node, self._path = run, node, path
        self._disk = run.computer.disk

    @property
    def path(self) -> str:
        """Where it was when it was opened."""
        return self._path

    def _at(self, what: str, name: str, *more: str) -> None:
        """A step that names something in this folder, which may end with an error."""
        self._step(what, name, *more)
        self._disk.check(what, name)

    def _step(self, what: str, *names: str) -> None:
        self._run.point(what, *names)
        for name in names:
            if name in _NO_NAMES or "/" in name or "\0" in name:
                fail(errno.EINVAL, name)

    def _file(self, name: str) -> Node:
        """A regular file, opened without following a link."""
        return _regular(self._disk.find(self._node, name), name)

    def folder(self, name: str) -> MemoryFolder:
        """Opens a folder in it."""
        self._at("folder", name)
        node = self._disk.find(self._node, name)
        if node.kind != "folder":
            fail(errno.ENOTDIR, name)
        return MemoryFolder(self._run, node, f"{self._path}/{name}")

    def names(self) -> list[str]:
        """All names in it, sorted."""
        self._run.point("names")
        self._disk.check("names", "")
        return sorted(self._node.entries)

    def entry(self, name: str) -> Entry | None:
        """What the name stands for."""
        self._at("entry", name)
        node = self._node.entries.get(name)
        return None if node is None else _stat(self._disk, node)

    def read(self, name: str, at_most: int) -> bytes:
        """A regular file's content."""
        self._at("read", name)
        return _bounded(self._file(name), at_most, name)

    def target(self, name: str) -> str:
        """Where a symbolic link leads."""
        self._at("target", name)
        node = self._disk.find(self._node, name)
        if node.kind != "link":
            fail(errno.EINVAL, name)
        return node.content.decode()

    def create(self, name: str, mode: int) -> MemorySink:
        """A new file."""
        self._at("create", name)
        return MemorySink(self._run, self._disk.make(self._node, name, "file", mode), name)

    def make_folder(self, name: str, mode: int) -> None:
        """A new folder."""
        self._at("make_folder", name)
        self._disk.make(self._node, name, "folder", mode)

    def make_link(self, name: str, target: str) -> None:
        """A new symbolic link."""
        self._at("make_link", name)
        self._disk.make(self._node, name, "link", 0o777, content=target.encode())

    def rename(self, old: str, new: str) -> None:
        """Gives it another name in one step."""
        self._at("rename", old, new)
        self._disk.rename(self._node, old, new)

    def rename_new(self, old: str, new: str) -> None:
        """The same, where that name is not taken."""
        self._at("rename_new", old, new)
        self._disk.rename(self._node, old, new, only_new=True)

    def set_mode(self, name: str, mode: int) -> None:
        """Sets a file's permission bits."""
        self._at("set_mode", name)
        self._disk.set_mode(self._file(name), mode, name)

    def remove(self, name: str) -> None:
        """Removes a file or a link."""
        self._at("remove", name)
        if self._disk.find(self._node, name).kind == "folder":
            fail(errno.EISDIR, name)
        self._disk.remove(self._node, name)

    def remove_tree(self, name: str) -> None:
        """Removes a folder with all that is in it."""
        self._at("remove_tree", name)
        node = self._node.entries.get(name)
        if node is None:
            return
        self._empty(node)
        self._disk.remove(self._node, name)

    def _empty(self, folder: Node) -> None:
        for name in sorted(folder.entries):
            below = folder.entries[name]
            if below.kind == "folder":
                self._empty(below)
            self._disk.remove(folder, name)
            self._run.point(f"remove_tree, after {name}")

    def sync(self) -> None:
        """Puts the names in it on the disk."""
        name = self._path.rpartition("/")[2]
        self._run.point(f"sync {name}/")
        self._disk.sync(self._node, name)

    def sync_file(self, name: str) -> None:
        """Puts a file's content on the disk."""
        self._at("sync", name)
        self._disk.sync(self._file(name), name)

    def digest(self, name: str) -> str | None:
        """SHA-256 of what a program reads."""
        self._step("digest", name)
        try:
            self._disk.check("digest", name)
            return sha256(self._file(name).content)
        except OSError:
            return None

    def digest_disk(self, name: str) -> DiskRead:
        """SHA-256 of what is on the disk."""
        self._step("digest_disk", name)
        direct = self._disk.direct
        try:
            node = self._file(name)
        except OSError:
            return DiskRead(sha=None, direct=False)
        try:
            self._disk.check("digest_disk", name)
        except OSError:
            return DiskRead(sha=None, direct=direct)
        return DiskRead(sha=sha256(node.on_disk if direct else node.content), direct=direct)

    def free(self) -> int:
        """Bytes that may still be written here."""
        self._run.point("free")
        return max(0, self._disk.room)

    def lock(self, name: str, wait_s: float) -> _Held:
        """Holds a file's lock while the block runs."""
        self._at("lock", name)
        run, node = self._run, self._file(name)

        def is_free() -> bool:
            return node.locked is None or not run.computer.alive(node.locked)

        if not run.wait(is_free, wait_s):
            raise TimeoutError(errno.ETIMEDOUT, f"{name} is locked", name)
        node.locked = run.task
        return _Held(node, run)

    def close(self) -> None:
        """Closes it; never raises."""


class MemoryFiles:
    """Files by their whole path."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._disk = run.computer.disk

    def _node(self, what: str, path: str) -> Node | None:
        self._run.point(what, path)
        self._disk.check(what, path)
        return self._run.computer.find(path)

    def open_root(self, path: str) -> MemoryFolder:
        """Opens the release root."""
        self._run.point(f"open_root {path}")
        node = self._disk.walk(path)
        if node.kind != "folder":
            fail(errno.ENOTDIR, path)
        return MemoryFolder(self._run, node, self._disk.path_of(node))

    def inode(self, path: str) -> Inode | None:
        """A file's inode."""
        node = self._node("inode", path)
        return None if node is None else inode(self._disk, node)

    def read(self, path: str, at_most: int) -> bytes:
        """A file's content."""
        self._run.point(f"read {path}")
        self._disk.check("read", path)
        return _bounded(_regular(self._disk.walk(path), path), at_most, path)

    def digest(self, path: str) -> str | None:
        """SHA-256 of a regular file."""
        try:
            node = self._node("digest", path)
        except OSError:
            return None
        return sha256(node.content) if node is not None and node.kind == "file" else None

    def names(self, path: str) -> list[str]:
        """All names in a folder, sorted."""
        node = self._node("names", path)
        return sorted(node.entries) if node is not None else []

    def stamp_trees(self, paths: Sequence[str]) -> str:
        """SHA-256 over what shows that no file below some folders was written to since."""
        return self._stamp("stamp", paths)

    def digest_trees(self, paths: Sequence[str]) -> tuple[str, str]:
        """SHA-256 over the names and contents of the same files, and their stamp."""
        sha = self._trees("digest", paths, lambda node: sha256(node.content))
        return sha, self._stamp("digest", paths)

    def _stamp(self, what: str, paths: Sequence[str]) -> str:
        return self._trees(what, paths, lambda node: str(inode(self._disk, node)))

    def _trees(self, what: str, paths: Sequence[str], told: Callable[[Node], str]) -> str:
        lines = []
        for path in paths:
            left = [(path, self._node(what, path))]
            while left:
                at, node = left.pop()
                if node is None:
                    fail(errno.ENOENT, at)
                lines += [f"{at} {told(node)}\n"] if node.kind == "file" else []
                left += [(f"{at}/{name}", inner) for name, inner in node.entries.items()]
        return sha256("".join(sorted(lines)).encode())

    def exists(self, path: str) -> bool:
        """Whether there is such a name."""
        self._run.point(f"exists {path}")
        return self._run.computer.find(path, follow=False) is not None
