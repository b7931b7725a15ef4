"""Opens the way to one machine, hop by hop, each with its own pinned key and its own credentials.

``fabric.Connection`` accepts unknown host keys (it sets ``AutoAddPolicy``): here the policy is
replaced before anything is sent, on jump hosts too. Ambient Fabric settings are not read.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fabric
import paramiko
from paramiko.ssh_exception import (
    AuthenticationException,
    ChannelException,
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


class _OnlyPinned(paramiko.MissingHostKeyPolicy):
    """Accepts any key that is pinned for this machine, and no other; the fault says which is shown.

    Paramiko compares with one key of each type. It asks here for a host of which it knows none.
    """

    def __init__(self, hop: Route, pinned: tuple[paramiko.PKey, ...]) -> None:
        self._hop = hop
        self._pinned = pinned

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        del client, hostname
        if any(key.asbytes() == pin.asbytes() for pin in self._pinned):
            return
        name, shown = self._hop.key_name, f"{key.get_name()} {key.fingerprint}"
        same = [pin.fingerprint for pin in self._pinned if pin.get_name() == key.get_name()]
        text = f"no key of this type is pinned for {name}; it shows {shown}"
        if same:
            what = f"it shows {key.fingerprint}, pinned is {' or '.join(same)}"
            text = f"the key of {name} CHANGED: {what}"
        raise HostFault(FaultKind.HOST_KEY, text)


def _transport_for(pinned: tuple[paramiko.PKey, ...]) -> Callable[..., paramiko.Transport]:
    """Makes transports that ask first for the types of key that are pinned, as ``ssh`` does."""
    kinds = {key.get_name() for key in pinned}

    def transport(*args: Any, **kwargs: Any) -> paramiko.Transport:  # noqa: ANN401 paramiko's own signature
        kwargs.setdefault("default_window_size", WINDOW_BYTES)
        made = paramiko.Transport(*args, **kwargs)
        options = made.get_security_options()
        options.ciphers = _first(options.ciphers, lambda cipher: cipher in _CIPHERS)
        options.key_types = _first(
            options.key_types,
            lambda kind: ("ssh-rsa" if kind.startswith("rsa-sha2-") else kind) in kinds,
        )
        return made

    return transport


def _first(known: Iterable[str], wanted: Callable[[str], bool]) -> list[str]:
    """The same words, in their order but with the ``wanted`` ones in front."""
    return sorted(known, key=lambda word: not wanted(word))


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
        except AuthenticationException as error:
            raise HostFault(FaultKind.AUTH, f"user {hop.user}: {error}") from error
        except (TimeoutError, socket.timeout) as error:  # noqa: UP041 paramiko raises either
            text = f"no SSH session within {self._timeout_s:g} s{self._proxy_said()}"
            raise HostFault(FaultKind.TIMEOUT, text) from error
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
                "transport_factory": _transport_for(pinned),
            },
        )
        connection.client.set_missing_host_key_policy(_OnlyPinned(hop, pinned))
        return connection

    def _line(self, hop: Route) -> socket.socket | paramiko.Channel:
        """What the connection goes over."""
        if self._connections:
            return self._connections[-1].transport.open_channel(  # type: ignore[no-any-return] # fabric is untyped
                "direct-tcpip", (hop.hostname, hop.port), ("", 0), timeout=self._timeout_s
            )
        if hop.proxy_command is None:
            return dial(hop, self._timeout_s)
        self._proxy = ProxyProcess(hop.proxy_command)
        return self._proxy.socket

    def _proxy_said(self) -> str:
        said = self._proxy.said().strip() if self._proxy is not None else ""
        return f"; the ProxyCommand says: {excerpt(said)}" if said else ""


def dial(hop: Route, timeout_s: float) -> socket.socket:
    """Connects to the first address of a name that lets us, in the resolver's order.

    Each address has its share of what is left of ``timeout_s``, so that one that swallows all
    leaves time for the next.

    Raises:
        HostFault: the name has no address, or none of them lets us connect.
    """
    families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
    family = families.get(hop.family, socket.AF_UNSPEC)
    try:
        found = socket.getaddrinfo(hop.hostname, hop.port, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        text = f"the name {hop.hostname} can't be resolved: {why}"
        raise HostFault(FaultKind.UNREACHABLE, text) from error
    addresses = list(dict.fromkeys((kind, place) for kind, _, _, _, place in found))
    ends, reasons, late = time.monotonic() + timeout_s, dict[str, None](), False
    for number, (kind_of, place) in enumerate(addresses):
        share = max(0.1, ends - time.monotonic()) / (len(addresses) - number)
        line = socket.socket(kind_of, socket.SOCK_STREAM)
        try:
            line.settimeout(share)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hop.bind_address is not None:
                line.bind((hop.bind_address, 0))
            line.connect(place)
        except OSError as error:
            line.close()
            late = late or isinstance(error, TimeoutError)
            why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            reasons[f"{why} at {place[0]}" if len(addresses) > 1 else why] = None
        else:
            return line
    kind = FaultKind.TIMEOUT if late else FaultKind.UNREACHABLE
    raise HostFault(kind, f"{hop.hostname}:{hop.port}: {', '.join(reasons)}")


def _pinned(hop: Route, known_hosts: str) -> tuple[paramiko.PKey, ...]:
    """The keys pinned for this machine.

    Raises:
        HostFault: none is pinned, or the file can't be read any more.
    """
    try:
        pinned = read_pins(Path(known_hosts)).under(hop.key_name, hop.other_name)
    except InputError as error:
        raise HostFault(FaultKind.HOST_KEY, error.told()) from error
    if not pinned:
        raise HostFault(FaultKind.HOST_KEY, f"no key is pinned for {hop.key_name} in {known_hosts}")
    return pinned
