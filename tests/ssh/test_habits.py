"""Every habit by every way in, and docs/ssh.md's table beside what came of it."""

from __future__ import annotations

import itertools
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet import connection
from deploytool.fleet.connection import dial
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.session import Session
from deploytool.fleet.sshconfig import Route, route
from deploytool.rehearsal.fleets.local import free_ports
from deploytool.stop import targets

from .bench import COMMANDS, HOST, IN, LEFT, TIMEOUT_S, WAYS, Bench, Servers, by_paramiko
from .habits import HABITS

pytestmark = pytest.mark.sshd

REFUSALS = (
    "host key refused|authentication refused|markers such as|RevokedHostKeys|"
    "Host key verification failed|Permission denied|Too many authentication|Connection closed"
)
"""Why a host may refuse a habit, or we the host: no other fault is taken for it."""
PAGE = Path(__file__).parents[2] / "docs" / "ssh.md"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("sshd"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def bench(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    def environment(name: str, value: str | None) -> None:
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)

    environment("SSH_AUTH_SOCK", None)
    monkeypatch.setattr(targets, "CONNECT_S", TIMEOUT_S)
    made = Bench(servers, tmp_path, environment)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("words", HABITS, ids=[made.__name__ for made, _ in HABITS.values()])
def test_every_command_reaches_the_same_hosts(bench: Bench, words: str) -> None:
    set_up, reached = HABITS[words]
    set_up(bench)
    path = bench.inventory()
    with ThreadPoolExecutor(len(WAYS)) as pool:
        said = dict(zip(WAYS, pool.map(lambda enter: enter(path), WAYS.values()), strict=True))
    assert {way: IN in text for way, text in said.items()} == dict.fromkeys(WAYS, reached), said
    assert not (bench.folder / LEFT).exists(), "a command of the configuration was run"
    assert reached or all(re.search(REFUSALS, text) for text in said.values()), said


def table() -> str:
    """The table as the habits have it: all ways agree, so a row is one answer."""
    rows = [
        f"| {words} | " + " | ".join("yes" if reached else "no" for _ in COMMANDS) + " |"
        for words, (_, reached) in HABITS.items()
    ]
    head = f"| habit | {' | '.join(COMMANDS)} |"
    return "\n".join([head, "|---" * (len(COMMANDS) + 1) + "|", *rows])


def test_the_page_has_the_table_of_the_suite() -> None:
    assert table() in PAGE.read_text(), f"docs/ssh.md should have:\n{table()}"


def test_every_way_is_one_of_a_command() -> None:
    assert {way for ways in COMMANDS.values() for way in ways} == set(WAYS)


def swallower(held: ExitStack) -> int:
    """A port of 127.0.0.1 that answers nobody: its queue is full, and never taken from."""
    listener = held.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(8):
        waiting = held.enter_context(socket.socket())
        waiting.setblocking(False)
        with suppress(BlockingIOError):
            waiting.connect(listener.getsockname())
    port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("first", ["refuses", "swallows"])
def test_the_next_address_of_a_name_is_tried_within_the_deadline(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as held:
        good = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        bad = free_ports(1)[0] if first == "refuses" else swallower(held)
        places = [("127.0.0.1", bad), good.getsockname()]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        with dial(Route("name", 22, "me", "name"), timeout_s=1.0) as line:
            assert line.getpeername() == good.getsockname()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found[:1])
        with pytest.raises(HostFault) as caught:
            dial(Route("name", 22, "me", "name"), timeout_s=0.3)
    kinds = {"refuses": FaultKind.UNREACHABLE, "swallows": FaultKind.TIMEOUT}
    assert caught.value.kind is kinds[first]


def test_a_name_that_has_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    with pytest.raises(HostFault, match=r"name gw\.test can't be resolved"):
        dial(Route("gw.test", 22, "me", "gw.test"), timeout_s=1.0)


def enter_all(bench: Bench, enter: Callable[[Path], str], count: int) -> list[str]:
    """What so many get that come in at once, each with an inventory of its own."""
    path = bench.inventory()
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(enter, [path] * count))


def test_many_hosts_behind_a_jump_host_cost_it_one_login(bench: Bench) -> None:
    """It takes two at a time (``MaxStartups``), and only one session of each (``MaxSessions``)."""
    narrow = bench.servers.get("narrow", "MaxStartups 2", "MaxSessions 1")
    bench.config = bench.block("jump", narrow)
    bench.config += bench.block("inside", bench.server, "ProxyJump jump")
    bench.address = "inside"
    bench.pin()
    bench.pin(narrow)
    together = threading.Barrier(8)

    def enter(path: Path) -> str:
        inventory = load_inventory(path)
        together.wait(30)
        session = Session(route(inventory, HOST), inventory.ssh.known_hosts, 10)
        try:
            together.wait(30)  # so that all are open at once
            return session.run("echo in", b"", deadline_s=30).output.decode()
        finally:
            session.close()

    assert enter_all(bench, enter, 8) == ["in\n"] * 8
    assert narrow.log().count("Accepted publickey") == 1
    assert by_paramiko(bench.inventory()) == IN
    assert narrow.log().count("Accepted publickey") == 2, "the last one closed it"


def test_a_jump_host_that_is_lost_is_reached_again(bench: Bench) -> None:
    set_up, _ = HABITS["`ProxyJump`, the jump host's key is pinned in the inventory's file"]
    set_up(bench)
    inventory = load_inventory(bench.inventory())
    way = route(inventory, HOST)
    lost = Session(way, inventory.ssh.known_hosts, 10)
    jump = lost._way._jump
    assert jump is not None
    jump.transport.sock.close()
    jump.transport.join(10)
    again = Session(way, inventory.ssh.known_hosts, 10)
    assert again.run("echo in", b"", deadline_s=30).output == b"in\n"
    lost.close()
    assert again.alive
    again.close()


def test_too_many_logins_at_once_are_paced_and_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer hangs up before its greeting, as sshd does at MaxStartups; then it has room."""
    room = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as front:

        def serve() -> None:
            with suppress(OSError):
                for number in itertools.count():
                    line, _ = front.accept()
                    if not room.is_set() or number < 3:
                        line.close()
                        continue
                    threading.Thread(target=relay, args=(line, bench.server.port)).start()

        room.set()
        threading.Thread(target=serve, daemon=True).start()
        port = front.getsockname()[1]
        bench.pin(name=f"[127.0.0.1]:{port}")
        bench.config = f"Host front\n HostName 127.0.0.1\n Port {port}\n"
        bench.address = "front"
        monkeypatch.setattr(connection, "_TURNED_AWAY_S", (0.01,) * 4)
        assert by_paramiko(bench.inventory()) == IN
        room.clear()
        assert "MaxStartups" in by_paramiko(bench.inventory())


def relay(line: socket.socket, port: int) -> None:
    """Passes everything on to a server, both ways, to the end."""
    other = socket.create_connection(("127.0.0.1", port))

    def pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)

    with line, other:
        back = threading.Thread(target=pass_on, args=(other, line))
        back.start()
        pass_on(line, other)
        back.join(TIMEOUT_S)
