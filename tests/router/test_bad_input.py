"""Whatever comes in: a reason or a closed connection, never a crash, never an order."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from router.soup import BadInputError

from .conftest import Router, base_config
from .harness import Rig, check
from .peers import NEW, Client, Market, login, new_order, packet

Configure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def pair(
    binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Router, Market]]:
    """One router and one market, for all the garbage of this file."""
    with Market("rest") as market:
        router = Router(binaries["2026.1"], tmp_path_factory.mktemp("garbage"))
        document = base_config(market.port)
        document["limits"]["parents"] = 4 * 10**6
        router.configure(document)
        router.start()
        router.until_up()
        yield router, market
        assert router.process is not None
        assert router.process.poll() is None, router.stderr()
        assert router.stop() == 0
        assert router.stderr().count("\n") == 1, "the line that every start says, and no traceback"


def alive(router: Router, market: Market) -> None:
    """A good order still passes, and is the only one that does."""
    before = len(market.orders)
    name = f"OK{time.monotonic_ns() % 10**12}"
    with Client(("127.0.0.1", router.port), "GATE02") as client:
        client.send(new_order(name, 100), packet(b"U", b"F" + name.encode().ljust(16)))
        assert client.until_done(name)[-1].cxl == 100
    assert len(market.orders) == before + 1


def closed(sock: socket.socket) -> bytes:
    """Read to the end of the connection."""
    found = b""
    with contextlib.suppress(OSError):
        while data := sock.recv(65536):
            found += data
    return found


GOOD = new_order("GOOD")
BODY = GOOD[3:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\0\0", "length 0"),
        (b"\xff\xff" + b"U" * 200, "length 65535"),
        (b"\0\x81U", "length 129"),
        (packet(b"U"), "message type 0"),
        (packet(b"U", b"D"), "message type 68"),
        (packet(b"U", BODY[:-1]), "message type 68 of length 36"),
        (packet(b"U", BODY + b"\0"), "message type 68 of length 38"),
        (packet(b"U", b"Q" + BODY[1:]), "message type 81"),
        (packet(b"U", b"O" + bytes(48)), "message type 79"),
        (packet(b"S", BODY), "packet b'S'"),
        (packet(b"X"), "packet b'X'"),
        (packet(b"R", b"x"), "packet b'R'"),
        (packet(b"A", b" " * 30), "packet b'A'"),
        (login("GATE01", "password"), "packet b'L'"),
        (b"GET / HTTP/1.1\r\n\r\n", "length"),
        (json.dumps({"command": "halt"}).encode(), "length"),
    ],
)
def test_garbage_after_the_login_closes_with_a_reason(
    pair: tuple[Router, Market], data: bytes, says: str
) -> None:
    router, market = pair
    before = len(market.orders)
    with Client(("127.0.0.1", router.port)) as client:
        client.send(data, GOOD)
        assert says in closed(client.sock).decode("latin-1")
    assert len(market.orders) == before, "what follows garbage isn't read"
    alive(router, market)


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        packet(b"U", BODY),
        login("GATE01", "wrong"),
        login("NOBODY", "password"),
        login("", ""),
        login("GATE01", "password", session="ELSEWHERE"),
        login("GATE01", "password", sequence="999"),
        login("GATE01", "password", sequence="-1"),
        login("GATE01", "password", sequence="x"),
        login("GATE01", "password")[:-1] + b"",
        packet(b"L", b"\xff" * 46),
        packet(b"O"),
        packet(b"R"),
    ],
)
def test_nothing_works_before_a_good_login(pair: tuple[Router, Market], data: bytes) -> None:
    router, market = pair
    before = len(market.orders)
    with socket.create_connection(("127.0.0.1", router.port), 5) as sock:
        sock.sendall(data + GOOD)
        answer = closed(sock)
    assert not answer.startswith(b"\0\x1fA")
    assert len(market.orders) == before
    alive(router, market)


def test_one_byte_at_a_time(pair: tuple[Router, Market]) -> None:
    router, _ = pair
    with Client(("127.0.0.1", router.port)) as client:
        for byte in new_order("SLOW", 0) + new_order("SLOWER", 0):
            client.send(bytes([byte]))
        assert [r.reason for r in client.reports(2)] == [3, 3]


def test_who_does_not_log_in_is_sent_away(pair: tuple[Router, Market]) -> None:
    router, _ = pair
    with socket.create_connection(("127.0.0.1", router.port), 10) as sock:
        began = time.monotonic()
        assert closed(sock) == b""
        assert 4 < time.monotonic() - began < 8


def test_connections_are_bounded(pair: tuple[Router, Market]) -> None:
    router, market = pair
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(socket.create_connection(("127.0.0.1", router.port), 5))
        assert router.status()["trading_state"] == "ACTIVE"
        assert router.process is not None
        assert len(list(Path(f"/proc/{router.process.pid}/fd").iterdir())) < 90
    router.until(lambda _: len(list(Path(f"/proc/{router.process.pid}/fd").iterdir())) < 25)  # type: ignore[union-attr]
    alive(router, market)


bodies = st.one_of(
    st.binary(max_size=140),
    st.binary(min_size=37, max_size=37),
    st.builds(
        lambda *fields: NEW.pack(b"D", *fields),
        st.binary(max_size=16),
        st.sampled_from([b"B", b"S", b"X", b"\0"]),
        st.integers(0, 2**32 - 1),
        st.sampled_from([b"ACME    ", b"acme    ", b"", b"\xff" * 8]),
        st.integers(0, 2**32 - 1),
        st.sampled_from([b"0", b"3", b"9"]),
        st.integers(0, 65535),
    ),
)
frames = st.one_of(
    st.binary(max_size=200),
    st.builds(packet, st.sampled_from([b"U", b"R", b"S", b"O", b"L", b"+"]), bodies),
    st.builds(lambda n, body: struct.pack(">H", n) + body, st.integers(0, 65535), bodies),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(frames, max_size=6), st.booleans())
def test_fuzz_the_clients_door(
    pair: tuple[Router, Market], found: list[bytes], logged_in: bool
) -> None:
    router, market = pair
    before = len(market.orders)
    if logged_in:
        client = Client(("127.0.0.1", router.port))
        sock = client.sock
    else:
        sock = socket.create_connection(("127.0.0.1", router.port), 5)
    with sock:
        with contextlib.suppress(OSError):
            sock.sendall(b"".join(found))
        sock.settimeout(0.01)
        closed(sock)
    status = router.status()
    assert status["trading_state"] == "ACTIVE"
    for token in sorted(market.orders)[before:]:  # only what is an order in every field
        order = market.orders[token]
        assert (order.symbol, order.side in "BS", order.qty <= 10_000) == ("ACME", True, True)
        assert 90_000 <= order.price <= 110_000


@pytest.mark.parametrize(
    "data",
    [
        b"\n", b"{\n", b"[]\n", b"null\n", b'"halt"\n', b'{"command": 7}\n', b'{"command": "no"}\n',
        b'{"command": "resume"}\n', b'{"command": "resume", "latch": 7}\n', b"\xff\xfe\n",
        b'{"command": "flag"}\n', b'{"command": "flag", "action": "arm", "flag": "ISO"}\n',
        b'{"command": "flag", "action": "prepare", "flag": ["x"]}\n', b"[" * 60_000 + b"\n",
        b'{"command": "orders", "token": "\\u2603"}\n', b"x" * 70_000,
    ],
)  # fmt: skip
def test_the_control_socket_takes_anything(pair: tuple[Router, Market], data: bytes) -> None:
    router, _ = pair
    folder = os.open(router.state, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(f"/proc/self/fd/{folder}/control.sock")
        with contextlib.suppress(OSError):
            sock.sendall(data)
        answer = closed(sock)
    os.close(folder)
    if b"snow" not in data and b"orders" not in data:
        assert not answer or json.loads(answer)["ok"] is False
    assert router.status()["trading_state"] == "ACTIVE"


def test_a_silent_caller_does_not_stand_in_the_way(pair: tuple[Router, Market]) -> None:
    router, _ = pair
    folder = os.open(router.state, os.O_RDONLY)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(f"/proc/self/fd/{folder}/control.sock")
        assert router.status()["trading_state"] == "ACTIVE"
    os.close(folder)


# -- a market that misbehaves ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        packet(b"A", b"S1".rjust(10) + b"2".rjust(20)),  # a gap in the sequence
        packet(b"A", b"S1".rjust(10) + b"x".rjust(20)),
        packet(b"A", b" " * 10 + b"1".rjust(20)),
        packet(b"A", b"S1"),
        packet(b"J", b"A"),
        packet(b"S", b"S" + bytes(9)),  # data before the login is accepted
        packet(b"H"),
        b"\0\0",
        b"\xff\xff" * 100,
        packet(b"A", b"S1".rjust(10) + b"1".rjust(20)) + packet(b"S", b"E" + bytes(20)),
        packet(b"A", b"S1".rjust(10) + b"1".rjust(20)) + packet(b"S", b"?" + bytes(39)),
        packet(b"A", b"S1".rjust(10) + b"1".rjust(20)) + packet(b"Z"),
        b"",
    ],
)
def test_a_market_that_talks_nonsense_is_left(
    router: Router, config: Configure, answer: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        router.configure(config(server.getsockname()[1]))
        router.start()
        conn, _ = server.accept()
        with conn:
            assert conn.recv(100)[2:3] == b"L"
            conn.sendall(answer)
            conn.settimeout(10)
            closed(conn)
        status = router.until(lambda status: not status["venues"][0]["up"])
        assert status["trading_state"] == "ACTIVE"
        assert status["counters"]["children"] == 0
        again, _ = server.accept()
        again.close()


messages = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda kind, body: kind + body,
        st.sampled_from([b"A", b"E", b"C", b"J", b"B", b"S", b"P", b"I"]),
        st.binary(min_size=9, max_size=66),
    ),
    st.builds(
        lambda qty, price, match: struct.pack(
            ">cQ14sIIcQ", b"E", 1, b"R1S00000000001", qty, price, b"A", match
        ),
        st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1),
    ),
    st.builds(
        lambda qty: struct.pack(">cQ14sIc", b"C", 1, b"R1S00000000001", qty, b"U"),
        st.integers(0, 2**32 - 1),
    ),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(messages, max_size=8))
def test_fuzz_the_markets_door(found: list[bytes]) -> None:
    """In process: whatever a market says, shares add up, and only BadInputError is raised."""
    rig = Rig(base_config(1))
    venue = rig.engine.venues[0]
    venue._logged_in = True
    rig.order("A", 300)
    rig.sent()
    with contextlib.suppress(BadInputError):
        venue._on_bytes(b"".join(packet(b"S", message) for message in found))
    check(rig, {token: child.leaves for token, child in rig.engine.gate.children.items()})
    rig.engine.turn(1.0)
    assert rig.record.buffer == b""


# -- every flag word -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    # 2012.8 offers its four words with bit 3 to the retail venue first, then to the market.
    ("version", "obeyed", "orders"),
    [("2026.1", 0b11, 4), ("2026.0", 0b11, 4), ("2012.8", 0b1011, 12), ("2011.4", 0b1011, 8)],
)
def test_all_65536_words_through_the_socket(
    binaries: dict[str, Path], tmp_path: Path, version: str, obeyed: int, orders: int
) -> None:
    with Market("rest") as market:
        router = Router(binaries[version], tmp_path)
        document = base_config(market.port)
        router.configure(document)
        router.extra = ["--rehearsal"]
        router.start()
        try:
            router.until_up()
            with Client(("127.0.0.1", router.port)) as client:
                taken = set()
                for start in range(0, 65536, 4096):
                    client.send(*(new_order(f"W{w}", 100, flags=w)
                                  for w in range(start, start + 4096)))  # fmt: skip
                    for report in client.reports(4096):
                        if report.kind == "0":
                            taken.add(int(report.clordid[1:]))
                        else:
                            assert report.reason in (7, 8, 9)
            assert taken == {word for word in range(65536) if not word & ~obeyed}
            status = router.until(lambda _: len(market.orders) >= orders)
            assert len(market.orders) == orders
            assert status["counters"]["flag_rejects"] == 65536 - len(taken)
        finally:
            router.kill()


def test_what_bit_3_did_on_the_eighth_server(binaries: dict[str, Path], tmp_path: Path) -> None:
    """One parent of 100 shares, one old build: it never ends. The same parent is refused today."""
    with Market() as market:
        router = Router(binaries["2011.4"], tmp_path)
        router.configure(base_config(market.port))
        router.extra = ["--rehearsal"]
        router.start()
        try:
            router.until_up()
            with Client(("127.0.0.1", router.port)) as client:
                client.send(new_order("RETAIL", 100, flags=8))
                seen = client.reports(40)
            assert max(report.cum for report in seen) > 1000
            status = router.status()
            assert status["trading_state"] == "ACTIVE", "nothing watched"
            assert status["positions"]["ACME"]["position"] > 1000
        finally:
            router.kill()
