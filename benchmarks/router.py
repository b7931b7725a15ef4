"""How fast the router is: `python benchmarks/router.py [--seconds S] [--json]`.

Eight routers run in one process on one core, with every check and the order record on;
markets and clients run in another process, over real sockets. A transaction is one order
or execution message in or out: a parent of three children is fourteen of them.
"""

import argparse
import gc
import json
import multiprocessing
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from page import put_section

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "router_binary"))

from router.engine import Engine  # noqa: E402
from router.flags import Flags  # noqa: E402
from router.latch import Latch  # noqa: E402
from router.loop import Loop  # noqa: E402
from router.record import Record  # noqa: E402
from router.release import Release  # noqa: E402
from router.server import Server  # noqa: E402
from router.venues import Venue  # noqa: E402

from router import config as configs  # noqa: E402 - the path is set above

HOSTS = 8
WINDOW = 64  # parents open at a router
PER_PARENT = 14
HEADLINE = 3_300_000_000 / 6.5 / 3600
NEW = struct.Struct(">HcB16scI8sIcH")
ACCEPTED_HEAD = b"\0\x43SA" + bytes(8)
EXECUTED_HEAD = b"\0\x29SE" + bytes(8)
U64 = struct.Struct(">Q")
PRICES = 8_000  # a parent's price is its name, so that its first child can be timed
BASE_PRICE = 100_000


def config(port: int) -> dict[str, Any]:
    """Give a configuration in which every check is on and none is reached."""
    return {
        "schema": 1, "firm": "BNCH",
        "hosts": {f"router{n}": {"login": f"RTR00{n}", "code": f"R{n}"} for n in range(1, 9)},
        "clients": {
            "GATE01": "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
        },
        "venues": [{"name": f"X{i}", "address": f"127.0.0.1:{port}"} for i in range(1)],
        "symbols": {
            "ACME": {"reference_price": 100_000, "collar_bp": 1000, "max_position": 10**9}
        },
        "strategy": {"slice_qty": 100, "max_slices": 10},
        "limits": {
            "order_qty": 10_000, "order_value": 10**10, "account_position": 10**9,
            "gross_notional": 10**15, "messages_per_s": 10**7, "children_per_parent": 20,
            "parents": 10**8,
        },
        "breakers": {
            "orders_per_s": 10**7, "position_value": 10**15, "reject_percent": 50,
            "reject_min": 1000, "children_per_parent": 20, "repeated_executions": 1,
            "out_per_in": 25, "out_per_in_min": 1000,
        },
        "drain_s": 1, "flags": {"commit_s": 5},
    }  # fmt: skip


def release(folder: Path) -> Release:
    """Build today's router, to run what is shipped."""
    command = [sys.executable, str(ROOT / "router_binary" / "build.py"), "2026.1", "--out"]
    done = subprocess.run(
        [*command, str(folder), "--json"], check=True, capture_output=True, text=True, timeout=60
    )
    info = json.loads(done.stdout)
    return Release(info["sha256"], str(folder / "router"), -1, info)


def fleet(folder: Path, port: int, loaded: Release, ready: Any, cpu: Any) -> None:  # noqa: ANN401 - a connection and a shared number of multiprocessing
    """Run eight routers in this process, on one core, until told to stop."""
    pin(0)
    loop = Loop()
    servers = []
    for number in range(1, HOSTS + 1):
        host = f"router{number}"
        found = configs.parse(config(port), host)
        servers.append(Server(loop, loaded, found, folder / host, host, "127.0.0.1:0"))
    ready.send([server._listener.getsockname()[1] for server in servers])

    def tick(_now_s: float) -> None:
        cpu.value = time.process_time()
        if ready.poll():
            loop.stopping = True

    loop.ticks.append(tick)
    gc.freeze()
    gc.disable()
    loop.run()


