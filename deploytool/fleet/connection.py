"""Opens the way to one machine, hop by hop, each with its own pinned key and its own credentials.

``fabric.Connection`` accepts unknown host keys (it sets ``AutoAddPolicy``): here the policy is
replaced before anything is sent, on jump hosts too. Ambient Fabric settings are not read.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import fabric
import paramiko
from paramiko.ssh_exception import (
    AuthenticationException,
    BadHostKeyException,
    ChannelException,
    NoValidConnectionsError,
    SSHException,
)

from deploytool.errors import FaultKind, HostFault, InputError
from deploytool.fleet.credentials import Credentials
from deploytool.fleet.known_hosts import read_pins
from deploytool.fleet.protocol import excerpt
from deploytool.fleet.proxy import ProxyProcess
from deploytool.fleet.sshconfig import Route

# What goes wrong is raised, and said once: without a handler its threads would print tracebacks.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

WINDOW_BYTES = 16 * 1024 * 1024
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


def _transport(*args: Any, **kwargs: Any) -> paramiko.Transport:  # noqa: ANN401 paramiko's own signature
    kwargs.setdefault("default_window_size", WINDOW_BYTES)
    transport = paramiko.Transport(*args, **kwargs)
    options = transport.get_security_options()
    known = list(options.ciphers)
    first = [cipher for cipher in _CIPHERS if cipher in known]
    options.ciphers = [*first, *(cipher for cipher in known if cipher not in first)]
    return transport


class SshConnection:
    """The open connections to one machine: to each jump host, and at the end to itself.

    Raises:
        HostFault: with the reason as a person would say it, and with the hop where it ended.
    """

    def __init__(self, way: Route, known_hosts: str, connect_timeout_s: float) -> None:
        self._known_hosts = known_hosts
        self._timeout_s = connect_timeout_s
        self._connections: list[fabric.Connection] = []
        self._proxy: ProxyProcess | None = None
        try:
            for hop in way.hops:
                self._add(hop, last=hop is way)
        except BaseException:
            self.close()
            raise

    @property
    def end(self) -> fabric.Connection:
        """The connection to the machine itself."""
        return self._connections[-1]

    def close(self) -> None:
        """Closes all connections, the jump hosts' last."""
        for connection in reversed(self._connections):
            connection.client.close()
        if self._proxy is not None:
            self._proxy.close()

    def _add(self, hop: Route, *, last: bool) -> None:
        try:
            self._connect(hop)
        except HostFault as fault:
            if last:
                raise
            where = f"jump host {hop.hostname}:{hop.port}: {fault.text}"
            raise HostFault(fault.kind, where) from fault

    def _connect(self, hop: Route) -> None:
        """Connects to one machine, over what is open already.

        Raises:
            HostFault: as the class says.
        """
        where = f"{hop.hostname}:{hop.port}"
        try:
            connection = self._connection(hop)
            self._connections.append(connection)
            connection.open()
        except BadHostKeyException as error:
            raise HostFault(
                FaultKind.HOST_KEY,
                f"the key of {hop.key_name} CHANGED: it shows {error.key.fingerprint}, "
                f"pinned is {error.expected_key.fingerprint}",
            ) from error
        except AuthenticationException as error:
            raise HostFault(FaultKind.AUTH, f"user {hop.user}: {error}") from error
        except (TimeoutError, socket.timeout) as error:  # noqa: UP041 paramiko raises either
            text = f"no SSH session within {self._timeout_s:g} s{self._proxy_said()}"
            raise HostFault(FaultKind.TIMEOUT, text) from error
        except NoValidConnectionsError as error:
            causes = error.errors.values()
            reasons = {getattr(cause, "strerror", "") or str(cause) for cause in causes}
            raise HostFault(
                FaultKind.UNREACHABLE, f"{where}: {', '.join(sorted(reasons))}"
            ) from error
        except ChannelException as error:
            before = self._connections[-1].host
            raise HostFault(
                FaultKind.UNREACHABLE, f"{where}: the jump host {before} says: {error.text}"
            ) from error
        except (SSHException, OSError, EOFError, ValueError) as error:
            # Paramiko says so when its own deadline for the greeting, or for a channel, has passed.
            late = any(
                w in str(error) for w in ("banner", "No existing session", "Timeout opening")
            )
            kind = FaultKind.TIMEOUT if late else FaultKind.UNREACHABLE
            text = f"{where}: {str(error) or type(error).__name__}{self._proxy_said()}"
            raise HostFault(kind, text) from error

    def _connection(self, hop: Route) -> fabric.Connection:
        pinned = _pinned(hop, self._known_hosts)
        # Not lazy, and without OpenSSH's files: nobody's ~/.fabric.yaml changes what we do.
        config = fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig())
        connection = fabric.Connection(
            host=hop.hostname,
            user=hop.user,
            port=hop.port,
            config=config,
            connect_timeout=self._timeout_s,
            connect_kwargs={
                "auth_strategy": Credentials(hop, self._timeout_s),
                "sock": self._line(hop),
                "banner_timeout": self._timeout_s,
                "auth_timeout": self._timeout_s,
                "channel_timeout": self._timeout_s,
                "transport_factory": _transport,
            },
        )
        connection.client.set_missing_host_key_policy(_RefuseUnknown())
        # Under the name that paramiko looks up.
        name = hop.hostname if hop.port == 22 else f"[{hop.hostname}]:{hop.port}"
        for kind, key in pinned.items():
            connection.client.get_host_keys().add(name, kind, key)
        return connection

    def _line(self, hop: Route) -> socket.socket | paramiko.Channel | None:
        """What the connection goes over; None: a socket of its own."""
        if self._connections:
            return self._connections[-1].transport.open_channel(  # type: ignore[no-any-return] # fabric is untyped
                "direct-tcpip", (hop.hostname, hop.port), ("", 0), timeout=self._timeout_s
            )
        if hop.proxy_command is None:
            return None
        self._proxy = ProxyProcess(hop.proxy_command)
        return self._proxy.socket

    def _proxy_said(self) -> str:
        said = self._proxy.said().strip() if self._proxy is not None else ""
        return f"; the ProxyCommand says: {excerpt(said)}" if said else ""


def _pinned(hop: Route, known_hosts: str) -> dict[str, paramiko.PKey]:
    """The keys pinned for this machine, by type.

    Raises:
        HostFault: none is pinned, or the file can't be read any more.
    """
    try:
        pinned = read_pins(Path(known_hosts)).of(hop.key_name)
    except InputError as error:
        raise HostFault(FaultKind.HOST_KEY, error.told()) from error
    if not pinned:
        raise HostFault(FaultKind.HOST_KEY, f"no key is pinned for {hop.key_name} in {known_hosts}")
    return pinned
