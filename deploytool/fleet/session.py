"""One SSH session, on fabric and paramiko: commands that are asked one thing after the other."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import paramiko
from paramiko.ssh_exception import SSHException

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.connection import WINDOW_BYTES, SshConnection
from deploytool.fleet.openssh import KEEPALIVE_S
from deploytool.fleet.protocol import ANSWER_BYTES_AT_MOST
from deploytool.fleet.sshconfig import Route


@dataclass(frozen=True)
class Output:
    """What a remote command printed, and how it ended (None: the connection was lost first)."""

    status: int | None
    output: bytes
    errors: bytes


class Conversation:
    """A remote command that reads what it is asked and answers, again and again.

    It ignores empty lines: they keep the connection from being cut as idle.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._begun = False

    def begin(self, chunk: bytes) -> None:
        """Sends the beginning of what it will be asked; what is wrong shows when it is asked."""
        self._begun = True
        with suppress(SSHException, OSError, EOFError):
            self._channel.sendall(chunk)

    @property
    def alive(self) -> bool:
        """Whether it could be asked something, as far as this end has heard."""
        transport = self._channel.get_transport()
        return not (self._channel.closed or self._channel.eof_received) and transport.is_active()

    def keep_alive(self) -> None:
        """Sends an empty line, without waiting; what is wrong shows when it is asked next."""
        if self._begun:
            return  # it would be the rest of what was begun
        self._channel.settimeout(0.0)
        with suppress(SSHException, OSError, EOFError):
            self._channel.send(b"\n")

    def ask(
        self, chunks: Iterable[bytes], end: bytes | None, *, deadline_s: float, changes: bool
    ) -> Output:
        """Sends ``chunks`` and gives all that is printed up to the line that begins with ``end``.

        ``end`` None: nothing more will be asked, and the answer goes on to the command's own end.

        Raises:
            HostFault: no answer within ``deadline_s``, one without an end, or the connection was
                lost; in doubt where what was asked ``changes`` something.
        """
        ends = time.monotonic() + deadline_s
        try:
            self._send(chunks, ends)
            self._begun = False
            if end is None:
                self._channel.shutdown_write()
            return self._receive(end, ends, changes=changes)
        except TimeoutError as error:
            text = f"the command did not end within {deadline_s:g} s"
            raise HostFault(FaultKind.TIMEOUT, text, in_doubt=changes) from error
        except (SSHException, OSError, EOFError) as error:
            text = f"while the command ran: {str(error) or 'closed'}"
            raise HostFault(FaultKind.LOST, text, in_doubt=changes) from error

    def _send(self, chunks: Iterable[bytes], ends: float) -> None:
        """Sends in slices: ``sendall`` of one large buffer copies the rest of it each time."""
        channel = self._channel
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                channel.settimeout(max(0.001, ends - time.monotonic()))
                try:
                    sent = channel.send(view)  # type: ignore[arg-type] # any buffer will do
                except OSError as error:
                    ended = channel.closed or channel.eof_received
                    if isinstance(error, TimeoutError) or not ended:
                        raise
                    return  # the command ended before it read all; its answer says why
                view = view[sent:]

    def _receive(self, end: bytes | None, ends: float, *, changes: bool) -> Output:
        channel, output, errors = self._channel, bytearray(), bytearray()
        while end is None or not _has_line(output, end):
            channel.settimeout(max(0.001, min(KEEPALIVE_S, ends - time.monotonic())))
            try:
                part = channel.recv(65536)
            except TimeoutError:
                if time.monotonic() >= ends:
                    raise
                if end is not None:
                    self.keep_alive()
                continue
            output += part
            if len(output) > ANSWER_BYTES_AT_MOST:
                text = "it printed more than an answer can be"
                raise HostFault(FaultKind.PROTOCOL, text, in_doubt=changes)
            if not part:
                break
        else:
            return Output(None, bytes(output), b"")
        while channel.recv_stderr_ready() and len(errors) < ANSWER_BYTES_AT_MOST:
            errors += channel.recv_stderr(65536)
        if not channel.status_event.wait(max(0.001, min(1.0, ends - time.monotonic()))):
            return Output(None, bytes(output), bytes(errors))
        status = channel.recv_exit_status()
        return Output(None if status == -1 else status, bytes(output), bytes(errors))

    def close(self) -> None:
        """Ends the command's input; a well-behaved one ends with it."""
        # Over a connection that is lost a goodbye raises, and would hide the fault behind it.
        with suppress(SSHException, OSError, EOFError):
            self._channel.close()


def _has_line(output: bytearray, beginning: bytes) -> bool:
    """Whether a whole line that begins so has arrived."""
    at = output.find(b"\n" + beginning)
    return at >= 0 and output.find(b"\n", at + 1) >= 0


class Session:
    """An open SSH session to one machine; many commands can run over it, one after the other.

    Raises:
        HostFault: it can't be opened, and why.
    """

    def __init__(self, way: Route, known_hosts: str, connect_timeout_s: float) -> None:
        self._way = SshConnection(way, known_hosts, connect_timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the connection is there, as far as this end has heard."""
        return bool(self._way.end.is_connected)

    def converse(self, command: str, timeout_s: float) -> Conversation:
        """Starts ``command``; it can then be asked one thing after the other.

        Raises:
            HostFault: it can't be started.
        """
        try:
            transport = self._way.end.transport
            channel = transport.open_session(window_size=WINDOW_BYTES, timeout=timeout_s)
            channel.settimeout(timeout_s)
            channel.exec_command(command)
        except (SSHException, OSError, EOFError) as error:
            raise HostFault(FaultKind.LOST, f"before anything was asked: {error}") from error
        return Conversation(channel)

    def run(self, command: str, said: bytes, *, deadline_s: float) -> Output:
        """Runs a command that changes things, with ``said`` as all of its standard input.

        Raises:
            HostFault: no answer within ``deadline_s``, or the connection was lost.
        """
        conversation = self.converse(command, deadline_s)
        try:
            return conversation.ask([said], None, deadline_s=deadline_s, changes=True)
        finally:
            conversation.close()

    def close(self) -> None:
        """Closes all connections, the jump hosts' last."""
        self._way.close()
