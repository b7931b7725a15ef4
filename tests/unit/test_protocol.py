"""The words between deploytool and a host: noise is no answer, and half an answer is none (P1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.agent.protocol import answer_bytes
from deploytool.agent.requests import Activate, Answer, Locked, Probe, RefusedAnswer, Renew, Request
from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.protocol import (
    FORMAT,
    OTHER_VERSION,
    Call,
    Reply,
    parse_answer,
    parse_reply,
    request,
)

NONCE = "ab" * 16
LINES = (("helper", "x"), ("process", "1 2 3 S a b"), ("empty", ""))
CHANGE = Call("activate")
LOOK = Call("probe", changes=False)


def answer(
    nonce: str = NONCE, end: str = "ok", lines: tuple[tuple[str, str], ...] = LINES
) -> bytes:
    body = "".join(f"{key} {rest}\n" for key, rest in lines)
    return f"\ndeploytool {nonce} begin\n{body}deploytool {nonce} end {end}\n".encode()


def test_an_answer_is_its_lines() -> None:
    reply = parse_reply(answer(), NONCE, LOOK)
    assert reply.lines == LINES
    assert reply.one("helper") == "x"
    assert reply.one("absent") is None
    assert reply.all("absent") == ()


def test_an_answer_that_contradicts_itself_is_none() -> None:
    with pytest.raises(HostFault, match="2 times"):
        Reply((("token", "1"), ("token", "2"))).one("token")


@given(before=st.text(max_size=200), after=st.text(max_size=200))
def test_p1_noise_around_an_answer_changes_nothing(before: str, after: str) -> None:
    noisy = before.encode("utf-8", "replace") + answer() + after.encode("utf-8", "replace")
    assert parse_reply(noisy, NONCE, LOOK).lines == LINES


def test_p1_an_answer_to_another_round_is_none() -> None:
    for old in (answer("cd" * 16), answer("cd" * 16) + answer("ab")):
        with pytest.raises(HostFault) as caught:
            parse_reply(old, NONCE, CHANGE)
        assert caught.value.kind is FaultKind.PROTOCOL
    assert parse_reply(answer("cd" * 16) + answer(), NONCE, LOOK).lines == LINES


def test_p1_an_answer_cut_anywhere_is_none() -> None:
    whole = answer()
    for length in range(len(whole)):
        for call in (CHANGE, LOOK):
            with pytest.raises(HostFault) as caught:
                parse_reply(whole[:length], NONCE, call)
            begun = b"begin\n" in whole[:length]
            assert caught.value.kind is (FaultKind.LOST if begun else FaultKind.PROTOCOL)
            if begun:
                assert caught.value.in_doubt is call.changes


@given(st.binary(max_size=300))
def test_p1_no_bytes_are_taken_for_an_answer(garbage: bytes) -> None:
    with pytest.raises(HostFault):
        parse_reply(garbage, NONCE, CHANGE)


@pytest.mark.parametrize(
    ("end", "kind", "code", "text"),
    [
        ("refused locked you hold it", FaultKind.REFUSED, "locked", "you hold it"),
        ("refused busy", FaultKind.REFUSED, "busy", "refused busy"),
        ("perhaps", FaultKind.PROTOCOL, "", "perhaps"),
        ("okay", FaultKind.PROTOCOL, "", "okay"),
        ("", FaultKind.PROTOCOL, "", ""),
    ],
)
def test_p1_only_ok_is_ok(end: str, kind: FaultKind, code: str, text: str) -> None:
    with pytest.raises(HostFault) as caught:
        parse_reply(answer(end=end), NONCE, CHANGE)
    assert (caught.value.kind, caught.value.code, caught.value.text) == (kind, code, text)
    assert caught.value.in_doubt is (kind is FaultKind.PROTOCOL), "an odd end may follow an effect"


@pytest.mark.parametrize("call", [CHANGE, LOOK])
def test_p1_an_answer_without_a_beginning_may_follow_an_effect(call: Call) -> None:
    for output, asked in ((answer().split(b"begin\n")[1], True), (b"Welcome!\n", False)):
        with pytest.raises(HostFault) as caught:
            parse_reply(b"\n" + output, NONCE, call)
        assert caught.value.kind is FaultKind.PROTOCOL
        assert caught.value.in_doubt is (asked and call.changes)


def test_a_request_is_lines_and_an_end() -> None:
    call = Call("fence", (("latch", "ab"), ("by", "me")))
    assert request(call, NONCE) == f"{FORMAT} {NONCE} fence\nlatch ab\nby me\n.\n".encode()


@given(st.text().filter(lambda t: not t or any(c.isspace() for c in t)))
def test_no_value_can_add_a_line_to_a_request(value: str) -> None:
    with pytest.raises(ValueError, match="can't stand in a request"):
        request(Call("lock", (("holder", value),)), NONCE)


@given(st.text(max_size=400))
def test_what_a_host_printed_is_harmless_on_one_line(text: str) -> None:
    shown = excerpt(text)
    assert shown.isprintable()
    assert 0 < len(shown) <= 160


# --- format deploytool/2 --------------------------------------------------------------------------

RENEW = Renew(token=1, holder="me@here", purpose="deploy", plan="p")
PROBE, SWITCH = Probe(), Activate(token=1, release=None, show=Probe())
WHOLE = answer_bytes(NONCE, Locked(token=2))


@given(before=st.text(max_size=200), after=st.text(max_size=200))
def test_p1_noise_around_an_agent_s_answer_changes_nothing(before: str, after: str) -> None:
    noisy = before.encode("utf-8", "replace") + WHOLE + after.encode("utf-8", "replace")
    assert parse_answer(noisy, NONCE, RENEW) == Locked(token=2)


@pytest.mark.parametrize("asked", [RENEW, PROBE], ids=["changes", "looks"])
def test_p1_an_agent_s_answer_cut_anywhere_is_none(asked: Request) -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(HostFault) as caught:
            parse_answer(WHOLE[:length], NONCE, asked)
        begun = b"begin\n" in WHOLE[:length]
        assert caught.value.kind is (FaultKind.LOST if begun else FaultKind.PROTOCOL)
        assert caught.value.in_doubt is (begun and asked.changes)


@given(st.binary(max_size=300))
def test_p1_no_bytes_are_taken_for_an_agent_s_answer(garbage: bytes) -> None:
    for framed in (garbage, WHOLE.replace(b'{"token":2}', garbage.replace(b"\n", b""))):
        try:
            found = parse_answer(framed, NONCE, RENEW)
        except HostFault:
            continue
        assert isinstance(found, Locked)


@pytest.mark.parametrize("answer", [Answer(), Locked(token=1)], ids=["nothing", "another"])
def test_p1_an_answer_to_something_else_is_none_and_in_doubt(answer: Answer) -> None:
    with pytest.raises(HostFault) as caught:
        parse_answer(answer_bytes(NONCE, answer), NONCE, SWITCH)
    assert (caught.value.kind, caught.value.in_doubt) == (FaultKind.PROTOCOL, True)


def test_a_refusal_is_one_and_another_version_is_no_mismatch() -> None:
    for code, kind in (("locked", FaultKind.REFUSED), (OTHER_VERSION, FaultKind.AGENT)):
        refused = answer_bytes(NONCE, RefusedAnswer(code=code, text="no\x1b[2J"))
        with pytest.raises(HostFault) as caught:
            parse_answer(refused, NONCE, RENEW)
        assert (caught.value.kind, caught.value.code) == (kind, code)
        assert not caught.value.in_doubt
        assert caught.value.text.isprintable()
