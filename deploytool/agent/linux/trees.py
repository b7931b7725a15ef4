"""Digests over whole folders, such as an interpreter's libraries: bounded in number and time."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time

from deploytool.agent.linux.hashing import digest_file
from deploytool.agent.linux.opening import fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILES_AT_MOST = 65536
TIME_S = 20.0
_OWN = "__pycache__"
"""Each host compiles its own."""


def stamp_trees(paths: Sequence[str]) -> str:
    """SHA-256 over what stat(2) says of every file below some folders.

    Raises:
        OSError: one can't be inspected, or they are more than are.
    """
    found = hashlib.sha256()
    for path, one in _files(paths):
        facts = [_facts(one)]
        if stat.S_ISLNK(one.st_mode):
            facts += _behind(path)
        found.update(f"{path}\0{facts}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _facts(one: os.stat_result) -> tuple[int, ...]:
    return one.st_dev, one.st_ino, one.st_size, one.st_ctime_ns, one.st_mode


def _behind(link: str) -> list[tuple[int, ...]]:
    """Of the file that a link leads to, if there is one."""
    try:
        one = os.stat(link)
    except OSError:
        return []
    return [_facts(one)] if stat.S_ISREG(one.st_mode) else []


def digest_trees(paths: Sequence[str]) -> str:
    """SHA-256 over the names and contents of every file below some folders.

    Of a link, where it leads, and the file that it leads to.

    Raises:
        OSError: one can't be read, or they are more than are.
    """
    found = hashlib.sha256()
    for path, one in _files(paths):
        target = os.readlink(path) if stat.S_ISLNK(one.st_mode) else ""
        sha = digest_file(path)
        if sha is None and not target:
            raise fail(errno.EIO, path)
        line = f"{path}\0{target}\0{sha or ''}\n"
        found.update(line.encode("utf-8", "surrogateescape"))
    return found.hexdigest()


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
