"""A ``ProxyCommand`` as a socket: what it is given and prints is the connection.

Paramiko's own spins where the command has ended, and neither waits for it nor hears what it says.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile

_END_S = 2.0
_SAID_BYTES = 2000


class ProxyProcess:
    """A running ``ProxyCommand``, by the user's shell, as OpenSSH runs it.

    Raises:
        OSError: the shell can't be started.
    """

    def __init__(self, command: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the process
        self.socket, theirs = socket.socketpair()
        words = [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"]
        try:
            # In a session of its own: Ctrl-C is for us, who still need it to bring hosts back.
            self._process = subprocess.Popen(
                words,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError:
            self.socket.close()
            self._errors.close()
            raise
        finally:
            theirs.close()

    def said(self) -> str:
        """What it printed to its standard error so far: the end of it."""
        size = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), _SAID_BYTES, max(0, size - _SAID_BYTES))
        return tail.decode("utf-8", "replace")

    def close(self) -> None:
        """Ends it, by force where it does not end by itself."""
        self.socket.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                continue
            break
        self._errors.close()
