"""Routers to test: built once a session, started as real processes."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "router_binary"))

BUILD = ROOT / "router_binary" / "build.py"
PASSWORD = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"


def base_config(*ports: int) -> dict[str, Any]:
    """Give a configuration with room for everything."""
    return {
        "schema": 1,
        "firm": "TEST",
        "hosts": {f"router{n}": {"login": f"RTR00{n}", "code": f"R{n}"} for n in range(1, 9)},
        "clients": {"GATE01": PASSWORD, "GATE02": PASSWORD},
        "venues": [
            {"name": f"X{i}", "address": f"127.0.0.1:{port}", "retail": i == 0}
            for i, port in enumerate(ports)
        ],
        "symbols": {
            "ACME": {"reference_price": 100_000, "collar_bp": 1000, "max_position": 1_000_000},
            "EMCA": {"reference_price": 50_000, "collar_bp": 500, "max_position": 1_000},
        },
        "strategy": {"slice_qty": 100, "max_slices": 10},
        "limits": {
            "order_qty": 10_000, "order_value": 10**9, "account_position": 10**7,
            "gross_notional": 10**13, "messages_per_s": 10**6, "children_per_parent": 20,
            "parents": 10**6,
        },
        "breakers": {
            "orders_per_s": 10**6, "position_value": 10**13, "reject_percent": 50,
            "reject_min": 20, "children_per_parent": 20, "repeated_executions": 1,
            "out_per_in": 25, "out_per_in_min": 1000,
        },
        "drain_s": 3,
        "flags": {"commit_s": 1},
    }  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def build(version: str, out: Path, source: Path | None = None, **env: str) -> dict[str, Any]:
    command = [sys.executable, str(BUILD), version, "--out", str(out), "--json"]
    if source is not None:
        command += ["--source", str(source)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stderr
    info: dict[str, Any] = json.loads(done.stdout)
    return info


class Router:
    """One `router serve`, and its command line."""

    def __init__(self, binary: Path, folder: Path, host: str = "router1") -> None:
        self.binary = binary
        self.state = folder / "state" / host
        self.config = folder / f"{host}.json"
        self.host = host
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._errors = folder / f"{host}-{self.port}.err"
        self.extra: list[str] = []

    def configure(self, config: dict[str, Any]) -> None:
        self.config.write_text(json.dumps(config))

    def start(self, *, wait: bool = True) -> None:
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--state", self.state, "--config", self.config,
                 "--listen", f"127.0.0.1:{self.port}", "--host", self.host, *self.extra],
                stderr=errors,
            )  # fmt: skip
        if wait:
            self.until(bool)

    def run(self, *arguments: str, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
        command = [str(self.binary), *arguments, "--state", str(self.state)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)

    def connect(self) -> socket.socket:
        """Open the control socket, as a peer written from the page would."""
        folder = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(5)
            sock.connect(f"/proc/self/fd/{folder}/control.sock")
        except OSError:
            sock.close()
            raise
        finally:
            os.close(folder)
        return sock

    def ask(self, **request: Any) -> dict[str, Any]:
        """Use the control socket without a second Python."""
        with self.connect() as sock:
            sock.sendall(json.dumps(request).encode() + b"\n")
            return self.answer(sock)

    @staticmethod
    def answer(sock: socket.socket) -> dict[str, Any]:
        """Read an answer to its end."""
        data = b""
        while piece := sock.recv(65536):
            data += piece
        answer: dict[str, Any] = json.loads(data)
        return answer

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(command="status")
        return found

    def until(
        self, condition: Callable[[dict[str, Any]], object], timeout_s: float = 30
    ) -> dict[str, Any]:
        """Wait for a status that fulfils a condition."""
        end = time.monotonic() + timeout_s
        status: dict[str, Any] = {}
        while time.monotonic() < end:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(self.stderr())
            try:
                status = self.status()
            except OSError:
                status = {}
            if status and condition(status):
                return status
            time.sleep(0.01)
        raise AssertionError(f"not in {timeout_s} s: {status}")

    def until_up(self) -> dict[str, Any]:
        return self.until(lambda status: all(venue["up"] for venue in status["venues"]))

    def stderr(self) -> str:
        return self._errors.read_text()

    def stop(self) -> int:
        """Drain; give the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All builds, history's too."""
    found = {}
    for version in ("2026.1", "2026.0", "2012.8", "2011.4"):
        out = tmp_path_factory.mktemp(f"build-{version}")
        build(version, out)
        found[version] = out / "router"
    return found


@pytest.fixture
def config() -> Callable[..., dict[str, Any]]:
    return lambda *ports: copy.deepcopy(base_config(*ports))


@pytest.fixture
def router(binaries: dict[str, Path], tmp_path: Path) -> Iterator[Router]:
    """Today's build, not started."""
    made = Router(binaries["2026.1"], tmp_path)
    yield made
    made.kill()
