"""Every habit by every way in, and docs/ssh.md's table beside what came of it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.connection import dial
from deploytool.fleet.sshconfig import Route
from deploytool.rehearsal.fleets.local import free_ports

from .bench import COMMANDS, IN, WAYS, Bench, Servers
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
