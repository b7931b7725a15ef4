"""A market of one venue, or a gateway, open for the length of a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.market.exchange import Quote
from deploytool.market.gateway import ClientGateway, ClientGatewayConfig
from deploytool.market.link import RouterAddress
from deploytool.market.session import Deadlines
from deploytool.market.venue import Address, Market

from . import hosts
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


@pytest.fixture
def senders(tmp_path: Path) -> Iterator[hosts.Rig]:
    """A gateway and its two routers, which are plain sockets."""
    raw = [hosts.RawHost("router1"), hosts.RawHost("router2")]
    routers = tuple(RouterAddress(h.host, "127.0.0.1", h.port) for h in raw)
    gateway = ClientGateway(ClientGatewayConfig("GATE01", "secret", routers), tmp_path / "g.sock")
    with running(gateway):
        rig = hosts.Rig(tmp_path / "g.sock", raw)
        rig.ask("trust", releases=[hosts.RELEASE])
        try:
            yield rig
        finally:
            for host in raw:
                host.close()