def pin(core: int) -> None:
    """Stay on one core, where there are enough."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


class Peer:
    """All markets and all clients, on the other core."""

    def __init__(self, listener: socket.socket, ports: list[int]) -> None:
        self.poll = select.epoll()
        self.listener = listener
        self.match = 0
        self.number = 0
        self.done = 0
        self.rejected = 0
        self.reports = 0
        self.sent_at = [0.0] * PRICES
        self.latencies: list[float] = []
        self.last_order: dict[int, float] = {}
        self.inbox: dict[int, bytes] = {}
        self.socks: dict[int, socket.socket] = {}
        self.markets: set[int] = set()
        self.login_of: dict[int, str] = {}
        for _ in range(HOSTS):
            conn, _ = listener.accept()
            self._add(conn, market=True)
        self.clients = [socket.create_connection(("127.0.0.1", port), 5) for port in ports]
        for sock in self.clients:
            text = f"{'GATE01':<6}{'password':<10}{'':>10}{1:>20}"
            sock.sendall(struct.pack(">Hc", 47, b"L") + text.encode())
            self._add(sock, market=False)

    def _add(self, sock: socket.socket, *, market: bool) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socks[sock.fileno()] = sock
        self.inbox[sock.fileno()] = b""
        self.poll.register(sock.fileno(), select.EPOLLIN)
        if market:
            self.markets.add(sock.fileno())

    @property
    def transactions(self) -> int:
        """What was counted here: parents, their reports, children and both answers to each."""
        return self.number + self.reports + 3 * self.match

    def parents(self, count: int) -> bytes:
        """Make parents of three children."""
        found = []
        for _ in range(count):
            self.number += 1
            number = self.number
            price = BASE_PRICE - PRICES // 2 + number % PRICES
            found.append(NEW.pack(
                38, b"U", 68, b"B%015d" % number, b"B" if number & 1 else b"S", 300,
                b"ACME    ", price, b"0", 0,
            ))  # fmt: skip
        return b"".join(found)

    def serve(self, timeout_s: float) -> list[tuple[int, int]]:
        """Answer what is there; give (client, parents that ended)."""
        ended = []
        for fd, _ in self.poll.poll(timeout_s):
            data = self.inbox[fd] + self.socks[fd].recv(1 << 18)
            if fd in self.markets:
                self.inbox[fd] = self._market(fd, data)
            else:
                rest, done = self._client(data)
                self.inbox[fd] = rest
                ended.append((fd, done))
        return ended

    def _market(self, fd: int, data: bytes) -> bytes:
        at, end, out, match = 0, len(data), [], self.match
        now = time.perf_counter()
        while at + 3 <= end:
            after = at + 2 + (data[at] << 8 | data[at + 1])
            if after > end:
                break
            kind = data[at + 3] if after > at + 3 else 0
            if data[at + 2] == 85 and kind == 79:
                match += 1
                token = data[at + 4 : at + 18]
                slot = int.from_bytes(data[at + 31 : at + 35], "big") + PRICES // 2 - BASE_PRICE
                if self.sent_at[slot]:
                    self.latencies.append(now - self.sent_at[slot])
                    self.sent_at[slot] = 0.0
                out += (
                    ACCEPTED_HEAD, token, data[at + 18 : at + 44], U64.pack(match),
                    data[at + 44 : at + 51], b"L ", EXECUTED_HEAD, token,
                    data[at + 19 : at + 23], data[at + 31 : at + 35], b"A", U64.pack(match),
                )  # fmt: skip
                self.last_order[fd] = now
            elif data[at + 2] == 76:
                self.login_of[fd] = data[at + 3 : at + 9].decode()
                out.append(b"\0\x1fA" + b"S1".rjust(10) + b"1".rjust(20))
            at = after
        self.match = match
        if out:
            self._send(fd, b"".join(out))
        return data[at:]

    def _send(self, fd: int, data: bytes) -> None:
        self.socks[fd].sendall(data)

    def _client(self, data: bytes) -> tuple[bytes, int]:
        at, end, done = 0, len(data), 0
        while at + 3 <= end:
            after = at + 2 + (data[at] << 8 | data[at + 1])
            if after > end:
                break
            if data[at + 2] == 83 and data[at + 3] == 56:
                self.reports += 1
                status = data[at + 21]
                done += status in (50, 52, 56)
                self.rejected += status == 56
            at = after
        self.done += done
        return data[at:], done


def settle(peer: Peer, until_s: float, full: bool) -> None:  # noqa: FBT001 - the two loads there are
    """Keep the routers busy until a moment."""
    while time.perf_counter() < until_s:
        for fd, done in peer.serve(0.01):
            if full and done:
                peer._send(fd, peer.parents(done))


def throughput(peer: Peer, cpu: Any, seconds: float) -> dict[str, float]:  # noqa: ANN401 - a shared number
    """Full load: each parent that ends makes room for the next."""
    for sock in peer.clients:
        sock.sendall(peer.parents(WINDOW))
    settle(peer, time.perf_counter() + 1, full=True)
    before, began, used = peer.transactions, time.perf_counter(), cpu.value
    settle(peer, began + seconds, full=True)
    took = time.perf_counter() - began
    rate = peer.transactions - before
    if peer.rejected:
        raise RuntimeError(f"{peer.rejected} parents were rejected: this measures nothing")
    return {"per_s": rate / took, "per_cpu_s": rate / max(0.001, cpu.value - used)}


def halts(peer: Peer, folder: Path, rounds: int) -> list[float]:
    """Under full load: halt one router after the other; time its last child."""
    found = []
    for number in range(rounds):
        host = f"router{number % HOSTS + 1}"
        login = f"RTR00{number % HOSTS + 1}"
        (fd,) = [fd for fd, name in peer.login_of.items() if name == login]
        settle(peer, time.perf_counter() + 0.15, full=True)
        peer.last_order[fd] = 0.0
        began = time.perf_counter()
        sock = ask_later(folder / host, {"command": "halt", "reason": "bench"})
        settle(peer, began + 0.25, full=True)
        found.append(max(0.0, peer.last_order[fd] - began))
        latch = json.loads(sock.recv(65536))["latch"]
        sock.close()
        sock = ask_later(folder / host, {"command": "resume", "latch": latch})
        settle(peer, time.perf_counter() + 0.05, full=True)
        sock.close()
    return found


def ask_later(folder: Path, request: dict[str, Any]) -> socket.socket:
    """Send a request; the answer is read by who has time for it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(folder / "control.sock"))
    sock.sendall(json.dumps(request).encode() + b"\n")
    return sock


