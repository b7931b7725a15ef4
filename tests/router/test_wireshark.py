"""Wireshark's own dissectors read what the router says to a market."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Router
from .peers import Client, Market, new_order

ROUTER_PORT, MARKET_PORT = 50000, 26400
SEGMENT = 1200


def need_tshark() -> str:
    found = shutil.which("tshark")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("tshark is missing: install Debian's package tshark")
        pytest.skip("tshark is not installed (Debian's package tshark)")
    return found


def segment(source: int, target: int, sequence: int, ack: int, data: bytes) -> bytes:
    """Wrap bytes in TCP and IPv4; Wireshark doesn't check sums that are 0 by default."""
    tcp = struct.pack(">HHIIBBHHH", source, target, sequence, ack, 0x50, 0x18, 65535, 0, 0)
    packet = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 1, 0, 64, 6, 0,
                         b"\x7f\0\0\1", b"\x7f\0\0\1")  # fmt: skip
    return packet + tcp + data


def capture(path: Path, to_market: bytes, from_market: bytes) -> None:
    """Write both directions as a pcap of raw IP."""
    packets = []
    for data, source, target in (
        (to_market, ROUTER_PORT, MARKET_PORT), (from_market, MARKET_PORT, ROUTER_PORT)
    ):  # fmt: skip
        packets += [
            segment(source, target, 1 + at, 1, data[at : at + SEGMENT])
            for at in range(0, len(data), SEGMENT)
        ]
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for number, packet in enumerate(packets):
            file.write(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)


def test_wireshark_reads_every_packet(
    router: Router, config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    tshark = need_tshark()
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(("127.0.0.1", router.port)) as client:
            client.send(
                new_order("A", 250), new_order("B", 100, side="S", flags=3),
                new_order("C", 100, side="T", tif="3"),
            )  # fmt: skip
            router.until(lambda _: len(market.orders) == 5)
            market.fill(sorted(market.orders)[0], 84)
            router.until(lambda status: status["counters"]["executions"] == 1)
            market.mode = "reject"
            client.send(new_order("D", 100))
            client.until_done("D")
        assert router.stop() == 0
        heard, said = market.heard, market.said
    path = tmp_path / "ouch.pcap"
    capture(path, heard, said)
    done = subprocess.run(
        [tshark, "-r", path, "-d", f"tcp.port=={MARKET_PORT},soupbintcp", "-T", "json",
         "--no-duplicate-keys", "-o", "tcp.check_checksum:FALSE", "-o", "ip.check_checksum:FALSE",
         "--enable-heuristic", "ouch_soupbintcp"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "_ws.malformed" not in text
    assert "_ws.expert" not in text, "nothing that Wireshark wonders about"
    layers = [frame["_source"]["layers"] for frame in json.loads(text)]
    ouch = [plain(m) for layer in layers for m in as_list(layer.get("ouch", []))]
    by_type: dict[str, list[dict[str, str]]] = {}
    for message in ouch:
        by_type.setdefault(message["ouch.packet_type"], []).append(message)
    assert {kind: len(found) for kind, found in by_type.items()} == {
        "O": 6, "A": 5, "E": 1, "C": 4, "X": 3, "J": 1,
    }  # fmt: skip
    first = by_type["O"][0]
    assert first["ouch.order_token"] == "R1S00000000001"
    assert first["ouch.buy_sell_indicator"] == "B"
    assert first["ouch.shares"] == "84"
    assert first["ouch.stock"].strip() == "ACME"
    assert first["ouch.price"] == "100000"
    assert first["ouch.customer_type"] == "N"
    assert first["ouch.tif"] == "99998"
    assert first["ouch.firm"].strip() == "TEST"
    marks = by_type["O"][3]
    assert marks["ouch.display"] == "N"
    assert marks["ouch.iso_eligible"] == "Y"
    assert marks["ouch.capacity"] == "A"
    assert marks["ouch.cross_type"] == "N"
    assert by_type["O"][4]["ouch.tif"] == "0"
    assert {m["ouch.order_token"] for m in by_type["X"]} <= {f"R1S{n:011d}" for n in range(1, 7)}
    logins = [plain(m) for layer in layers for m in as_list(layer.get("soupbintcp", []))]
    kinds = "".join(m["soupbintcp.packet_type"] for m in logins)
    assert kinds.startswith("L")
    assert "O" in kinds, "it logs out"


def plain(message: dict[str, Any]) -> dict[str, str]:
    """Take off the quotes that tshark puts around single letters."""
    return {key: str(value).strip("'") for key, value in message.items()}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
