"""A stop of hosts that trade, with a market as its witness: it never says more than it saw (P6)."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploytool.fleet.inventory import load_inventory
from deploytool.market.load import MAX_PARENTS, Load
from deploytool.rehearsal.faults.host_shell import HostShell
from deploytool.rehearsal.fleets import files
from deploytool.rehearsal.scenarios.stopdrill.stray import LOGIN, stray
from deploytool.rehearsal.stage import Stage
from deploytool.rehearsal.trading import Trading
from deploytool.release.store import find

from .conftest import HOSTS, Desk

pytestmark = pytest.mark.sshd
INVENTORY = "witnessed.yaml"


@pytest.fixture
def trading(desk: Desk) -> Iterator[Trading]:
    """All hosts trade, and an inventory names the market as the witness."""
    folder, store = desk.fleet.folder, Path(desk.store)
    record = desk.fleet.record()
    assert record is not None
    (folder / files.ROUTER_CONFIG).write_text(files.router_config(record), encoding="utf-8")
    release = find(store, "2026.0")
    with Stage(desk.fleet, release, release, print).trading() as made:
        witness(desk, made)
        assert made.ready((release,)) == ""
        made.flow.send(Load(MAX_PARENTS, files.LIMITS, rate=150.0, qty=(1, 900), seed=11))
        until = time.monotonic() + 20
        while not all(h["wall"] for h in made.flow.silence()["hosts"].values()):
            assert time.monotonic() < until
            time.sleep(0.05)
        yield made


def witness(desk: Desk, trading: Trading, **more: Any) -> None:
    """The inventory with its witness, and ``more`` under ``silence``."""
    said = yaml.safe_load(Path(desk.inventory).read_text())
    command = [sys.executable, "-m", "deploytool.market.witness"]
    command += ["--control", str(trading.flow.market.control), "--hosts", files.ROUTER_CONFIG]
    said["silence"] = {"command": command, "timeout_s": 20, **more}
    (desk.fleet.folder / INVENTORY).write_text(yaml.safe_dump(said, sort_keys=False))


def lasts(trading: Trading) -> dict[str, float]:
    """When the market saw the last order of each host, past deploytool."""
    seen = trading.flow.silence()["hosts"].items()
    return {host: one["monotonic"] for host, one in seen}


def stop(desk: Desk, *words: str) -> Any:
    place = desk.fleet.folder / INVENTORY
    return desk.tool("stop", "-i", str(place), "--json", *words)


def test_p6_hosts_that_trade_are_stopped_and_their_last_orders_agree(
    desk: Desk, trading: Trading
) -> None:
    ended = stop(desk, "--all", "--reason", "test")
    assert ended.code == 0, ended
    assert {row["end"] for row in ended.document["hosts"]} == {"HALTED"}
    assert all(row["silent"] and row["watched_s"] >= 0.5 for row in ended.document["hosts"])
    said = lasts(trading)
    time.sleep(1.0)
    assert lasts(trading) == said
    again = stop(desk, "--all", "--reason", "once more")
    assert again.code == 0, "what was halted before is silent by the same count"


def test_p6_an_old_build_outside_the_release_root_is_heard_and_named(
    desk: Desk, trading: Trading
) -> None:
    """It was reproduced: all hosts stopped, exit 0, and the stray traded on."""
    host = HostShell(desk.fleet, load_inventory(Path(desk.inventory)), HOSTS[0], "", "")
    old = find(Path(desk.store), "2026.0")
    with stray(host, old, trading.flow) as left:
        ended = stop(desk, "--all", "--reason", "an old build")
        assert ended.code == 6, ended
        assert {row["end"] for row in ended.document["hosts"]} == {"HALTED"}
        assert list(ended.document["strangers"]) == [LOGIN]
        assert f"The market heard {LOGIN}, which is not in this fleet." in ended.document["what"]
        assert "seen to be silent" not in ended.err + ended.out
        before = trading.flow.market.ask("silence")["hosts"][LOGIN]["wall"]
        time.sleep(1.0)
        after = trading.flow.market.ask("silence")["hosts"][LOGIN]["wall"]
        assert after > before, "it goes on, as was said"
        left.end()
    assert stop(desk, "--all").code == 6, "it was heard a moment ago"
    witness(desk, trading, others=[LOGIN])
    ended = stop(desk, "--all", "--reason", "the old build was ended")
    assert ended.code == 0, ended
    assert ended.document["elsewhere"] == [LOGIN]


@pytest.mark.usefixtures("trading")
def test_p6_a_host_that_hangs_is_dead_and_watched_for_longer(desk: Desk) -> None:
    desk.signal("router2", signal.SIGSTOP)
    hung = desk.main("router2")
    ended = stop(desk, "--all", "--reason", "hung")
    row = ended.row("router2")
    assert (ended.code, row["end"], row["silent"]) == (0, "DEAD", True), ended
    assert row["watched_s"] >= 5.0
    assert "no process that may send was found" in row["silence"]
    assert not os.path.exists(f"/proc/{hung}/exe")  # noqa: PTH110 a link that leads nowhere is gone
