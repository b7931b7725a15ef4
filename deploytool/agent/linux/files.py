"""Files and folders: relative to open folders below a release root, by whole path elsewhere."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from deploytool.agent.linux.hashing import digest_disk, digest_file
from deploytool.agent.linux.opening import component, fail, open_regular, read_regular
from deploytool.agent.model import Inode, Rights
from deploytool.agent.port import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from deploytool.agent.model import DiskRead

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOREPLACE = 1
"""RENAME_NOREPLACE of renameat2(2)."""
DEPTH_AT_MOST = 128
"""A tree that is deeper than this is not removed."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.02


def text_of(name: bytes) -> str:
    """A name as it can be shown: JSON and terminals take no lone surrogates."""
    return name.decode("utf-8", "backslashreplace")


def inode_of(found: os.stat_result) -> Inode:
    """What stat(2) says of a file."""
    rights = Rights(owner=found.st_uid, group=found.st_gid, mode=stat.S_IMODE(found.st_mode))
    return Inode(
        device=found.st_dev,
        number=found.st_ino,
        size=found.st_size,
        rights=rights,
        modified=str(found.st_mtime_ns),
        changed=str(found.st_ctime_ns),
    )


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


class LinuxSink:
    """A new file that is being written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, content: bytes) -> None:
        """Appends all of ``content``."""
        left = memoryview(content)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def sync(self) -> None:
        """Puts what was written on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes it; never raises."""
        _close(self._descriptor)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass  # what had to be on the disk was synced; close(2) adds nothing


class _Flock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        """It is held since it was made."""

    def __exit__(self, *_: object) -> None:
        _close(self._descriptor)


class LinuxFolder:
    """An open folder below which no symbolic link is followed."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self.path = path

    def folder(self, name: str) -> LinuxFolder:
        """Opens a folder in it."""
        flags = _FOLDER | os.O_NOFOLLOW
        opened = os.open(component(name), flags, dir_fd=self._descriptor)
        return LinuxFolder(opened, f"{self.path}/{name}")

    def names(self) -> list[str]:
        """All names in it, sorted."""
        return sorted(os.listdir(self._descriptor))

    def entry(self, name: str) -> Entry | None:
        """What the name stands for; None where there is no such name."""
        try:
            found = self._stat(name)
        except FileNotFoundError:
            return None
        return Entry(kind=_kind(found.st_mode), inode=inode_of(found))

    def _stat(self, name: str) -> os.stat_result:
        return os.stat(component(name), dir_fd=self._descriptor, follow_symlinks=False)

    def read(self, name: str, at_most: int) -> bytes:
        """A regular file's content; a larger one raises ``OSError`` (EFBIG)."""
        return read_regular(component(name), at_most, self._descriptor, follow=False)

    def target(self, name: str) -> str:
        """Where a symbolic link leads."""
        found = os.readlink(os.fsencode(component(name)), dir_fd=self._descriptor)
        return text_of(found)

    def create(self, name: str, mode: int) -> LinuxSink:
        """A new file; an older one of that name raises ``FileExistsError``."""
        made = os.open(component(name), _NEW, 0o600, dir_fd=self._descriptor)
        try:
            os.fchmod(made, mode)  # whatever the umask says
        except OSError:
            os.close(made)
            raise
        return LinuxSink(made)

    def make_folder(self, name: str, mode: int) -> None:
        """A new folder."""
        os.mkdir(component(name), 0o700, dir_fd=self._descriptor)
        made = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._descriptor)
        try:
            os.fchmod(made, mode)
        finally:
            os.close(made)

    def make_link(self, name: str, target: str) -> None:
        """A new symbolic link."""
        os.symlink(target, component(name), dir_fd=self._descriptor)

    def rename(self, old: str, new: str) -> None:
        """Gives it another name in one step; a file or link of that name is replaced."""
        where = self._descriptor
        os.rename(component(old), component(new), src_dir_fd=where, dst_dir_fd=where)

    def rename_new(self, old: str, new: str) -> None:
        """The same, and ``FileExistsError`` where that name is taken."""
        number = _rename_no_replace(self._descriptor, component(old), component(new))
        if number in (errno.ENOSYS, errno.EINVAL):
            # A kernel or a file system without it: a second name, then one less. Not for folders.
            where = self._descriptor
            os.link(old, new, src_dir_fd=where, dst_dir_fd=where, follow_symlinks=False)
            os.unlink(old, dir_fd=where)
        elif number:
            raise OSError(number, os.strerror(number), f"{self.path}/{new}")

    def set_mode(self, name: str, mode: int) -> None:
        """Sets a file's permission bits."""
        descriptor = open_regular(component(name), self._descriptor, follow=False)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """Removes a file or a link; one that is not there raises ``FileNotFoundError``."""
        os.unlink(component(name), dir_fd=self._descriptor)

    def remove_tree(self, name: str) -> None:
        """Removes a folder with all that is in it; one that is not there is no error."""
        try:
            is_folder = stat.S_ISDIR(self._stat(name).st_mode)
        except FileNotFoundError:
            return
        if is_folder:
            _empty(self._descriptor, name, DEPTH_AT_MOST)
            os.rmdir(name, dir_fd=self._descriptor)
        else:
            os.unlink(name, dir_fd=self._descriptor)

    def sync(self) -> None:
        """Puts the names in it on the disk."""
        os.fsync(self._descriptor)

    def sync_file(self, name: str) -> None:
        """Puts a file's content on the disk."""
        descriptor = open_regular(component(name), self._descriptor, follow=False)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def digest(self, name: str) -> str | None:
        """SHA-256 of what a program that opens the file now reads; None where it can't be."""
        return digest_file(component(name), self._descriptor, follow=False)

    def digest_disk(self, name: str) -> DiskRead:
        """SHA-256 of what is on the disk."""
        return digest_disk(component(name), self._descriptor, follow=False)

    def free(self) -> int:
        """Bytes that an account without privileges may still write here."""
        found = os.fstatvfs(self._descriptor)
        return found.f_bavail * found.f_frsize

    def lock(self, name: str, wait_s: float) -> AbstractContextManager[None]:
        """Holds a file's lock while the block runs.

        Raises:
            TimeoutError: another holds it for longer than ``wait_s``.
        """
        descriptor = open_regular(component(name), self._descriptor, follow=False)
        try:
            _wait_for(descriptor, wait_s)
            return _Flock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Closes it; never raises."""
        _close(self._descriptor)


def _wait_for(descriptor: int, wait_s: float) -> None:
    """Takes a lock: flock(2) knows no deadline, so it is tried ever less often until then."""
    until = time.monotonic() + wait_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = until - time.monotonic()
        else:
            return
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _rename_no_replace(folder: int, old: str, new: str) -> int:
    """renameat2(2), which Python does not have; gives the error's number, 0 without one."""
    import ctypes  # only who needs this call pays for it

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return errno.ENOSYS
    done = renameat2(folder, os.fsencode(old), folder, os.fsencode(new), _NOREPLACE)
    return ctypes.get_errno() if done else 0


