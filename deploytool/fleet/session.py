"""One SSH session, on fabric and paramiko, to a machine whose host key is pinned.

``fabric.Connection`` accepts unknown host keys (it sets ``AutoAddPolicy``): here the policy is
replaced before anything is sent, on jump hosts too. Ambient Fabric settings are not read.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fabric
import paramiko
from paramiko.ssh_exception import (
    AuthenticationException,
    BadHostKeyException,
    NoValidConnectionsError,
    SSHException,
)

from deploytool.errors import FaultKind, HostFault, InputError
from deploytool.fleet.protocol import ANSWER_BYTES_AT_MOST
from deploytool.fleet.sshconfig import Route

# What goes wrong is raised, and said once: without a handler its threads would print tracebacks.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_WINDOW_BYTES = 16 * 1024 * 1024
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Preferred: one pass in OpenSSL instead of a cipher and a MAC in Python. Others stay allowed."""


class _RefuseUnknown(paramiko.MissingHostKeyPolicy):
    """A key that is not pinned is refused, and the fault says which one was shown."""

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        del client
        raise HostFault(
            FaultKind.HOST_KEY,
            f"no key is pinned for {hostname}; it shows {key.get_name()} {key.fingerprint}",
        )


@dataclass(frozen=True)
class Answer:
    """What a remote command printed, and how it ended (None: the connection was lost first)."""

    status: int | None
    output: bytes
    errors: bytes


