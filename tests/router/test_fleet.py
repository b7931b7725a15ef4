"""Eight routers, ten thousand parents: reconciled to the share, also while all are restarted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import Router, base_config
from .peers import Client, Market, Report, new_order, packet

PARENTS = 10_000
HOSTS = 8
WINDOW = 20
HELD_BACK = 50  # of each router's parents, until all restarts are over


@dataclass
class Lane:
    """One router's share of the parents, and the thread that sees each to its end."""

    router: Router
    parents: dict[str, tuple[int, str]]
    release: threading.Event
    latest: dict[str, Report] = field(default_factory=dict)
    done: dict[str, Report] = field(default_factory=dict)
    until_s: float = field(default_factory=lambda: time.monotonic() + 90)
    resent: int = 0
    sessions: int = 0
    error: str = ""

    def run(self) -> None:
        while len(self.done) < len(self.parents) and time.monotonic() < self.until_s:
            try:
                with Client(("127.0.0.1", self.router.port)) as client:
                    client.sock.settimeout(2)
                    self.sessions += 1
                    if client.info[-1] == b"A":
                        self._work(client)
                    else:
                        time.sleep(0.05)
            except (OSError, AssertionError):
                time.sleep(0.02)  # it is being restarted: come again, with all that is open
        self.error = "" if len(self.done) == len(self.parents) else "not all parents ended"

    def _work(self, client: Client) -> None:
        """Keep a window of parents open; what was sent before is sent again and recognised."""
        todo = [name for name in self.parents if name not in self.done]
        window: set[str] = set()
        while time.monotonic() < self.until_s:
            held = 0 if self.release.is_set() else HELD_BACK
            for _ in range(min(WINDOW - len(window), len(todo) - held)):
                name = todo.pop(0)
                self.resent += name in self.latest
                qty, side = self.parents[name]
                client.send(new_order(name, qty, side=side))
                window.add(name)
            if not window and not todo:
                return
            if not window:
                client.send(packet(b"R"))  # also notices that the router has gone
                time.sleep(0.01)
                continue
            report = client.report()
            if report.status == "8":
                assert report.reason in (22, 23), report  # draining, or no market yet
                raise OSError("come again")
            assert report.qty == report.cum + report.leaves + report.cxl
            self.latest[report.clordid] = report
            if report.status in "24":
                self.done[report.clordid] = report
                window.discard(report.clordid)


@pytest.fixture
def fleet(binaries: dict[str, Path], tmp_path: Path) -> Iterator[tuple[list[Router], Market]]:
    with Market() as market:
        routers = [Router(binaries["2026.1"], tmp_path, f"router{n + 1}") for n in range(HOSTS)]
        try:
            for router in routers:
                document = base_config(market.port)
                router.configure(document)
                router.start(wait=False)
            for router in routers:
                router.until_up()
            yield routers, market
        finally:
            for router in routers:
                router.kill()


def drive(routers: list[Router], meanwhile: Callable[[], object]) -> list[Lane]:
    """Deal the parents round-robin over the routers; see them all through."""
    release = threading.Event()
    lanes = [Lane(router, {}, release) for router in routers]
    for number in range(PARENTS):
        side = "BS"[number // HOSTS % 2]
        lanes[number % HOSTS].parents[f"P{number}"] = (100 + number % 201, side)
    threads = [threading.Thread(target=lane.run) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        meanwhile()
    finally:
        release.set()
    for thread in threads:
        thread.join()
    assert [lane.error for lane in lanes] == [""] * HOSTS
    return lanes


def reconcile(lanes: list[Lane], market: Market) -> dict[str, int]:
    """Hold the clients' reports, the routers' books and the market's books against each other."""
    by_login: dict[str, dict[str, int]] = {}
    for token, qty in market.executed.items():
        order = market.orders[token]
        books = by_login.setdefault(order.login, {"B": 0, "S": 0})
        books[order.side] += qty
        assert qty <= order.qty
        assert token.startswith("R" + order.login[-1])
    traded = 0
    for lane in lanes:
        told = {"B": 0, "S": 0}
        for name, (qty, side) in lane.parents.items():
            report = lane.done[name]
            assert (report.qty, report.leaves) == (qty, 0)
            assert report.cum + report.cxl == qty
            told[side] += report.cum
        login = f"RTR00{lane.router.host[-1]}"
        assert by_login.get(login) == told, "the market and the clients agree, host by host"
        status = lane.router.status()
        position = status["positions"].get("ACME", {"position": 0})["position"]
        assert position == told["B"] - told["S"], "and so do the router's books"
        assert (status["counters"]["working"], status["counters"]["in_doubt"]) == (0, 0)
        traded += sum(told.values())
    return {"traded": traded, "orders": len(market.orders)}


@pytest.mark.slow
def test_ten_thousand_parents_reconcile(fleet: tuple[list[Router], Market]) -> None:
    routers, market = fleet
    lanes = drive(routers, lambda: None)
    found = reconcile(lanes, market)
    assert found["traded"] == sum(qty for lane in lanes for qty, _ in lane.parents.values())
    statuses: list[dict[str, Any]] = [router.status()["counters"] for router in routers]
    assert sum(counters["parents"] for counters in statuses) == PARENTS
    assert sum(counters["children"] for counters in statuses) == found["orders"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["drain", "kill"])
def test_the_same_while_all_are_restarted(fleet: tuple[list[Router], Market], how: str) -> None:
    """Waves of 1, 3 and 4: no parent is lost, none is traded twice."""
    routers, market = fleet

    def restart() -> None:
        for wave in (routers[:1], routers[1:4], routers[4:]):
            time.sleep(0.3)
            for router in wave:
                assert router.process is not None
                router.process.send_signal(signal.SIGTERM if how == "drain" else signal.SIGKILL)
            for router in wave:
                assert router.stop() == (0 if how == "drain" else -9)
                router.start(wait=False)
            for router in wave:
                router.until_up()

    lanes = drive(routers, restart)
    found = reconcile(lanes, market)
    assert found["traded"] <= sum(qty for lane in lanes for qty, _ in lane.parents.values())
    assert min(lane.sessions for lane in lanes) > 1, "each restart fell into the traffic"
    if how == "kill":
        assert sum(lane.resent for lane in lanes) > 0, "what was open was sent again"
