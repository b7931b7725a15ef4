"""Opens the way to one machine, hop by hop, each with its own pinned key and its own credentials.

``fabric.Connection`` accepts unknown host keys (it sets ``AutoAddPolicy``): here the policy is
replaced before anything is sent, on jump hosts too. Ambient Fabric settings are not read.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fabric
import paramiko
from paramiko.ssh_exception import (
    AuthenticationException,
    ChannelException,
    SSHException,
)

from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault, InputError
from deploytool.fleet.credentials import Credentials
from deploytool.fleet.known_hosts import read_pins
from deploytool.fleet.openssh import TURNED_AWAY
from deploytool.fleet.proxy import ProxyProcess
from deploytool.fleet.sshconfig import Route

# What goes wrong is raised, and said once: without a handler its threads would print tracebacks.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_JUMP = "jump host "
_TURNED_AWAY_S = (0.3, 0.6, 1.2, 2.4)
"""Pauses before the next try at a machine that hung up before its greeting, in seconds."""
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


class _TurnedAway(HostFault):
    """The machine hung up before its greeting; a moment later it may not."""


class SshConnection:
    """The open connection to one machine, over a connection to its last jump host where it has one.

    Raises:
        HostFault: with the reason as a person would say it, and with the hop where it ended.
    """

    def __init__(self, way: Route, known_hosts: str, connect_timeout_s: float) -> None:
        self._known_hosts = known_hosts
        self._timeout_s = connect_timeout_s
        self._connection: fabric.Connection | None = None
        self._proxy: ProxyProcess | None = None
        self._jump: _Shared | None = None
        try:
            if way.jumps:
                *before, last = way.jumps
                jump = replace(last, jumps=tuple(before))
                self._jump = _Shared.take(jump, known_hosts, connect_timeout_s)
            self._connect_patiently(way)
        except BaseException as error:
            if self._jump and isinstance(error, HostFault) and error.kind is FaultKind.TIMEOUT:
                self._jump.doubt()
            self.close()
            raise

    @property
    def end(self) -> fabric.Connection:
        """The connection to the machine itself."""
        assert self._connection is not None  # noqa: S101 else it would not have been made
        return self._connection

    def close(self) -> None:
        """Closes it; that of a jump host when no other connection goes over it."""
        self._hang_up()
        jump, self._jump = self._jump, None
        if jump is not None:
            jump.leave()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.client.close()
            self._connection = None
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None

    def _connect_patiently(self, way: Route) -> None:
        """Connects, also to a machine at which too many log in right now."""
        for pause_s in (*_TURNED_AWAY_S, None):
            try:
                self._connect(way)
            except _TurnedAway as fault:
                if pause_s is None:
                    raise
                del fault
                self._hang_up()
                time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 only spread
            else:
                return

    def _connect(self, hop: Route) -> None:
        """Connects to the machine.

        Raises:
            HostFault: as the class says.
        """
        where, began = f"{hop.hostname}:{hop.port}", time.monotonic()
        try:
            self._connection = self._new(hop)
            self._connection.open()
        except AuthenticationException as error:
            raise HostFault(FaultKind.AUTH, f"user {hop.user}: {error}") from error
        except (TimeoutError, socket.timeout) as error:  # noqa: UP041 paramiko raises either
            text = f"no SSH session within {self._timeout_s:g} s{self._proxy_said()}"
            raise HostFault(FaultKind.TIMEOUT, text) from error
        except ChannelException as error:
            before = hop.jumps[-1].hostname
            raise HostFault(
                FaultKind.UNREACHABLE, f"{where}: the jump host {before} says: {error.text}"
            ) from error
        except (SSHException, OSError, EOFError, ValueError) as error:
            said = self._proxy_said()
            greeting = "banner" in str(error)
            if greeting and not said and time.monotonic() - began < self._timeout_s:
                raise _TurnedAway(FaultKind.UNREACHABLE, f"{where}: {TURNED_AWAY}") from error
            # Paramiko says so when its own deadline for the greeting, or for a channel, has passed.
            late = greeting or any(
                w in str(error) for w in ("No existing session", "Timeout opening")
            )
            kind = FaultKind.TIMEOUT if late else FaultKind.UNREACHABLE
            text = f"{where}: {str(error) or type(error).__name__}{said}"
            raise HostFault(kind, text) from error

    def _new(self, hop: Route) -> fabric.Connection:
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
        if self._jump is not None:
            return self._jump.transport.open_channel(
                "direct-tcpip", (hop.hostname, hop.port), ("", 0), timeout=self._timeout_s
            )
        if hop.proxy_command is None:
            return dial(hop, self._timeout_s)
        self._proxy = ProxyProcess(hop.proxy_command)
        return self._proxy.socket

    def _proxy_said(self) -> str:
        said = self._proxy.said().strip() if self._proxy is not None else ""
        return f"; the ProxyCommand says: {excerpt(said)}" if said else ""


class _Shared:
    """A connection to a jump host, for all machines behind it: one login, and not one for each.

    sshd turns away whom it has no room for (``MaxStartups``), and counts only logins and sessions:
    what is passed on to machines behind it is neither.
    """

    _guard = threading.Lock()
    _open: ClassVar[dict[tuple[Route, str], _Shared]] = {}

    def __init__(self, key: tuple[Route, str]) -> None:
        self._key = key
        self._users = 0
        self._turn = threading.Lock()
        self._connection: SshConnection | None = None
        self._fault: HostFault | None = None
        self._failed_at = 0.0

    @classmethod
    def take(cls, way: Route, known_hosts: str, timeout_s: float) -> _Shared:
        """The connection to this jump host, opened where it isn't yet, or is lost.

        Raises:
            HostFault: it can't be opened. All that waited for the same attempt get its fault.
        """
        key = (way, known_hosts)
        with cls._guard:
            shared = cls._open.setdefault(key, cls(key))
            shared._users += 1
        try:
            shared._ensure(timeout_s)
        except BaseException:
            shared.leave()
            raise
        return shared

    @property
    def transport(self) -> paramiko.Transport:
        """What connections behind it go over."""
        assert self._connection is not None  # noqa: S101 it is taken
        transport: paramiko.Transport = self._connection.end.transport
        return transport

    def leave(self) -> None:
        """One user less; the last one closes it."""
        with _Shared._guard:
            self._users -= 1
            if self._users:
                return
            if _Shared._open.get(self._key) is self:
                del _Shared._open[self._key]
        if self._connection is not None:
            self._connection.close()

    def doubt(self) -> None:
        """It may be dead without a sign: whoever comes next opens another."""
        with _Shared._guard:
            if _Shared._open.get(self._key) is self:
                del _Shared._open[self._key]

    def _ensure(self, timeout_s: float) -> None:
        way, known_hosts = self._key
        began = time.monotonic()
        with self._turn:
            if self._connection is not None:
                if self._connection.end.is_connected:
                    return
                self._connection.close()
                self._connection = None
            if self._fault is not None and self._failed_at >= began:
                raise HostFault(self._fault.kind, self._fault.text)
            try:
                self._connection = SshConnection(way, known_hosts, timeout_s)
            except HostFault as fault:
                text = fault.text
                if not text.startswith(_JUMP):
                    text = f"{_JUMP}{way.hostname}:{way.port}: {text}"
                self._fault, self._failed_at = HostFault(fault.kind, text), time.monotonic()
                raise self._fault from fault


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
