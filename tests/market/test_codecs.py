"""The two codecs against bytes laid out by hand, against Wireshark, and against garbage."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.market import ouch, soup

GOLDEN = Path(__file__).parent / "golden"
OUCH = sorted(GOLDEN.glob("ouch_*.hex"))
SOUP = sorted(GOLDEN.glob("soup_*.hex"))

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
letter = st.sampled_from([bytes((c,)) for c in range(0x20, 0x7F)])


def text(width: int) -> st.SearchStrategy[bytes]:
    alphabet = st.characters(min_codepoint=0x30, max_codepoint=0x5A)
    return st.text(alphabet, min_size=1, max_size=width).map(lambda t: ouch.alpha(t, width))


token = st.text("ABC012 ", min_size=1, max_size=14).map(lambda t: ouch.alpha("Z" + t[1:], 14))
enter = st.builds(
    ouch.EnterOrder, token, st.sampled_from([b"B", b"S", b"T", b"E"]), u32, text(8), u32, u32,
    text(4), letter, letter, letter, u32, letter, letter,
)  # fmt: skip
inbound = st.one_of(enter, st.builds(ouch.CancelOrder, token, u32))
outbound = st.one_of(
    st.builds(
        ouch.Accepted, u64, token, letter, u32, text(8), u32, u32, text(4), letter, u64, letter,
        letter, u32, letter, letter, letter,
    ),
    st.builds(ouch.Canceled, u64, token, u32, letter),
    st.builds(ouch.Executed, u64, token, u32, u32, letter, u64),
    st.builds(ouch.Rejected, u64, token, letter),
    st.builds(ouch.SystemEvent, u64, letter),
    st.builds(ouch.BrokenTrade, u64, token, u64, letter),
    st.builds(ouch.CancelPending, u64, token),
    st.builds(ouch.CancelReject, u64, token),
)  # fmt: skip


def golden(path: Path) -> tuple[bytes, dict[str, Any]]:
    told: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return bytes.fromhex(path.read_text()), told


def as_message(told: dict[str, Any]) -> Any:
    fields = {k: v.encode() if isinstance(v, str) else v for k, v in told["fields"].items()}
    return getattr(ouch, told["type"])(**fields)


def test_there_is_a_golden_example_of_every_message() -> None:
    assert {golden(path)[1]["type"] for path in OUCH} == {
        "EnterOrder", "CancelOrder", "SystemEvent", "Accepted", "Canceled", "Executed", "Rejected",
        "BrokenTrade", "CancelPending", "CancelReject",
    }  # fmt: skip
    assert {golden(path)[1]["kind"] for path in SOUP} == set("LAJSUHROZ")


@pytest.mark.parametrize("path", OUCH, ids=lambda p: p.stem)
def test_ouch_golden(path: Path) -> None:
    raw, told = golden(path)
    message = as_message(told)
    read = ouch.unpack_inbound if told["direction"] == "inbound" else ouch.unpack_outbound
    assert read(raw) == message
    assert ouch.pack(message) == raw


@pytest.mark.parametrize("path", SOUP, ids=lambda p: p.stem)
def test_soup_golden(path: Path) -> None:
    raw, told = golden(path)
    [(kind, payload)] = soup.Frames().feed(raw)
    assert kind == told["kind"].encode()
    assert soup.frame(kind, payload) == raw
    if told.get("type") == "LoginRequest":
        login = soup.LoginRequest(**told["fields"])
        assert soup.unpack_login_request(payload) == login
        assert soup.pack_login_request(login) == payload
    elif told.get("type") == "LoginAccepted":
        accepted = soup.LoginAccepted(**told["fields"])
        assert soup.unpack_login_accepted(payload) == accepted
        assert soup.pack_login_accepted(accepted) == payload
    else:
        assert payload == bytes.fromhex(told["payload"])


@given(inbound)
def test_inbound_round_trip(message: ouch.Inbound) -> None:
    assert ouch.unpack_inbound(ouch.pack(message)) == message


@given(outbound)
def test_outbound_round_trip(message: ouch.Outbound) -> None:
    assert ouch.unpack_outbound(ouch.pack(message)) == message


@given(st.one_of(inbound, outbound), st.data())
def test_no_other_length_is_read(
    message: ouch.Inbound | ouch.Outbound, data: st.DataObject
) -> None:
    raw = ouch.pack(message)
    other = data.draw(st.sampled_from([raw[:n] for n in range(len(raw))] + [raw + b"\0"]))
    read = (
        ouch.unpack_inbound
        if isinstance(message, ouch.EnterOrder | ouch.CancelOrder)
        else ouch.unpack_outbound
    )
    with pytest.raises(soup.MalformedPacket):
        read(other)


@given(st.binary(max_size=100))
def test_garbage_is_malformed_or_a_message(raw: bytes) -> None:
    for read in (ouch.unpack_inbound, ouch.unpack_outbound):
        try:
            message = read(raw)
        except soup.MalformedPacket:
            continue
        assert ouch.pack(message) == raw


@pytest.mark.parametrize(
    ("field", "value"),
    [("side", b"X"), ("side", b" "), ("token", b" " * 14), ("token", b"R1\x00S00000000001"[:14]),
     ("token", b"R1-S0000000001")],
)  # fmt: skip
def test_an_order_with_a_side_or_token_that_there_is_not_is_malformed(
    field: str, value: bytes
) -> None:
    order: Any = as_message(golden(GOLDEN / "ouch_enter_order.hex")[1])
    with pytest.raises(soup.MalformedPacket, match=field):
        ouch.unpack_inbound(ouch.pack(order._replace(**{field: value})))


def test_text_of_the_wrong_width_is_not_sent() -> None:
    for wrong in (b"short", b"longer than fourteen"):
        with pytest.raises(ValueError, match="width"):
            ouch.pack(ouch.CancelOrder(wrong, 0))
    with pytest.raises(ValueError, match="ASCII"):
        ouch.alpha("TOOLONGSYMBOL", 8)


kinds = st.sampled_from([bytes((c,)) for c in b"+AJSHZLURO"])
frames = st.lists(st.tuples(kinds, st.binary(max_size=80)), max_size=12)


@given(frames, st.lists(st.integers(1, 40), max_size=40))
def test_frames_survive_any_cut_of_the_stream(
    sent: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(soup.frame(kind, payload) for kind, payload in sent)
    splitter, got, at = soup.Frames(), [], 0
    for cut in [*cuts, len(stream)]:
        got += splitter.feed(stream[at : at + cut])
        at += cut
    assert got == sent


@pytest.mark.parametrize("length", [0, soup.MAX_PAYLOAD + 2, 0xFFFF])
def test_an_impossible_length_is_refused_before_its_bytes_arrive(length: int) -> None:
    with pytest.raises(soup.MalformedPacket, match="length"):
        soup.Frames().feed(length.to_bytes(2, "big"))


def test_the_longest_frame_passes_and_one_byte_more_is_not_sent() -> None:
    longest = b"x" * soup.MAX_PAYLOAD
    assert soup.Frames().feed(soup.frame(b"S", longest)) == [(b"S", longest)]
    with pytest.raises(ValueError, match="at most"):
        soup.frame(b"S", longest + b"x")


@given(st.binary(max_size=60))
def test_a_garbled_login_is_malformed_or_read(raw: bytes) -> None:
    for read in (soup.unpack_login_request, soup.unpack_login_accepted):
        try:
            read(raw)
        except soup.MalformedPacket:
            continue
        assert raw.isascii()


def test_a_login_that_does_not_fit_is_not_sent() -> None:
    for login in (
        soup.LoginRequest("toolong", "x"), soup.LoginRequest("x", "elevenchars"),
        soup.LoginRequest("x\n", "x"), soup.LoginRequest("x", "x", sequence=-1),
        soup.LoginRequest("x", "x", sequence=10**20),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"printable|digits"):
            soup.pack_login_request(login)


def test_wireshark_reads_our_messages_as_we_do(tmp_path: Path) -> None:
    """The dissectors are the third witness: they know the specification and not us."""
    tshark, text2pcap = shutil.which("tshark"), shutil.which("text2pcap")
    if tshark is None or text2pcap is None:
        pytest.fail("tshark and text2pcap are needed: apt-get install tshark")
    stream = b"".join(
        soup.frame(soup.UNSEQUENCED if told["direction"] == "inbound" else soup.SEQUENCED, raw)
        for raw, told in map(golden, OUCH)
    )
    dump, capture = tmp_path / "dump", tmp_path / "capture.pcap"
    dump.write_text("000000 " + stream.hex(" ") + "\n")
    subprocess.run([text2pcap, "-T", "40000,26000", dump, capture], check=True, capture_output=True)
    shown = subprocess.run(
        [tshark, "-r", capture, "-d", "tcp.port==26000,soupbintcp", "-T", "json"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    [packet] = json.loads(shown, object_pairs_hook=_keep_repeats)
    messages = packet["_source"][0]["layers"][0]["ouch"]
    assert "malformed" not in shown.lower()
    assert [m["ouch.packet_type"][0].strip("'").encode() for m in messages] == [
        golden(path)[0][:1] for path in OUCH
    ]
    for path, seen in zip(OUCH, messages, strict=True):
        told = golden(path)[1]["fields"]
        assert seen.get("ouch.order_token", [told.get("token")]) == [told.get("token")]
        if "shares" in told:
            assert str(told["shares"]) in (seen.get("ouch.shares") or seen["ouch.executed_shares"])
        if told.get("price") is not None:
            assert str(told["price"]) in (seen.get("ouch.price") or seen["ouch.execution_price"])


def _keep_repeats(pairs: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    kept: dict[str, list[Any]] = {}
    for key, value in pairs:
        kept.setdefault(key, []).append(value)
    return kept
