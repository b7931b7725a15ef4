"""The market drops who is silent, and tells when the last order of each host came."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.market import ouch
from deploytool.market.exchange import Quote
from deploytool.market.flow import Flow
from deploytool.market.load import Load
from deploytool.market.session import Deadlines
from deploytool.market.venue import Address
from deploytool.market.witness import seen_by_all

from .fleet import CLIENT, PRICES, build, fleet, release_of
from .peers import Rig, eventually

LOGINS = {"RTR001": "router1", "RTR002": "router2", "RTR003": "router3"}


def told(wall: float, **last: float | None) -> dict[str, object]:
    return {"wall": wall, "hosts": {login: {"wall": at} for login, at in last.items()}}


def test_the_latest_order_on_any_market_counts_and_the_oldest_look() -> None:
    seen = seen_by_all(
        [told(100.0, RTR001=90.0, RTR002=None), told(101.0, RTR001=95.0, RTR002=80.0)], LOGINS
    )
    assert seen == {
        "taken": 100.0,
        "last_child": {"router1": 95.0, "router2": 80.0, "router3": None},
    }


def test_a_login_that_is_nobodys_is_told_as_it_is() -> None:
    assert seen_by_all([told(1.0, RTR009=0.5)], LOGINS)["last_child"]["RTR009"] == 0.5
    assert seen_by_all([told(1.0, RTR001=0.5)], {})["last_child"] == {"RTR001": 0.5}


def witness(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploytool.market.witness", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_p6_the_command_tells_hosts_by_their_names(rig: Rig, tmp_path: Path) -> None:
    hosts = tmp_path / "router.json"
    entries = {host: {"login": login, "code": login[4:]} for login, host in LOGINS.items()}
    hosts.write_text(json.dumps({"hosts": entries}))
    router = rig.router()
    router.login("RTR002")
    before = time.time()
    router.enter("R1S1", shares=0)  # even an order that is rejected is not silence
    router.answer()
    after = time.time()
    done = witness("--control", rig.market.control, "--hosts", hosts)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert before - 0.05 <= seen["last_child"].pop("router2") <= after + 0.05
    assert seen["last_child"] == {"router1": None, "router3": None}
    assert after <= seen["taken"] <= time.time()


def test_p6_a_market_that_does_not_answer_has_seen_nothing(rig: Rig, tmp_path: Path) -> None:
    gone = tmp_path / "gone.sock"
    done = witness("--control", rig.market.control, "--control", gone)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(gone) in done.stderr
    for text in ("", "[]", "{}", '{"hosts": []}', '{"hosts": {"router1": {}}}'):
        (tmp_path / "router.json").write_text(text)
        done = witness("--control", rig.market.control, "--hosts", tmp_path / "router.json")
        assert (done.returncode, done.stdout) == (1, ""), text
        assert "router.json" in done.stderr


def test_p6_what_works_for_a_silent_session_is_cancelled(rig: Rig) -> None:
    router = rig.router()
    router.login()
    router.enter("R1S1", price=90_000)
    assert isinstance(router.answer(), ouch.Accepted)
    (row,) = rig.ask("orders", venue="XA", host="RTR001")["orders"]
    assert row["leaves"] == 100
    eventually(lambda: not rig.ask("sessions")["sessions"][0]["up"])  # 0.6 s of silence
    (row,) = rig.ask("orders", venue="XA", host="RTR001")["orders"]
    assert (row["leaves"], row["canceled"]) == (0, 100)


# -- a real router ----------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="witness-"))
    yield path
    shutil.rmtree(path)


def test_p6_a_frozen_router_is_dropped_and_holds_nothing_at_the_market(folder: Path) -> None:
    """Nobody has to reach it: the market itself takes back what works for who went silent."""
    artifact = build(folder / "build")
    quotes = {name: Quote(price - 100, price + 100) for name, price in PRICES.items()}
    limits = {name: (price - 500, price + 500) for name, price in PRICES.items()}
    venues = (Address("XA", "127.0.0.1", 0),)
    with (
        Flow(folder, venues, quotes, Deadlines(silence_s=2.0)) as flow,
        fleet(artifact, folder, flow.venues, count=2) as routers,
    ):
        flow.start_gateway([r.router for r in routers], CLIENT)
        flow.trust([release_of(artifact)])
        assert flow.wait_for_routers(2, deadline_s=20), flow.members()
        flow.send(Load(40, limits, qty=(100, 100), seed=1))
        assert flow.wait(deadline_s=2).open == 40
        assert working(flow) == {"RTR001": 20, "RTR002": 20}
        frozen = routers[0].process
        assert frozen is not None
        os.kill(frozen.pid, signal.SIGSTOP)
        began = time.monotonic()
        while working(flow)["RTR001"]:
            assert time.monotonic() - began < 10
            time.sleep(0.05)
        assert time.monotonic() - began > 0.5
        assert working(flow)["RTR002"] == 20, "its neighbour trades on"
        last = flow.silence()["hosts"]["router1"]["monotonic"]
        os.kill(frozen.pid, signal.SIGCONT)
        assert flow.wait_for_routers(2, deadline_s=20), flow.members()
        assert flow.silence()["hosts"]["router1"]["monotonic"] == last
        flow.cancel()
        progress = flow.wait(deadline_s=20)
        assert progress.finished, progress
        assert progress.in_doubt == 0


def working(flow: Flow) -> dict[str, int]:
    return {row["host"]: row["working"] for row in flow.market.ask("books")["hosts"]}
