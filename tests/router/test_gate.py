"""There is one way out. The code is walked, and the sockets are watched."""

from __future__ import annotations

import ast
import io
import json
import socket
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from router.gate import Gate
from router.loop import Loop
from router.venues import Venue

from .conftest import ROOT
from .harness import Rig

ENTER_TYPES = ("O", b"O", 79)
SENDS = {"send", "sendall", "sendto", "sendmsg", "sendfile", "send_fds"}
RUNS = {"eval", "exec", "system", "popen", "Popen", "run", "fork", "spawn", "__import__"}


@pytest.fixture(scope="module")
def trees(binaries: dict[str, Path]) -> dict[str, ast.Module]:
    """Today's build, as it is in the file."""
    with zipfile.ZipFile(io.BytesIO(binaries["2026.1"].read_bytes())) as archive:
        return {name: ast.parse(archive.read(name)) for name in archive.namelist() if ".py" in name}


def nodes(trees: dict[str, ast.Module]) -> Iterator[tuple[str, ast.AST]]:
    for name, tree in trees.items():
        for node in ast.walk(tree):
            yield name, node


def places(trees: dict[str, ast.Module], wanted: Callable[[ast.AST], bool]) -> set[str]:
    """Give the functions, as `file:function`, that have a node of the kind."""
    found = set()
    for name, tree in trees.items():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and any(map(wanted, ast.walk(function))):
                found.add(f"{name.removeprefix('router/')}:{function.name}")
    return found


def calls(*names: str) -> Callable[[ast.AST], bool]:
    def wanted(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        called = node.func
        return (isinstance(called, ast.Attribute) and called.attr in names) or (
            isinstance(called, ast.Name) and called.id in names
        )

    return wanted


def test_one_function_makes_enter_orders(trees: dict[str, ast.Module]) -> None:
    def enter(node: ast.AST) -> bool:
        return isinstance(node, ast.Constant) and node.value in ENTER_TYPES and node.value != ""

    # clients.py reads SoupBinTCP's logout packet `O`; take_back recognises orders to drop them.
    assert places(trees, enter) == {"gate.py:release", "clients.py:_packet", "venues.py:take_back"}


def test_one_function_sends_over_tcp(trees: dict[str, ast.Module]) -> None:
    assert places(trees, calls(*SENDS)) == {
        "soup.py:flush",  # the data sockets
        "control.py:_make",  # the answer to an operator
        "control_client.py:_exchange",  # the operator's side
    }


def test_only_the_risk_check_makes_tokens(trees: dict[str, ast.Module]) -> None:
    assert places(trees, calls("Cleared")) == {"risk.py:clear"}
    assert places(trees, calls("release")) == {"engine.py:_start", "engine.py:advance"}

    def issues(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "issued" and isinstance(
            node.ctx, ast.Store
        )  # fmt: skip

    assert places(trees, issues) == {"risk.py:__init__", "risk.py:clear", "gate.py:release"}


def test_who_touches_a_markets_buffer(trees: dict[str, ast.Module]) -> None:
    def writes(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.AugAssign)
            and isinstance(node.target, ast.Attribute)
            and node.target.attr == "out"
            and ast.unparse(node.target) in ("venue.out", "self.out")
        )

    assert places(trees, writes) == {
        "gate.py:release",
        "soup.py:_receive", "soup.py:tick",  # why a connection ends; heartbeats
        "venues.py:_log_in", "venues.py:cancel", "venues.py:end",  # login, Cancel Order, logout
    }  # fmt: skip


def test_nothing_runs_other_code(trees: dict[str, ast.Module]) -> None:
    allowed = {
        "__main__.py:exec_module",
        "cli.py:_serve",  # loop.run
        "recovery.py:recover",  # replay
        "signatures.py:find", "signatures.py:_found", "epochs.py:_sync",  # beside the loop
    }  # fmt: skip
    assert places(trees, calls(*RUNS)) <= allowed
    assert places(trees, calls("posix_spawn", "posix_spawnp")) == {"subprocesses.py:_spawn"}
    imported = {
        alias.name.partition(".")[0]
        for _, node in nodes(trees)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not imported & {"subprocess", "ctypes", "multiprocessing", "asyncio", "urllib", "http"}


def test_every_order_on_a_socket_came_through_the_gate(
    config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watch the bytes that a real socket carries, and the tokens that the gate lets pass."""
    passed: set[bytes] = set()
    seen: list[bytes] = []
    release = Gate.release

    def watched(self: Gate, cleared: Any) -> None:
        before = set(self.children)
        release(self, cleared)
        passed.update(set(self.children) - before)

    monkeypatch.setattr(Gate, "release", watched)
    with socket.create_server(("127.0.0.1", 0)) as server:
        rig = Rig(config(server.getsockname()[1]))
        loop = Loop()
        venue = Venue(rig.engine, loop, 0, "0")
        rig.engine.venues = [venue]
        venue.tick(0.0)
        loop.turn(0.0)
        conn, _ = server.accept()
        reader = threading.Thread(target=lambda: seen.extend(iter(lambda: conn.recv(4096), b"")))
        reader.start()
        conn.sendall(b"\0\x1fA" + b"S".rjust(10) + b"1".rjust(20))
        while not venue.up:
            venue.flush()
            loop.turn(0.0)
        for number in range(50):
            rig.order(f"A{number}", 250)
        rig.engine.turn(1.0)
        venue.flush()
        venue.end()
        reader.join(5)
        conn.close()
        loop._data.close()
        loop._urgent.close()
    data, at, tokens = b"".join(seen), 0, set()
    while at < len(data):
        (length,) = struct.unpack_from(">H", data, at)
        if data[at + 2 : at + 4] == b"UO":
            tokens.add(data[at + 4 : at + 18])
        at += 2 + length
    assert len(tokens) == 150
    assert tokens == passed


def test_the_old_build_does_go_round_it(binaries: dict[str, Path]) -> None:
    """The test above can see a second way out: there is one in the build of the incident."""
    with zipfile.ZipFile(io.BytesIO(binaries["2011.4"].read_bytes())) as archive:
        info = json.loads(archive.read("build.json"))
        tree = {"power_peg.py": ast.parse(archive.read("router/power_peg.py"))}
    assert info["rehearsal_only"]

    def writes(node: ast.AST) -> bool:
        return isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "venue.out"

    assert places(tree, writes) == {"power_peg.py:_send"}
    assert (ROOT / "router_binary" / "history" / "power_peg.py").is_file()