def _empty(parent: int, name: str, depth: int) -> None:
    """Removes all that is in a folder, following no link, whatever is put in the way meanwhile."""
    if depth == 0:
        raise fail(errno.ELOOP, name)
    folder = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.fchmod(folder, 0o700)  # releases are read-only, and their owner may not be root
        for entry in os.listdir(folder):
            try:
                os.unlink(entry, dir_fd=folder)
            except IsADirectoryError:
                _empty(folder, entry, depth - 1)
                os.rmdir(entry, dir_fd=folder)
    finally:
        os.close(folder)


class LinuxFiles:
    """Files by their whole path: what the inventory or systemd names."""

    def open_root(self, path: str) -> LinuxFolder:
        """Opens the release root; only this path may lead through symbolic links."""
        opened = os.open(path, _FOLDER)
        return LinuxFolder(opened, os.readlink(f"/proc/self/fd/{opened}"))

    def inode(self, path: str) -> Inode | None:
        """A file's inode, as a program that opens it now finds it; None without one."""
        try:
            return inode_of(os.stat(path))
        except OSError:
            return None

    def read(self, path: str, at_most: int) -> bytes:
        """A file's content; a larger one raises ``OSError`` (EFBIG)."""
        return read_regular(path, at_most)

    def digest(self, path: str) -> str | None:
        """SHA-256 of a regular file; None where it can't be read."""
        return digest_file(path)

    def names(self, path: str) -> list[str]:
        """All names in a folder, sorted; none where there is no such folder."""
        try:
            return sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def stamp_trees(self, paths: Sequence[str]) -> str:
        """SHA-256 over what shows that no file below some folders was written to since."""
        from deploytool.agent.linux.trees import stamp_trees

        return stamp_trees(paths)

    def digest_trees(self, paths: Sequence[str]) -> tuple[str, str]:
        """SHA-256 over the names and contents of the same files."""
        from deploytool.agent.linux.trees import digest_trees

        return digest_trees(paths)

    def exists(self, path: str) -> bool:
        """Whether there is such a name, also of a link that leads nowhere."""
        return os.path.lexists(path)
