"""The drill's router that hears nobody: it trades, and only killing it ends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploytool.errors import InputError
from deploytool.rehearsal.scenarios.stopdrill.ignores_signals import build_deaf

from .conftest import ROOT, Router
from .peers import Client, Market, new_order

Configure = Callable[..., dict[str, Any]]


def test_it_trades_and_hears_neither_halt_nor_sigterm(tmp_path: Path, config: Configure) -> None:
    release = build_deaf(tmp_path / "store", ROOT / "router_binary")
    assert release.manifest.rehearsal_only
    router = Router(Path(release.artifact), tmp_path)
    with Market() as market:
        router.configure(config(market.port))
        router.start(wait=False)
        assert router.process is not None
        assert router.process.wait(10) == 3, "not without --rehearsal"
        router.extra = ["--rehearsal"]
        router.start(wait=False)
        try:
            end = time.monotonic() + 20
            while not market.streams:
                assert time.monotonic() < end, router.stderr()
                time.sleep(0.02)
            with Client(("127.0.0.1", router.port)) as client:
                client.send(new_order("A", 100))
                client.until_done("A")
                assert router.run("halt", "--reason", "drill").returncode == 1
                assert router.run("status").returncode == 1
                router.process.terminate()
                time.sleep(0.5)
                client.send(new_order("B", 100))
                client.until_done("B")
            assert router.process.poll() is None
            assert len(market.orders) == 2
        finally:
            router.kill()


def test_a_loop_that_was_rewritten_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "loop.py").write_text("pass\n")
    with pytest.raises(InputError, match=r"loop\.py"):
        build_deaf(tmp_path / "store", tmp_path)
