"""Does in a child what may hang: it is killed when its time is up, and the agent goes on.

The directory of accounts (nsswitch.conf(5)) may be another machine, and a path may lead into a
file system whose server is gone. Neither takes a deadline of its own.
"""

from __future__ import annotations

import errno
import os
import select
import time

from deploytool.agent.linux.opening import fail, read_regular
from deploytool.agent.linux.running import reap
from deploytool.agent.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import NoReturn

ACCOUNT_S = 1.0
"""How long an account may take to be found."""
_FILE_AT_MOST = 1024 * 1024
_RESULT_AT_MOST = 64 * 1024
_DESCRIPTORS = 1 << 16
_PAUSE_S, _REAP_S = 0.02, 0.1
_KILL = 9


def account(name: str) -> int | None:
    """The number of an account; None: there is none of that name.

    Raises:
        OSError: the directory of accounts does not answer.
    """
    number = _local(name)
    if number is not None:
        return number

    def find() -> bytes:
        import pwd

        try:
            return b"%d" % pwd.getpwnam(name).pw_uid
        except KeyError:
            return b""

    found = aside(find, f"account {name}", deadline_s=ACCOUNT_S)
    return int(found) if found else None


def connect(asked: socket.socket, path: str, name: str | None, deadline_s: float) -> None:
    """Connects a Unix socket with the rights of an account, so that it can't lead root elsewhere.

    A socket whose queue is full is tried again until time is up. ``name`` None: with the agent's
    own rights.

    Raises:
        OSError: nothing listens there, the account may not, or time is up.
    """
    asked.settimeout(0)

    def attempt() -> bytes:
        if name is not None:
            _act_as(name)
        while True:  # until this child is killed
            try:
                asked.connect(path)
            except BlockingIOError:
                time.sleep(_PAUSE_S)
            else:
                return b""

    aside(attempt, path, deadline_s=deadline_s, keep=asked.fileno())


def _local(name: str) -> int | None:
    """Its number by passwd(5), where that is what nsswitch.conf(5) asks first: no child is needed.

    None: the directory has to be asked.
    """
    try:
        sources = read_regular("/etc/nsswitch.conf", _FILE_AT_MOST).decode("utf-8", "replace")
        accounts = read_regular("/etc/passwd", _FILE_AT_MOST).decode("utf-8", "replace")
    except OSError:
        return None
    asked = [line.split() for line in sources.split("\n") if line.startswith("passwd:")]
    if [words[1:2] for words in asked] != [["files"]]:
        return None
    for line in accounts.split("\n"):
        fields = line.split(":")
        if fields[0] == name:
            number = fields[2] if len(fields) == 7 else ""
            return int(number) if number.isascii() and number.isdigit() else None
    return None


def _act_as(name: str) -> None:
    """Takes an account's rights. The real and the saved user stay the agent's own.

    So the account can neither signal nor trace the process that does this.
    """
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise fail(errno.ENOENT, name) from None
    os.setgroups(os.getgrouplist(name, entry.pw_gid))
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)


def aside(work: Callable[[], bytes], what: str, *, deadline_s: float, keep: int = -1) -> bytes:
    """What ``work`` gives, done in a child of its own; ``keep``: a descriptor that it needs.

    Raises:
        OSError: its own, with the same number; ETIMEDOUT: it was killed, for its time is up.
    """
    told, tells = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(told)
        os.close(tells)
        raise
    if child == 0:
        _work(work, deadline_s, {tells, keep} - {-1}, tells)
    os.close(tells)
    try:
        result = _result(told, deadline_s)
    finally:
        os.close(told)
        os.kill(child, _KILL)  # its number is its own until it was waited for
        reap(child, _REAP_S)  # what sleeps in the kernel takes no signal: init inherits it
    if result is None:
        raise fail(errno.ETIMEDOUT, what)
    number, _, content = result.partition(b" ")
    if not number.isdigit() or int(number):
        raise fail(int(number) if number.isdigit() else errno.EIO, what)
    return content


def _work(work: Callable[[], bytes], limit_s: float, keep: set[int], tells: int) -> NoReturn:
    """In the child: what the agent holds is not held here, else its caller would wait for it."""
    try:
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s + _REAP_S)  # should the agent be killed
        at = 0
        for held in (*sorted(keep), _DESCRIPTORS):
            os.closerange(at, held)
            at = held + 1
        try:
            result = b"0 " + work()
        except OSError as error:
            result = b"%d " % (error.errno or errno.EIO)
        os.write(tells, result[:_RESULT_AT_MOST])
    finally:
        os._exit(0)


def _result(told: int, deadline_s: float) -> bytes | None:
    """All that the child wrote; None: it has not ended in time."""
    until = time.monotonic() + deadline_s
    found = bytearray()
    poll = select.poll()
    poll.register(told, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        if not poll.poll(max(1, int(left * 1000))):
            continue
        part = os.read(told, _RESULT_AT_MOST)
        if not part:
            return bytes(found)
        found += part
    return None
