"""This network namespace's sockets, by netlink and by the kernel's tables: both say the same."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from deploytool.agent.linux import sockets
from deploytool.agent.linux.sockets import Wanted, tables

ANY = "0.0.0.0"  # noqa: S104 nothing is served there, and not for long


@pytest.fixture
def some() -> Iterator[tuple[list[int], list[str]]]:
    """Ports and peers of sockets that listen, are connected, half closed, and closed again."""
    ports, peers = [], []
    with ExitStack() as held:
        for address in ("127.0.0.1", ANY, "::1", "::"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                listening = held.enter_context(socket.create_server((address, 0), family=family))
            except OSError:
                continue  # a kernel without IPv6
            port = listening.getsockname()[1]
            ports.append(port)
            near = {ANY: "127.0.0.1", "::": "::1"}.get(address, address)
            peers.append(f"[{near}]:{port}" if ":" in near else f"{near}:{port}")
            for how in ("kept", "half", "mapped"):
                to = f"::ffff:{near}" if how == "mapped" and "." in near else near
                one = held.enter_context(
                    socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
                )
                one.connect((to, port))
                held.enter_context(listening.accept()[0])
                if how == "half":
                    one.shutdown(socket.SHUT_WR)
        yield ports, peers


def test_netlink_and_the_tables_show_the_same(some: tuple[list[int], list[str]]) -> None:
    ports, peers = some
    wanted = Wanted(ports, peers)
    by_table = {pair for table in tables(os.getpid()) for pair in wanted.match(table)}
    by_netlink = set(wanted.here())
    assert by_netlink == {pair for pair in by_table if pair[0] != b"0"}
    assert {one.port for _, one in by_netlink if one.listens} == set(ports)
    assert {one.peer for _, one in by_netlink if not one.listens} == set(peers)
    assert len(by_netlink) == len(ports) * 4


@pytest.mark.parametrize("number", [errno.EPROTONOSUPPORT, errno.ENOENT, errno.EIO])
def test_a_kernel_without_netlink_s_answer_is_read_by_its_tables(
    some: tuple[list[int], list[str]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ports, peers = some
    expected = set(Wanted(ports, peers).here())

    def fails(*_: object) -> Iterator[bytes]:
        raise OSError(number, "no")

    monkeypatch.setattr(sockets, "_dump", fails)
    assert {pair for pair in Wanted(ports, peers).here() if pair[0] != b"0"} == expected


def test_an_answer_that_breaks_off_is_not_taken_for_all(
    some: tuple[list[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports, peers = some
    expected = set(Wanted(ports, peers).here())
    real = sockets._dump

    def broken(family: int, states: int) -> Iterator[bytes]:
        yield next(real(family, states))[:20]

    monkeypatch.setattr(sockets, "_dump", broken)
    assert {pair for pair in Wanted(ports, peers).here() if pair[0] != b"0"} == expected


def test_a_kernel_that_lacks_the_protocol_has_not_said_that_there_is_no_socket() -> None:
    """It ends its answer as one that is whole ends, with an error number in it."""
    with pytest.raises(OSError, match="sock_diag"):
        list(sockets._dump(2, 1 << 10, protocol=99))
