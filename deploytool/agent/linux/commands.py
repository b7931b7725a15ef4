"""The service's own commands, with its account's rights and nothing of the agent's."""

from __future__ import annotations

import errno
import os
import time

from deploytool.agent.linux.killing import OwnGroup
from deploytool.agent.linux.opening import fail
from deploytool.agent.linux.proc import start_of
from deploytool.agent.linux.running import ProgramEnd, run
from deploytool.agent.model import Asked
from deploytool.agent.words import DOCUMENT_AT_MOST, is_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from deploytool.agent.settings import Settings

_SIGNER_S = 5.0
_IN_GROUP = 'echo 0 >"$1/cgroup.procs" && shift && exec "$@"'
_ACCOUNTS = range(61184, 65520)
"""Numbers of users that no file of accounts names (systemd.exec(5), ``DynamicUser=``)."""
_TRIES = 100
_DIRECTORY_S = 5.0
_NOT_FOUND = 2
"""getent(1): one or more of the keys could not be found."""


class LinuxCommands:
    """The commands of one service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, argv: Sequence[str], *, given: bytes, deadline_s: float) -> Asked:
        """Runs one to its end; what it leaves behind is killed."""
        program = self._as_account(self._as_started(argv))
        return _asked("command", run(program, given=given, deadline_s=deadline_s))

    def _as_started(self, argv: Sequence[str]) -> Sequence[str]:
        """With the service's own variables. They may load code: no program of root's sees them."""
        own = self._settings.environment
        return ("env", *own, *argv) if own else argv

    def _as_account(self, argv: Sequence[str]) -> Sequence[str]:
        account = self._settings.account
        if account is None:
            return argv
        rights = (f"--reuid={account}", f"--regid={account}", "--init-groups", "--no-new-privs")
        return ("setpriv", *rights, "--", *argv)

    def try_out(self, argv: Sequence[str], *, deadline_s: float) -> Asked:
        """Runs code that nothing has proven yet, to its end; what it leaves behind is killed.

        Raises:
            OSError: it can't be kept apart from the rest of this host.
        """
        if self._settings.account is None:  # without root there is no one to keep it from
            return _asked("command", run(self._as_started(argv), deadline_s=deadline_s))
        number = _account_of_no_one()
        user = (f"--reuid={number}", f"--regid={number}", "--clear-groups", "--no-new-privs")
        with OwnGroup("deploytool-trial") as folder:
            apart = ("sh", "-c", _IN_GROUP, "sh", folder, "setpriv", *user, "--")
            tried = (*apart, *self._as_started(argv))
            return _asked("command", run(tried, deadline_s=deadline_s))

    def ask_socket(
        self, path: str, line: str, peers: frozenset[tuple[int, int]], deadline_s: float
    ) -> Asked:
        """Asks a Unix socket for one line; the answer is one line, or all until its end.

        Raises:
            OSError: it can't be asked, does not answer in time, or another process answers.
        """
        import socket  # only who asks this way pays for it
        import struct

        from deploytool.agent.linux.aside import connect

        until = time.monotonic() + deadline_s
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            connect(asked, path, self._settings.account, deadline_s)
            found = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid: int = struct.unpack("3i", found)[0]
            if (pid, start_of(pid)) not in peers:
                raise fail(errno.EPERM, path)
            asked.settimeout(max(0.001, until - time.monotonic()))
            try:
                asked.sendall(line.encode("utf-8") + b"\n")
                answer = _one_line(asked, path, until)
            except socket.timeout:  # before Python 3.10 it is no TimeoutError
                raise fail(errno.ETIMEDOUT, path) from None
        return Asked(way="socket", code=0, answer=answer.decode("utf-8", "replace"))

    def signer(self, signature: str, signed: bytes, namespace: str) -> str | None:
        """Who of the signers file signed exactly this (ssh-keygen(1), -Y verify)."""
        signers = self._settings.signers
        if signers is None:
            return None
        # It reads a signature from a file only: this one needs no disk that has room.
        memory = os.memfd_create("signature")
        try:
            os.write(memory, signature.encode("utf-8"))
            held = f"/proc/{os.getpid()}/fd/{memory}"
            files = ("-s", held, "-f", signers)
            found = run(("ssh-keygen", "-Y", "find-principals", *files), deadline_s=_SIGNER_S)
            name = found.output.decode("utf-8", "replace").strip()
            if found.code != 0 or not is_word(name):
                return None
            verify = ("ssh-keygen", "-Y", "verify", "-n", namespace, "-I", name, *files)
            checked = run(verify, given=signed, deadline_s=_SIGNER_S)
            return name if checked.code == 0 else None
        finally:
            os.close(memory)


def _account_of_no_one() -> int:
    """The number of a user that this host does not know."""
    at = int.from_bytes(os.urandom(4), "big")
    for step in range(_TRIES):
        number = _ACCOUNTS[(at + step) % len(_ACCOUNTS)]
        known = run(("getent", "passwd", str(number)), deadline_s=_DIRECTORY_S)
        if known.code == _NOT_FOUND:
            return number
        if known.code != 0:
            raise fail(errno.EAGAIN, f"the directory of accounts: {known.text}")
    raise fail(errno.EAGAIN, "every user number is taken")


def _asked(way: str, ended: ProgramEnd) -> Asked:
    answer = ended.output.decode("utf-8", "replace")
    return Asked(way=way, code=ended.code, answer=answer, errors=ended.text)


def _one_line(asked: socket.socket, path: str, until: float) -> bytes:
    answer = bytearray()
    while b"\n" not in answer[-4096:]:
        left = until - time.monotonic()
        if left <= 0:
            raise fail(errno.ETIMEDOUT, path)
        asked.settimeout(left)
        part = asked.recv(4096)
        if not part:
            break
        answer += part
        if len(answer) > DOCUMENT_AT_MOST:
            raise fail(errno.EMSGSIZE, path)
    return bytes(answer.partition(b"\n")[0])
