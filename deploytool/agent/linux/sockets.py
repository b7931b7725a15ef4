"""TCP sockets by their inode, out of the tables of every network namespace (proc_net_tcp(5))."""

from __future__ import annotations

import errno
import sys

from deploytool.agent.linux.opening import fail
from deploytool.agent.linux.proc import read_all
from deploytool.agent.port import HeldSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TABLE_AT_MOST = 64 * 1024 * 1024
_LISTENS = b"0A"
_MAPPED = b"0000000000000000FFFF0000" if sys.byteorder == "little" else b"00" * 10 + b"FFFF"
"""How an IPv4 address begins in the table of IPv6 (RFC 4291, section 2.5.5.2)."""


class Wanted:
    """The sockets that are looked for: listening on a port, or connected to a peer."""

    def __init__(self, ports: Sequence[int], peers: Sequence[str]) -> None:
        self._ports = {b"%04X" % port: port for port in ports}
        self._peers = {coded: peer for peer in peers for coded in _coded(peer)}
        self.some = bool(self._ports or self._peers)

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


def tables(folder: int | None, name: str = "net") -> Iterator[bytes]:
    """The tables of a process's network namespace, IPv4 and IPv6.

    Raises:
        OSError: one can't be read. A kernel without IPv6 has only the first.
    """
    yield read_all(f"{name}/tcp", folder, TABLE_AT_MOST)
    try:
        yield read_all(f"{name}/tcp6", folder, TABLE_AT_MOST)
    except FileNotFoundError:
        return


def _coded(peer: str) -> tuple[bytes, ...]:
    """``address:port`` as the tables spell it; IPv6 addresses may stand in brackets."""
    address, _, port = peer.rpartition(":")
    try:
        if ":" in address:
            import socket

            packed = socket.inet_pton(socket.AF_INET6, address.strip("[]"))
        else:
            one, two, three, four = (int(part) for part in address.split("."))
            packed = bytes((one, two, three, four))
        suffix = b":%04X" % int(port)
    except (ValueError, OSError):
        raise fail(errno.EINVAL, peer) from None
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    coded = b"".join(words).hex().upper().encode("ascii")
    if len(packed) == 4:
        return coded + suffix, _MAPPED + coded + suffix
    return (coded + suffix,)