def latency(peer: Peer, per_s: float, seconds: float) -> list[float]:
    """A steady load, parents one at a time: from parent in to first child out."""
    settle(peer, time.perf_counter() + 0.5, full=False)
    peer.latencies.clear()
    began = time.perf_counter()
    sent, turn = 0, 0
    while (now := time.perf_counter()) < began + seconds:
        if sent < (now - began) * per_s:
            turn += 1
            packet = peer.parents(1)
            peer.sent_at[peer.number % PRICES] = time.perf_counter()
            peer.clients[turn % HOSTS].sendall(packet)
            sent += 1
        peer.serve(0)
    return peer.latencies


def in_process(loaded: Release, folder: Path, parents: int) -> dict[str, float]:
    """Check and encode children without sockets: children a second, in batches of 1,000 parents."""
    flags = Flags(loaded.flags, 1)
    record = Record(folder / "orders-00000001.rec")
    engine = Engine(configs.parse(config(1), "router1"), flags, Latch(folder), record)
    venue = Venue(engine, Loop(), 0, "")
    venue.up = True
    engine.venues = [venue]
    engine.venue_changed()
    user = engine.users["GATE01"]
    bodies = [
        struct.pack(">c16scI8sIcH", b"D", b"B%015d" % n, b"B" if n & 1 else b"S", 300,
                    b"ACME    ", 100_000, b"0", 0)
        for n in range(parents)
    ]  # fmt: skip
    gc.freeze()
    gc.disable()
    rates = []
    batch = 1000
    for start in range(0, parents, batch):
        user.out = bytearray()
        began = time.process_time()
        for body in bodies[start : start + batch]:
            engine.new_order(user, body)
        rates.append(3 * batch / (time.process_time() - began))
        venue.out.clear()
        engine.turn(time.monotonic())
    gc.enable()
    return {"in_process_per_s": statistics.median(rates), "in_process_best_per_s": max(rates)}


def percentile(values: list[float], share: float) -> float:
    """Give a percentile in milliseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else -1.0


def measure(seconds: float, rounds: int) -> dict[str, float]:
    """Run everything once."""
    with tempfile.TemporaryDirectory(prefix="router-bench-") as name:
        folder = Path(name)
        loaded = release(folder)
        (folder / "alone").mkdir()
        context = multiprocessing.get_context("fork")
        found: dict[str, float] = {}
        with context.Pool(1) as pool:
            found |= pool.apply(in_process, (loaded, folder / "alone", 50_000))
        ours, theirs = context.Pipe()
        cpu = context.Value("d", 0.0, lock=False)
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            arguments = (folder, listener.getsockname()[1], loaded, theirs, cpu)
            process = context.Process(target=fleet, args=arguments, daemon=True)
            process.start()
            pin(1)
            gc.freeze()
            gc.disable()
            peer = Peer(listener, ours.recv())
            settle(peer, time.perf_counter() + 1, full=False)
            full = throughput(peer, cpu, seconds)
            found |= {f"transactions_{key}": value for key, value in full.items()}
            stops = halts(peer, folder, rounds)
            found |= {"halt_p50_ms": percentile(stops, 0.5), "halt_p99_ms": percentile(stops, 0.99)}
            settle(peer, time.perf_counter() + 0.3, full=False)
            slow = latency(peer, HEADLINE / 3 / PER_PARENT, seconds)
            found |= {"latency_p50_ms": percentile(slow, 0.5)}
            found |= {"latency_p99_ms": percentile(slow, 0.99)}
            ours.send("stop")
            process.join(10)
            if process.is_alive():
                process.kill()
    return found


HEADING = "## The router"
COUNT, MS = "{:,.0f}", "{:.3f} ms"
ROWS = [
    ("transactions_per_s", "eight routers, one core, sockets: transactions a second", "141,000",
     COUNT),
    ("transactions_per_cpu_s", "the same, per second of that core's time", "", COUNT),
    ("in_process_per_s", "in process: checked children per second of its core's time", "500,000",
     COUNT),
    ("in_process_best_per_s", "the same: best of fifty batches", "", COUNT),
    ("latency_p50_ms", "parent in to first child out, at 47,000 a second: p50", "", MS),
    ("latency_p99_ms", "the same: p99", "", MS),
    ("halt_p50_ms", "halt to last child on the wire, full load: p50", "", MS),
    ("halt_p99_ms", "the same: p99", "50 ms", MS),
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the router.")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=100, help="halts to time")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    found = measure(options.seconds, options.rounds)
    if options.json:
        print(json.dumps(found, sort_keys=True))
        return 0
    lines = [
        HEADING, "",
        f"Load before the start: {load:.1f} on {os.cpu_count()} cores.", "",
        "| router | measured | reach |", "|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {label} | {show.format(found[key])} | {reach} |" for key, label, reach, show in ROWS
    ]
    section = "\n".join([*lines, ""])
    print(section)
    put_section(section)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