def check_known_hosts(path: Path) -> None:
    """Refuses markers that paramiko would misread as names.

    Raises:
        InputError: the file has an ``@revoked`` or ``@cert-authority`` line, or can't be read.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("@"):
            raise InputError(
                f"{path}:{number}: markers such as {line.split()[0]} are not understood here.",
                "Nothing was touched.",
                "Pin each host's own public key, one line a host.",
            )


def _transport(*args: Any, **kwargs: Any) -> paramiko.Transport:  # noqa: ANN401 paramiko's own signature
    kwargs.setdefault("default_window_size", _WINDOW_BYTES)
    transport = paramiko.Transport(*args, **kwargs)
    options = transport.get_security_options()
    known = list(options.ciphers)
    first = [cipher for cipher in _CIPHERS if cipher in known]
    options.ciphers = [*first, *(cipher for cipher in known if cipher not in first)]
    return transport


def _connection(
    way: Route, known_hosts: str, connect_timeout_s: float, gateway: fabric.Connection | str | None
) -> fabric.Connection:
    # Not lazy, and without OpenSSH's files: nobody's ~/.fabric.yaml changes what we do.
    config = fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig())
    connection = fabric.Connection(
        host=way.hostname,
        user=way.user,
        port=way.port,
        config=config,
        gateway=gateway,
        connect_timeout=connect_timeout_s,
        connect_kwargs={
            "key_filename": list(way.identity_files) or None,
            "look_for_keys": False,
            "allow_agent": way.agent and not way.identities_only,
            "banner_timeout": connect_timeout_s,
            "auth_timeout": connect_timeout_s,
            "channel_timeout": connect_timeout_s,
            "transport_factory": _transport,
        },
    )
    connection.client.set_missing_host_key_policy(_RefuseUnknown())
    _pin(connection.client, way, known_hosts)
    return connection


def _pin(client: paramiko.SSHClient, way: Route, known_hosts: str) -> None:
    """Gives the client the keys pinned for this machine, under the name that paramiko looks up.

    Raises:
        HostFault: none is pinned.
    """
    pinned = paramiko.HostKeys(known_hosts).lookup(way.key_name)
    if not pinned:
        raise HostFault(FaultKind.HOST_KEY, f"no key is pinned for {way.key_name} in {known_hosts}")
    name = way.hostname if way.port == 22 else f"[{way.hostname}]:{way.port}"
    for kind in pinned:
        client.get_host_keys().add(name, kind, pinned[kind])


class Conversation:
    """A remote command that reads what it is asked and answers, again and again."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def ask(
        self, chunks: Iterable[bytes], end: bytes | None, *, deadline_s: float, changes: bool
    ) -> Answer:
        """Sends ``chunks`` and gives all that is printed up to the line that begins with ``end``.

        ``end`` None: nothing more will be asked, and the answer goes on to the command's own end.

        Raises:
            HostFault: no answer within ``deadline_s``, one without an end, or the connection was
                lost; in doubt where what was asked ``changes`` something.
        """
        ends = time.monotonic() + deadline_s
        try:
            self._send(chunks, ends)
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

    def _receive(self, end: bytes | None, ends: float, *, changes: bool) -> Answer:
        channel, output, errors = self._channel, bytearray(), bytearray()
        while end is None or not _has_line(output, end):
            channel.settimeout(max(0.001, ends - time.monotonic()))
            part = channel.recv(65536)
            output += part
            if len(output) > ANSWER_BYTES_AT_MOST:
                text = "it printed more than an answer can be"
                raise HostFault(FaultKind.PROTOCOL, text, in_doubt=changes)
            if not part:
                break
        else:
            return Answer(None, bytes(output), b"")
        while channel.recv_stderr_ready() and len(errors) < ANSWER_BYTES_AT_MOST:
            errors += channel.recv_stderr(65536)
        if not channel.status_event.wait(max(0.001, min(1.0, ends - time.monotonic()))):
            return Answer(None, bytes(output), bytes(errors))
        status = channel.recv_exit_status()
        return Answer(None if status == -1 else status, bytes(output), bytes(errors))

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
    """An open SSH session to one machine; many commands can run over it, one after the other."""

    def __init__(self, way: Route, known_hosts: str, connect_timeout_s: float) -> None:
        self._connections: list[fabric.Connection] = []
        gateway: fabric.Connection | str | None = way.proxy_command
        for jump in way.jumps:
            gateway = _connection(jump, known_hosts, connect_timeout_s, gateway)
            self._connections.append(gateway)
        self._connections.append(_connection(way, known_hosts, connect_timeout_s, gateway))
        try:
            self._open(connect_timeout_s)
        except BaseException:
            self.close()
            raise

    def _open(self, connect_timeout_s: float) -> None:
        """Connects, jump hosts first.

        Raises:
            HostFault: with the reason as a person would say it.
        """
        last = self._connections[-1]
        try:
            last.open()
        except HostFault:
            raise
        except BadHostKeyException as error:
            raise HostFault(
                FaultKind.HOST_KEY,
                f"the key of {error.hostname} CHANGED: it shows {error.key.fingerprint}, "
                f"pinned is {error.expected_key.fingerprint}",
            ) from error
        except AuthenticationException as error:
            raise HostFault(FaultKind.AUTH, f"user {last.user}: {error}") from error
        except (TimeoutError, socket.timeout) as error:  # noqa: UP041 paramiko raises either
            raise HostFault(
                FaultKind.TIMEOUT, f"no SSH session within {connect_timeout_s:g} s"
            ) from error
        except NoValidConnectionsError as error:
            causes = error.errors.values()
            reasons = {getattr(cause, "strerror", "") or str(cause) for cause in causes}
            where = f"{last.host}:{last.port}: {', '.join(sorted(reasons))}"
            raise HostFault(FaultKind.UNREACHABLE, where) from error
        except (SSHException, OSError, EOFError, ValueError) as error:
            # Paramiko says so when its own deadline for the first exchange has passed.
            late = "banner" in str(error) or "No existing session" in str(error)
            kind = FaultKind.TIMEOUT if late else FaultKind.UNREACHABLE
            raise HostFault(
                kind, f"{last.host}:{last.port}: {str(error) or type(error).__name__}"
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the connection is there, as far as this end has heard."""
        return bool(self._connections[-1].is_connected)

    def converse(self, command: str, timeout_s: float) -> Conversation:
        """Starts ``command``; it can then be asked one thing after the other.

        Raises:
            HostFault: it can't be started.
        """
        try:
            transport = self._connections[-1].transport
            channel = transport.open_session(window_size=_WINDOW_BYTES, timeout=timeout_s)
            channel.settimeout(timeout_s)
            channel.exec_command(command)
        except (SSHException, OSError, EOFError) as error:
            raise HostFault(FaultKind.LOST, f"before anything was asked: {error}") from error
        return Conversation(channel)

    def run(self, command: str, said: bytes, *, deadline_s: float) -> Answer:
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
        for connection in reversed(self._connections):
            connection.client.close()
