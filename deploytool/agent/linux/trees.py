"""Digests over whole folders, such as an interpreter's libraries: bounded in number and time."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time

from deploytool.agent.linux.hashing import digest_descriptor
from deploytool.agent.linux.opening import fail, open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILES_AT_MOST = 65536
TIME_S = 20.0
_OWN = "__pycache__"
"""Each host compiles its own."""


SETTLED_S = 2.0
"""A file that changed less than so long before it was read may change again in the same tick of the
clock that its change time is taken from."""
_PLAIN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
_AT_ONCE = 128 * 1024
"""So many bytes stay in a processor's cache between reading and digesting."""
_ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def stamp_trees(paths: Sequence[str]) -> str:
    """SHA-256 over what stat(2) says of every file below some folders.

    Raises:
        OSError: one can't be inspected, or they are more than are.
    """
    found = hashlib.sha256()
    for path, one in _files(paths):
        found.update(_stamped(path, one, _behind(path) if stat.S_ISLNK(one.st_mode) else None))
    return found.hexdigest()


def digest_trees(paths: Sequence[str]) -> tuple[str, str]:
    """SHA-256 over the names and contents of every file below some folders, and their stamp.

    Of a link, where it leads, and the file that it leads to. The stamp is of the very files that
    were read; empty where one of them could change without changing it: it changed just now, or not
    root alone may write to it (what is written through a mapping changes no time at once).

    Raises:
        OSError: one can't be read or is written to meanwhile, or they are more than are.
    """
    found, stamp = hashlib.sha256(), hashlib.sha256()
    view = memoryview(bytearray(_AT_ONCE))
    settled = time.time_ns() - int(SETTLED_S * 1e9)
    lasts = True
    for path, one in _files(paths):
        is_link = stat.S_ISLNK(one.st_mode)
        target = os.readlink(path) if is_link else ""
        sha, read = _read(path, view, follow=is_link)
        if read is None and not is_link:
            raise fail(errno.EIO, path)
        if read is not None:
            only_root = read.st_uid == _ROOT and not read.st_mode & _OTHERS_WRITE
            lasts = lasts and only_root and read.st_ctime_ns < settled
        line = f"{path}\0{target}\0{sha}\n"
        found.update(line.encode("utf-8", "surrogateescape"))
        stamp.update(_stamped(path, one, read) if is_link else _stamped(path, read or one, None))
    return found.hexdigest(), stamp.hexdigest() if lasts else ""


def _read(path: str, view: memoryview, *, follow: bool) -> tuple[str, os.stat_result | None]:
    """A regular file's SHA-256, and what fstat(2) said of it as it was read; neither without one.

    Raises:
        OSError: it was written to meanwhile (EAGAIN).
    """
    try:
        # What is no link was a regular file a moment ago: opened at once, it takes half the time.
        descriptor = open_regular(path) if follow else os.open(path, _PLAIN)
    except OSError:
        return "", None
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return "", None
        try:
            sha = digest_descriptor(descriptor, view)
        except OSError:
            return "", None
        if _facts(os.fstat(descriptor)) != _facts(before):
            raise fail(errno.EAGAIN, path)
        return sha, before
    finally:
        os.close(descriptor)


def _stamped(path: str, one: os.stat_result, behind: os.stat_result | None) -> bytes:
    facts = [_facts(one)] if behind is None else [_facts(one), _facts(behind)]
    return f"{path}\0{facts}\n".encode("utf-8", "surrogateescape")


def _facts(one: os.stat_result) -> tuple[int, ...]:
    times = one.st_mtime_ns, one.st_ctime_ns
    return one.st_dev, one.st_ino, one.st_size, *times, one.st_mode, one.st_uid


def _behind(link: str) -> os.stat_result | None:
    """Of the file that a link leads to, if there is one."""
    try:
        one = os.stat(link)
    except OSError:
        return None
    return one if stat.S_ISREG(one.st_mode) else None


def _files(paths: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and link below some folders, sorted, each with what lstat(2) says of it."""
    until = time.monotonic() + TIME_S
    left = list(reversed(paths))
    count = 0
    while left:
        folder = left.pop()
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        below = []
        for entry in inside:
            count += 1
            if count > FILES_AT_MOST or time.monotonic() > until:
                raise fail(errno.E2BIG, folder)
            if entry.is_dir(follow_symlinks=False):
                below += [entry.path] if entry.name != _OWN else []
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                yield entry.path, entry.stat(follow_symlinks=False)
        left += reversed(below)
