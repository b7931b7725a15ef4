"""A market of one venue, open for the length of a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.rehearsal.market.exchange import Quote
from deploytool.rehearsal.market.session import Deadlines
from deploytool.rehearsal.market.venue import Address, Market

from .peers import Rig, running

ACME = {"ACME": Quote(99_900, 100_000), "ZINC": Quote(49_900, 50_000)}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    quick = Deadlines(login_s=0.5, silence_s=0.6, heartbeat_s=0.1)
    market = Market((Address("XA", "127.0.0.1", 0),), ACME, tmp_path / "market.sock", quick)
    with running(market):
        rig = Rig(market)
        try:
            yield rig
        finally:
            rig.close()
