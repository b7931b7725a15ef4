"""Opens and reads files that may be anything: only a regular one is ever opened for reading.

A name is opened as a mere place first (``O_PATH``), which neither waits for a FIFO's writer nor
wakes a device. What was found there is read afterwards, whatever the name means by then.
"""

from __future__ import annotations

import errno
import os
import stat

AT_ONCE = 1024 * 1024
"""So many bytes are read at once."""
_PLACE = os.O_PATH | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


def fail(number: int, path: str) -> OSError:
    """The error that the kernel would give for ``path``."""
    return OSError(number, os.strerror(number), path)


def component(name: str) -> str:
    """``name``, where it is one name within a folder.

    Raises:
        OSError: it would lead elsewhere.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise fail(errno.EINVAL, name)
    return name


def open_regular(path: str, folder: int | None = None, *, follow: bool = True) -> int:
    """A descriptor to read a regular file by; the caller closes it.

    Raises:
        OSError: it can't be opened, or is something else.
    """
    place = os.open(path, _PLACE if follow else _PLACE | os.O_NOFOLLOW, dir_fd=folder)
    try:
        mode = os.fstat(place).st_mode
        if stat.S_ISDIR(mode):
            raise fail(errno.EISDIR, path)
        if not stat.S_ISREG(mode):
            raise fail(errno.ELOOP if stat.S_ISLNK(mode) else errno.EINVAL, path)
        return os.open(f"/proc/self/fd/{place}", _READ)
    finally:
        os.close(place)


def read_descriptor(descriptor: int, at_most: int, path: str) -> bytes:
    """All that is there to read, and no more than that.

    Raises:
        OSError: it can't be read, or is larger (EFBIG).
    """
    parts = []
    left = at_most + 1
    while left > 0:
        part = os.read(descriptor, min(left, AT_ONCE))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    if left == 0:
        raise fail(errno.EFBIG, path)
    return b"".join(parts)


def read_regular(
    path: str, at_most: int, folder: int | None = None, *, follow: bool = True
) -> bytes:
    """A regular file's content. See ``open_regular`` and ``read_descriptor``."""
    descriptor = open_regular(path, folder, follow=follow)
    try:
        return read_descriptor(descriptor, at_most, path)
    finally:
        os.close(descriptor)
