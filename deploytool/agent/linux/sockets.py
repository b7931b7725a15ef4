"""TCP sockets by their inode: this network namespace's by netlink, any other's by its tables.

The kernel walks all of its hash of connections for each table (proc_net_tcp(5)), which takes some
milliseconds however few there are. By netlink (sock_diag(7)) it walks what is asked for.
"""

from __future__ import annotations

import errno
import struct
import sys
import time

from deploytool.agent.linux.opening import fail
from deploytool.agent.linux.proc import read_all
from deploytool.agent.port import HeldSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterator, Sequence

TABLE_AT_MOST = 64 * 1024 * 1024
"""Bytes of one table, or of one answer of the kernel's."""
ANSWER_S = 2.0
"""How long the kernel may take over all of one answer."""
_OWN = "/proc/self/net"
_LISTENS = b"0A"
_LISTEN, _TIME_WAIT, _STATES = 10, 6, 12
"""States of a connection (tcp_states.h); those after ``TIME_WAIT`` belong to a process again."""
_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins where IPv6 has it (RFC 4291, section 2.5.5.2)."""
_FAMILIES = ((2, "tcp"), (10, "tcp6"))
"""AF_INET and AF_INET6, each with the name of its table."""
_HEADER = struct.Struct("=IHHII")
"""nlmsghdr (netlink(7)): length, type, flags, sequence, port."""
_ASKS = struct.Struct("=BBBBI48x")
"""inet_diag_req_v2: family, protocol, extensions, padding, states, and no socket in particular."""
_SHOWN = struct.Struct("!BBxxHH16s16s")
"""The beginning of inet_diag_msg: family, state, ports and addresses; in the network's order."""
_INODE = struct.Struct("=I")
_RESULT = struct.Struct("=i")
_INODE_AT = 68
_BY_FAMILY, _DONE = 20, 3
_REQUEST_DUMP, _INTERRUPTED = 0x301, 0x10
_MESSAGE_AT_MOST = 1 << 18


class Wanted:
    """The sockets that are looked for: listening on a port, or connected to a peer."""

    def __init__(self, ports: Sequence[int], peers: Sequence[str]) -> None:
        packed = {_packed(peer): peer for peer in peers}
        self._ports = {b"%04X" % port: port for port in ports}
        self._peers = {coded: peer for key, peer in packed.items() for coded in _coded(*key)}
        self._packed = {(_as_ipv6(address), port): peer for (address, port), peer in packed.items()}
        self.some = bool(self._ports or self._peers)

    def here(self) -> Iterator[tuple[bytes, HeldSocket]]:
        """Each of them in the agent's own network namespace, with its inode.

        Raises:
            OSError: they can't be listed. A kernel without IPv6 has only the others.
        """
        for family, table in _FAMILIES:
            try:
                found = list(self._by_netlink(family))
            except (OSError, struct.error):  # it has no such module, or answered only in part
                content = _table(_OWN, table)
                found = [] if content is None else list(self.match(content))
            yield from found

    def match(self, table: bytes) -> Iterator[tuple[bytes, HeldSocket]]:
        """Each of them in a table, with its inode."""
        for line in table.split(b"\n")[1:]:
            fields = line.split(None, 10)
            if len(fields) < 10:
                continue
            port = fields[1].rpartition(b":")[2]
            if fields[3] == _LISTENS:
                if port in self._ports:
                    yield fields[9], HeldSocket(port=self._ports[port], listens=True)
            elif fields[2] in self._peers:
                peer = self._peers[fields[2]]
                yield fields[9], HeldSocket(port=int(port, 16), listens=False, peer=peer)

    def _by_netlink(self, family: int) -> Iterator[tuple[bytes, HeldSocket]]:
        listening = (1 << _LISTEN) if self._ports else 0
        connected = ((1 << _STATES) - 1) & ~(1 << _LISTEN | 1 << _TIME_WAIT | 1)
        ports = set(self._ports.values())
        for message in _dump(family, listening | (connected if self._peers else 0)):
            kind, state, own, other, _, address = _SHOWN.unpack_from(message)
            inode = str(_INODE.unpack_from(message, _INODE_AT)[0]).encode("ascii")
            if state == _LISTEN:
                if own in ports:
                    yield inode, HeldSocket(port=own, listens=True)
                continue
            whole = address if kind == _FAMILIES[1][0] else _as_ipv6(address[:4])
            peer = self._packed.get((whole, other))
            if peer is not None:
                yield inode, HeldSocket(port=own, listens=False, peer=peer)


