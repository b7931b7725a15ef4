"""Real routers, built from this tree, as processes on loopback."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploytool.market.flow import GatewayClient, Router

ROOT = Path(__file__).resolve().parents[2]
CLIENT = GatewayClient("GATE01", "rehearse")
PRICES = {"ACME": 100_000, "GLOBEX": 250_000, "INITECH": 1_234_500}
_STOP_S = 15.0


def build(folder: Path) -> Path:
    """Build today's router; return the artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "router_binary/build.py", "2026.1", "--out", str(folder)],
        cwd=ROOT, check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    return folder / "router"


@dataclass
class RouterProcess:
    """One host: a state folder that stays, and a process that comes and goes."""

    artifact: Path
    folder: Path
    config: Path
    router: Router
    extra: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.artifact, "serve", "--state", self.folder / "state",
                    "--config", self.config, "--host", self.router.host,
                    "--listen", f"{self.router.address}:{self.router.port}", *self.extra,
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def drain(self) -> int:
        """SIGTERM, and wait: the exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(_STOP_S)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(_STOP_S)
            self.process = None

    def status(self) -> dict[str, Any]:
        answer = subprocess.run(
            [self.artifact, "status", "--json", "--state", self.folder / "state"],
            check=True, capture_output=True, timeout=10,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(answer.stdout)
        return told

    def flag(self, verb: str, name: str, sent: str = "") -> dict[str, Any]:
        """Tell it something about a flag, as an inventory's command does."""
        command = [str(self.artifact), "flag", verb, name, "--state", str(self.folder / "state")]
        answer = subprocess.run(
            command, input=sent, check=True, capture_output=True, text=True, timeout=10
        )
        told: dict[str, Any] = json.loads(answer.stdout)
        return told

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


@contextmanager
def fleet(
    artifact: Path,
    folder: Path,
    venues: dict[str, str],
    count: int = 8,
    extra: tuple[str, ...] = (),
) -> Iterator[list[RouterProcess]]:
    """Run routers, every one with the same configuration, and stop them by PID."""
    ports = _free_ports(count)
    routers = [Router(f"router{n}", "127.0.0.1", ports[n - 1], f"RTR{n:03d}") for n in
               range(1, count + 1)]  # fmt: skip
    config = folder / "router.json"
    config.write_text(json.dumps(_config(routers, venues)))
    with ExitStack() as stack:
        processes = []
        for router in routers:
            home = folder / router.host
            (home / "state").mkdir(parents=True)
            process = RouterProcess(artifact, home, config, router, extra)
            stack.callback(process.kill)
            process.start()
            processes.append(process)
        yield processes


def release_of(artifact: Path) -> str:
    return hashlib.sha256(artifact.read_bytes()).hexdigest()


def settled(processes: list[RouterProcess], deadline_s: float = 10.0) -> dict[str, dict[str, Any]]:
    """Return every router's status, once nothing of it is open or in doubt (or the deadline)."""
    end = time.monotonic() + deadline_s
    while True:
        told = {process.router.host: process.status() for process in processes}
        left = sum(s["counters"]["open_parents"] + s["counters"]["in_doubt"] for s in told.values())
        if not left or time.monotonic() > end:
            return told
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def _config(routers: list[Router], venues: dict[str, str]) -> dict[str, Any]:
    many = 10**9
    return {
        "schema": 1,
        "firm": "DEPL",
        "hosts": {r.host: {"login": r.login, "code": f"R{n}"} for n, r in enumerate(routers, 1)},
        "clients": {CLIENT.user: hashlib.sha256(CLIENT.password.encode()).hexdigest()},
        "venues": [{"name": name, "address": at, "retail": True} for name, at in venues.items()],
        "symbols": {
            name: {"reference_price": price, "collar_bp": 1000, "max_position": 10_000_000}
            for name, price in PRICES.items()
        },
        "strategy": {"slice_qty": 100, "max_slices": 10},
        "limits": {
            "order_qty": 10_000, "order_value": 5_000_000_000, "account_position": 10_000_000,
            "gross_notional": 10**14, "messages_per_s": 200_000, "children_per_parent": 20,
            "parents": 1_000_000,
        },
        "breakers": {
            "orders_per_s": 200_000, "position_value": 10**14, "reject_percent": 50,
            "reject_min": 100, "children_per_parent": 20, "repeated_executions": 1,
            "out_per_in": 25, "out_per_in_min": many,
        },
        "drain_s": 5,
        "flags": {"commit_s": 5},
    }  # fmt: skip
