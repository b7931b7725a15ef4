"""SHA-256 of files: as a program reads them, and as they lie on the disk."""

from __future__ import annotations

import errno
import hashlib
import os

from deploytool.agent.linux.opening import AT_ONCE, fail, open_regular
from deploytool.agent.model import DiskRead

BYTES_AT_MOST = 64 * 1024**3
"""A file that is larger, or grows faster than it is read, has no digest here."""


def digest_descriptor(descriptor: int, into: memoryview | None = None) -> str:
    """SHA-256 of what is read from here to the end; ``into``: memory that who reads many reuses.

    Raises:
        OSError: it can't be read, or does not end (EFBIG).
    """
    view = memoryview(bytearray(AT_ONCE)) if into is None else into
    return _digest(lambda part: os.readv(descriptor, [part]), view)


def digest_file(path: str, folder: int | None = None, *, follow: bool = True) -> str | None:
    """SHA-256 of a regular file as a program that opens it now reads it; None where it can't be."""
    try:
        descriptor = open_regular(path, folder, follow=follow)
    except OSError:
        return None
    try:
        return digest_descriptor(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def digest_disk(path: str, folder: int | None = None, *, follow: bool = True) -> DiskRead:
    """SHA-256 of a regular file past the page cache (``O_DIRECT``, open(2)).

    Where the file system knows no such reading, what is cached is written and dropped first, which
    the kernel may decline: then ``direct`` is False.
    """
    try:
        descriptor = open_regular(path, folder, follow=follow)
    except OSError:
        return DiskRead(sha=None, direct=False)
    try:
        try:
            return DiskRead(sha=_digest_direct(descriptor), direct=True)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                return DiskRead(sha=None, direct=True)
        return DiskRead(sha=_digest_dropped(descriptor), direct=False)
    except OSError:
        return DiskRead(sha=None, direct=False)
    finally:
        os.close(descriptor)


def _digest_direct(descriptor: int) -> str:
    import mmap  # only who reads a disk pays for it

    size = os.fstat(descriptor).st_size
    direct = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    try:
        # Anonymous memory begins at a page, as O_DIRECT asks of its buffer.
        with mmap.mmap(-1, AT_ONCE) as buffer, memoryview(buffer) as view:
            done = 0

            def read(into: memoryview) -> int:
                # At the end of a file whose size is odd, one more reading would be misaligned.
                nonlocal done
                count = os.preadv(direct, [into], done) if done < size else 0
                done += count
                return count

            return _digest(read, view)
    finally:
        os.close(direct)


def _digest_dropped(descriptor: int) -> str:
    os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return digest_descriptor(descriptor)


def _digest(read: Callable[[memoryview], int], view: memoryview) -> str:
    found = hashlib.sha256()
    total = 0
    while True:
        count = read(view)
        if count == 0:
            return found.hexdigest()
        total += count
        if total > BYTES_AT_MOST:
            raise fail(errno.EFBIG, "")
        found.update(view[:count])


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