def tables(pid: int) -> Iterator[bytes]:
    """The tables of a process's network namespace, IPv4 and IPv6.

    Raises:
        OSError: one can't be read. A kernel without IPv6 has only the first.
    """
    for _, name in _FAMILIES:
        table = _table(f"/proc/{pid}/net", name)
        if table is not None:
            yield table


def _table(folder: str, name: str) -> bytes | None:
    try:
        return read_all(f"{folder}/{name}", None, TABLE_AT_MOST)
    except FileNotFoundError:
        if name == _FAMILIES[0][1]:
            raise
        return None


def _dump(family: int, states: int, protocol: int = 6) -> Iterator[bytes]:
    """Each TCP socket of a family in one of these states, as inet_diag_msg (sock_diag(7)).

    Raises:
        OSError: the kernel can't tell, or not all of it.
    """
    import _socket  # the module above it would cost a host more than the answer

    with _Netlink(_socket.socket(16, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 4)) as kernel:
        until = time.monotonic() + ANSWER_S
        asks = _ASKS.pack(family, protocol, 0, 0, states)
        kernel.send(_HEADER.pack(_HEADER.size + len(asks), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + asks)
        left = TABLE_AT_MOST
        while left > 0:
            if time.monotonic() >= until:
                raise fail(errno.ETIMEDOUT, "sock_diag")
            kernel.settimeout(max(0.001, until - time.monotonic()))
            answer, at = kernel.recv(_MESSAGE_AT_MOST), 0
            left -= max(1, len(answer))
            while at < len(answer):
                length, kind, flags, _, _ = _HEADER.unpack_from(answer, at)
                if kind == _DONE and not flags & _INTERRUPTED:
                    # A kernel without a part that this needs ends so, with what was wrong.
                    wrong = -int(_RESULT.unpack_from(answer, at + _HEADER.size)[0])
                    if wrong or length < _HEADER.size + _RESULT.size:
                        raise fail(wrong if wrong > 0 else errno.EIO, "sock_diag")
                    return
                if kind != _BY_FAMILY or flags & _INTERRUPTED or length < _HEADER.size:
                    raise fail(errno.EIO, "sock_diag")
                yield answer[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
    raise fail(errno.EMSGSIZE, "sock_diag")


class _Netlink:
    """A socket that is closed: this module's kind is no context manager."""

    def __init__(self, held: _socket.socket) -> None:
        self._held = held

    def __enter__(self) -> _socket.socket:
        return self._held

    def __exit__(self, *_: object) -> None:
        self._held.close()


def _packed(peer: str) -> tuple[bytes, int]:
    """``address:port``; IPv6 addresses may stand in brackets.

    Raises:
        OSError: it is neither.
    """
    address, _, port = peer.rpartition(":")
    try:
        if ":" in address:
            import _socket

            return _socket.inet_pton(_socket.AF_INET6, address.strip("[]")), int(port)
        one, two, three, four = (int(part) for part in address.split("."))
        return bytes((one, two, three, four)), int(port)
    except (ValueError, OSError):
        raise fail(errno.EINVAL, peer) from None


def _as_ipv6(address: bytes) -> bytes:
    return _MAPPED + address if len(address) == 4 else address


def _coded(address: bytes, port: int) -> tuple[bytes, ...]:
    """As the tables spell it: word by word, each in the machine's own order."""
    suffix = b":%04X" % port
    both = (address, _as_ipv6(address)) if len(address) == 4 else (address,)
    return tuple(_words(one) + suffix for one in both)


def _words(address: bytes) -> bytes:
    words = [address[at : at + 4] for at in range(0, len(address), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return b"".join(words).hex().upper().encode("ascii")
