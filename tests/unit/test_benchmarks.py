"""What the benchmarks measure with: ports that are free, a link that delays and counts."""

from __future__ import annotations

import importlib
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deploytool.rehearsal.fleets.model import HostRecord

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of that folder, and forgets all of them afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


SCRIPTS_ALONE = {"router", "service"}
"""One has the name of a package that it imports; the other is what is deployed."""


@pytest.mark.parametrize("name", sorted({p.stem for p in FOLDER.glob("*.py")} - SCRIPTS_ALONE))
def test_each_can_be_imported(name: str, benchmark: Any) -> None:
    assert benchmark(name).__doc__


def test_no_port_is_given_to_two(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 hosts the service's ports are not listened on yet, and look free."""
    fleet = benchmark("fleet")
    hosts = tuple(HostRecord(f"h{n}", "127.0.0.1", n, f"127.0.0.1:{900 + n}") for n in range(64))
    monkeypatch.setattr(fleet, "free_ports", lambda count: list(range(900, 900 + count)))
    ports = fleet._ports_beside(hosts)
    assert set(ports) == {host.name for host in hosts}
    assert len(set(ports.values())) == 64
    assert not set(ports.values()) & {900 + n for n in range(64)}


def test_a_link_delays_and_counts_round_trips(benchmark: Any) -> None:
    slow_links = benchmark("link").slow_links

    def serve(listener: socket.socket) -> None:
        with closing(listener.accept()[0]) as peer:
            peer.sendall(b"hello")
            while data := peer.recv(16):
                peer.sendall(data.upper())

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        with slow_links([listener.getsockname()], 0.001) as (link,):
            with closing(socket.create_connection(("127.0.0.1", link.port), 10)) as client:
                assert client.recv(16) == b"hello"
                for _ in range(3):
                    client.sendall(b"a")
                    assert client.recv(16) == b"A"
            thread.join(10)
        assert not thread.is_alive()
    counted = link.counted
    assert (counted.connections, counted.turns) == (1, 3)
    assert (counted.up, counted.down) == (3, 8)


def test_a_section_takes_the_place_of_its_own(benchmark: Any, tmp_path: Path) -> None:
    page = benchmark("page")
    path = tmp_path / "RESULTS.md"
    path.write_text("# head\n\n## A\nold\n\n## B\nkept\n")
    page.put_section("## A\nnew\n", path)
    page.put_section("## C\nadded\n", path)
    assert path.read_text() == "# head\n\n## A\nnew\n\n## B\nkept\n\n## C\nadded\n"
