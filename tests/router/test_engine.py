"""Parents, children, limits and breakers, without sockets: every share is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router.gate import NotClearedError
from router.latch import HALTED, REDUCING, ResumeRefusedError
from router.orders import Plan
from router.risk import Cleared, RefusedError
from router.slicing import cut

from router import wire

from .conftest import base_config
from .harness import Rig, check

Configure = Callable[..., dict[str, Any]]
R = wire.CODES
NOW = 100.0


@pytest.fixture
def rig(config: Configure) -> Rig:
    return Rig(config(1, 2, 3))


def reasons(reports: list[tuple[Any, ...]]) -> list[str]:
    return [wire.REASONS[report[8]] for report in reports if report[1] == "8"]


# -- splitting -----------------------------------------------------------------------------------


def test_a_parent_becomes_children_over_the_venues_in_turn(rig: Rig) -> None:
    (new,) = rig.order("A", 350)
    assert new[:8] == ("A", "0", "0", 350, 0, 0, 0, 350)
    assert [len(bytes(venue.out)) // 52 for venue in rig.engine.venues] == [2, 1, 1]
    children = rig.sent()
    assert sorted(qty for _, _, qty, _ in children) == [87, 87, 88, 88]
    assert sorted(token for token, _, _, _ in children) == [b"R1S%011d" % n for n in (1, 2, 3, 4)]
    rig.order("B", 100)
    assert [len(bytes(venue.out)) // 52 for venue in rig.engine.venues] == [0, 1, 0]


@given(st.integers(1, 999_999), st.integers(1, 5_000), st.integers(1, 100))
def test_cutting_loses_nothing(qty: int, size: int, most: int) -> None:
    pieces = cut(qty, size, most)
    assert sum(pieces) == qty
    assert min(pieces) > 0
    assert len(pieces) <= most
    assert max(pieces) <= size or len(pieces) == most


def test_flags_mark_children(rig: Rig) -> None:
    for word, marks in ((0, b"YAN"), (1, b"NAN"), (2, b"YAY"), (3, b"NAY")):
        rig.order(f"W{word}", 100, flags=word)
        (packet,) = [bytes(venue.out) for venue in rig.engine.venues if venue.out]
        rig.sent()
        # Display, Capacity, Intermarket Sweep stand 9 bytes before the end, then 4+1+1 more.
        assert packet[-9:] == marks + b"\0\0\0\0NN"


def arm(rig: Rig) -> None:
    rig.flags._runtime["RETAIL_LIQUIDITY"].state = "armed"
    rig.flags._changed()


def test_retail_liquidity_is_offered_first_then_sliced(rig: Rig) -> None:
    arm(rig)
    rig.order("A", 300, flags=16)
    ((token, _, qty, _),) = rig.sent()
    assert (token[2:3], qty) == (b"R", 300)
    rig.fill(token, 100)
    rig.cancel(token, 200)
    rest = rig.sent()
    assert {token[2:3] for token, _, _, _ in rest} == {b"S"}
    assert sum(qty for _, _, qty, _ in rest) == 200
    for token, _, qty, _ in rest:
        rig.cancel(token, qty)
    assert rig.sent() == []
    last = rig.reports()[-1]
    assert (last[1], last[2], last[6], last[7], last[10]) == ("4", "4", 100, 0, 200)


def test_retail_needs_a_retail_venue_but_not_for_ever(rig: Rig) -> None:
    arm(rig)
    rig.engine.venues[0].up = False
    rig.engine.venue_changed()
    rig.order("A", 200, flags=16)
    assert {token[2:3] for token, _, _, _ in rig.sent()} == {b"S"}


# -- the client's rules -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"clordid": ""}, "BAD_CLORDID"),
        ({"clordid": "a b"}, "BAD_CLORDID"),
        ({"clordid": "\0x"}, "BAD_CLORDID"),
        ({"side": "X"}, "BAD_SIDE"),
        ({"qty": 0}, "BAD_QTY"),
        ({"qty": 1_000_000}, "BAD_QTY"),
        ({"qty": 2**32 - 1}, "BAD_QTY"),
        ({"price": 0}, "BAD_PRICE"),
        ({"price": 2**32 - 1}, "BAD_PRICE"),
        ({"tif": "9"}, "BAD_TIF"),
        ({"symbol": "NOPE"}, "UNKNOWN_SYMBOL"),
        ({"flags": 4}, "UNKNOWN_FLAG"),
        ({"flags": 8}, "RESERVED_FLAG"),
        ({"flags": 12}, "RESERVED_FLAG"),
        ({"flags": 16}, "FLAG_NOT_ARMED"),
        ({"flags": 65535}, "RESERVED_FLAG"),
        ({"qty": 10_001}, "ORDER_QTY"),
        ({"price": 110_001}, "PRICE_COLLAR"),
        ({"price": 89_999}, "PRICE_COLLAR"),
        ({"symbol": "EMCA", "price": 50_000, "qty": 1_001}, "SYMBOL_POSITION"),
        ({"symbol": "EMCA", "price": 50_000, "qty": 1_001, "side": "S"}, "SYMBOL_POSITION"),
    ],
)
def test_what_is_wrong_is_rejected_with_its_reason(
    rig: Rig, change: dict[str, Any], code: str
) -> None:
    change = {"clordid": "A", **change}
    assert reasons(rig.order(**change)) == [code]
    assert rig.sent() == []
    assert rig.engine.counters.rejects == 1
    assert not rig.record.buffer, "a rejected parent isn't written down"


def test_a_rejected_clordid_is_not_used_up(rig: Rig) -> None:
    assert reasons(rig.order("A", 10_001)) == ["ORDER_QTY"]
    assert rig.order("A", 100)[0][1] == "0"


def test_the_same_parent_again_is_answered_and_not_sent_again(rig: Rig) -> None:
    rig.order("A", 100)
    assert len(rig.sent()) == 1
    (again,) = rig.order("A", 100)
    assert again[1:4] == ("I", "0", 100)
    assert reasons(rig.order("A", 200)) == ["DUPLICATE"]
    assert rig.sent() == []


def test_cancel_and_status(rig: Rig) -> None:
    rig.order("A", 200)
    first, second = rig.sent()
    rig.fill(first[0], 100)
    rig.engine.cancel_order(rig.user, b"A".ljust(16))
    rig.cancel(second[0], 100)
    last = rig.reports()[-1]
    assert (last[1], last[2], last[6], last[7], last[8], last[10]) == (
        "4", "4", 100, 0, R["CLIENT"], 100,
    )  # fmt: skip
    rig.engine.status_request(rig.user, b"A".ljust(16))
    rig.engine.status_request(rig.user, b"B".ljust(16))
    known, unknown = rig.reports()
    assert (known[1], known[2], known[6]) == ("I", "4", 100)
    assert (unknown[1], unknown[2], unknown[8]) == ("I", "8", R["UNKNOWN_ORDER"])


def test_one_user_does_not_see_the_other(rig: Rig) -> None:
    rig.order("A", 200)
    other = rig.engine.users["GATE02"]
    other.out = bytearray()
    rig.engine.cancel_order(other, b"A".ljust(16))
    assert other.out[3:4] == b"9"
    assert all(not venue.out.count(b"UX") for venue in rig.engine.venues)


# -- limits ---------------------------------------------------------------------------------------


def limited(config: Configure, group: str = "limits", /, **change: int) -> Rig:
    document = config(1, 2, 3)
    document[group] = {**document[group], **change}
    return Rig(document)


@pytest.mark.parametrize(
    ("limit", "most", "code"),
    [
        ("order_qty", 200, "ORDER_QTY"),
        ("order_value", 200 * 100_000, "ORDER_VALUE"),
        ("account_position", 200, "ACCOUNT_POSITION"),
        ("gross_notional", 200 * 100_000, "GROSS_NOTIONAL"),
        ("messages_per_s", 2, "MESSAGE_RATE"),
        ("children_per_parent", 2, "CHILDREN_PER_PARENT"),
    ],
)
def test_each_limit_holds_at_the_last_share(
    config: Configure, limit: str, most: int, code: str
) -> None:
    rig = limited(config, **{limit: most})
    assert rig.order("A", 200)[0][1] == "0"
    rig = limited(config, **{limit: most})
    assert reasons(rig.order("B", 201)) == [code]
    assert rig.sent() == []


@pytest.mark.parametrize("limit", ["account_position", "gross_notional"])
def test_working_orders_count(config: Configure, limit: str) -> None:
    most = 300 if limit == "account_position" else 300 * 100_000
    rig = limited(config, **{limit: most})
    rig.order("A", 200)
    assert len(reasons(rig.order("B", 200))) == 1, "200 work already"
    for token, _, qty, _ in rig.sent():
        rig.cancel(token, qty)
    rig.reports()
    assert rig.order("C", 200)[0][1] == "0", "what was cancelled makes room again"


def test_symbol_position_counts_both_ways(rig: Rig) -> None:
    kind: dict[str, Any] = {"symbol": "EMCA", "price": 50_000}
    rig.order("A", 600, **kind)
    assert reasons(rig.order("B", 500, **kind)) == ["SYMBOL_POSITION"]
    assert rig.order("C", 1000, side="S", **kind)[0][1] == "0", "a sale may fill before the buy"
    assert reasons(rig.order("D", 1, side="S", **kind)) == ["SYMBOL_POSITION"]


@pytest.mark.parametrize("group", ["limits", "breakers"])
def test_a_missing_limit_blocks(config: Configure, group: str) -> None:
    for name in config(1)[group]:
        document = config(1)
        del document[group][name]
        rig = Rig(document)
        assert reasons(rig.order("A")) == ["MISSING_LIMIT"], name
        assert rig.engine.missing_limits == [f"{group}.{name}"]
        assert rig.sent() == []


def test_a_limit_of_zero_lets_nothing_pass(config: Configure) -> None:
    for name in config(1)["limits"]:
        assert limited(config, **{name: 0}).order("A")[0][1] == "8", name


def test_message_rate_begins_anew_each_second(config: Configure) -> None:
    rig = limited(config, messages_per_s=3)
    rig.engine.risk.clock(5.0)
    assert rig.order("A")[0][1] == "0"
    rig.engine.risk.clock(5.9)
    assert reasons(rig.order("B")) == ["MESSAGE_RATE"]
    rig.engine.risk.clock(6.0)
    assert rig.order("C")[0][1] == "0"


def test_parents_are_bounded(config: Configure) -> None:
    rig = limited(config, parents=2)
    assert [rig.order(name)[0][1] for name in "ABC"] == ["0", "0", "8"]


# -- the gate ------------------------------------------------------------------------------------


def test_nothing_leaves_without_a_fresh_token(rig: Rig) -> None:
    rig.order("A", 100)
    rig.sent()
    parent = rig.user.parents[b"A".ljust(16)]
    plan = Plan(b"S", rig.engine.venues[:1], [100], 0)
    with pytest.raises(NotClearedError):
        rig.engine.gate.release(Cleared(parent, plan))
    parent.unsent, parent.cxl = 100, -100
    cleared = rig.engine.risk.clear(parent, plan)
    rig.engine.gate.release(cleared)
    with pytest.raises(NotClearedError):
        rig.engine.gate.release(cleared)
    assert len(rig.sent()) == 1


def test_children_never_exceed_the_parent(rig: Rig) -> None:
    rig.order("A", 100)
    parent = rig.user.parents[b"A".ljust(16)]
    for sizes in ([1], [0], [-5], [100, -100]):
        venue = rig.engine.venues[0]
        with pytest.raises(RefusedError, match="NOT_CLEARED"):
            rig.engine.risk.clear(parent, Plan(b"S", [venue] * len(sizes), sizes, 0))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_shares_are_never_made_or_lost(data: st.DataObject) -> None:
    """Any order of parents, fills, cancels, rejects and stops: qty = cum + leaves + cxl."""
    rig = Rig(base_config(1, 2))
    arm(rig)
    working: dict[bytes, int] = {}
    for number in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["order", "fill", "fill", "cancel", "stop", "client"]))
        if action == "order":
            word, side = (
                data.draw(st.sampled_from([0, 1, 2, 16])),
                data.draw(st.sampled_from("BSTE")),
            )
            rig.order(f"P{number}", data.draw(st.integers(1, 2_000)), flags=word, side=side)
        elif action == "stop":
            rig.engine.stop(HALTED, "test", "")
            rig.engine.resume(str(rig.engine.latch.latch_id), NOW)
            working = {t: q for t, q in working.items() if t in rig.engine.gate.children}
        elif action == "client" and rig.user.parents:
            rig.engine.cancel_order(rig.user, data.draw(st.sampled_from(list(rig.user.parents))))
        elif working:
            token = data.draw(st.sampled_from(sorted(working)))
            qty = data.draw(st.integers(1, working[token]))
            (rig.fill if action == "fill" else rig.cancel)(token, qty)
            working[token] -= qty
        working |= {token: qty for token, _, qty, _ in rig.sent()}
        working = {token: qty for token, qty in working.items() if qty}
        check(rig, working)


# -- stops and breakers ------------------------------------------------------------------------


def test_a_halt_takes_back_what_has_not_left_and_cancels_the_rest(rig: Rig) -> None:
    rig.order("A", 300)
    left = rig.sent()
    rig.order("B", 300)  # never leaves; A is asked back
    rig.engine.stop(HALTED, "enough", "me")
    assert [(report[0], report[2]) for report in rig.reports()] == [("B", "4")]
    cancels = b"".join(bytes(venue.out) for venue in rig.engine.venues)
    assert cancels.count(b"\x00\x14UX") == 3
    assert rig.sent() == []
    for token, _, qty, _ in left:
        rig.cancel(token, qty)
    (last,) = [report for report in rig.reports() if report[7] == 0]
    assert (last[0], last[8], last[10]) == ("A", R["STOPPED"], 300)
    assert reasons(rig.order("C")) == ["HALTED"]


def test_reducing_lets_positions_shrink_only(rig: Rig) -> None:
    rig.order("A", 300)
    for token, _, qty, _ in rig.sent():
        rig.fill(token, qty)
    rig.engine.stop(REDUCING, "slowly", "me")
    rig.reports()
    assert reasons(rig.order("B", 1)) == ["REDUCING"]
    assert rig.order("C", 200, side="S")[0][1] == "0"
    assert reasons(rig.order("D", 101, side="S")) == ["REDUCING"], "200 are on their way"
    assert rig.order("E", 100, side="S")[0][1] == "0"


@pytest.mark.parametrize(
    ("breaker", "most", "says"),
    [
        ("orders_per_s", 5, "orders a second"),
        ("position_value", 300 * 100_000, "position value"),
        ("children_per_parent", 2, "children of one parent"),
        ("out_per_in", 2, "orders out against orders in"),
    ],
)
def test_breakers_trip_latch_and_cancel(
    config: Configure, breaker: str, most: int, says: str
) -> None:
    rig = limited(config, "breakers", **{breaker: most, "out_per_in_min": 4})
    rig.engine.turn(100.0)
    rig.order("A")
    for token, _, qty, _ in rig.sent():
        rig.fill(token, qty)
    rig.order("B")
    rig.fill(rig.sent()[0][0], 1)
    rig.engine.turn(100.5)
    assert rig.engine.latch.state == HALTED
    assert says in rig.engine.latch.reason
    assert sum(bytes(venue.out).count(b"\x00\x14UX") for venue in rig.engine.venues) == 3
    assert Rig(config(1)).engine.latch.state == "ACTIVE"


def test_reject_rate_trips(config: Configure) -> None:
    rig = limited(config, "breakers", reject_min=4, reject_percent=50)
    rig.engine.turn(100.0)
    for number in range(4):
        rig.order(f"A{number}", 200)
    tokens = [token for token, _, _, _ in rig.sent()]
    for token in tokens[:3]:
        rig.engine.fills.rejected(b"\0\x19SJ" + bytes(8) + token + b"X", 0)
    rig.engine.turn(100.5)
    assert rig.engine.latch.state == "ACTIVE"
    rig.engine.fills.rejected(b"\0\x19SJ" + bytes(8) + tokens[3] + b"X", 0)
    rig.engine.turn(100.6)
    assert "market rejects: 50%" in rig.engine.latch.reason


@pytest.mark.parametrize("kind", ["unknown token", "too many shares", "same match", "after done"])
def test_executions_that_cannot_be_trip(rig: Rig, kind: str) -> None:
    rig.engine.turn(100.0)
    rig.order("A", 100)
    ((token, _, _, _),) = rig.sent()
    if kind == "unknown token":
        rig.fill(b"R1S99999999999", 1)
    elif kind == "too many shares":
        rig.fill(token, 101)
    elif kind == "same match":
        rig.fill(token, 10)
        rig.match -= 1
        rig.fill(token, 10)
    else:
        rig.fill(token, 100)
        rig.fill(token, 100)
    rig.engine.turn(100.1)
    assert "executions repeated" in rig.engine.latch.reason
    assert rig.user.parents[b"A".ljust(16)].cum <= 100


def test_a_resumed_router_trades_and_trips_again(rig: Rig) -> None:
    rig.engine.turn(100.0)
    rig.fill(b"R1S99999999999", 1)
    rig.engine.turn(100.1)
    latch_id = str(rig.engine.latch.latch_id)
    with pytest.raises(ResumeRefusedError, match="not the latch's id"):
        rig.engine.resume("0" * 16, 110.0)
    rig.engine.turn(110.0)
    rig.engine.resume(latch_id, 110.0)
    rig.engine.turn(110.2)
    assert rig.engine.latch.state == "ACTIVE"
    assert rig.order("A")[0][1] == "0"
    rig.fill(b"R1S99999999999", 1)
    rig.engine.turn(110.3)
    assert rig.engine.latch.latch_id not in (None, latch_id)


# -- flags -----------------------------------------------------------------------------------


def test_every_flag_word_of_65536(rig: Rig) -> None:
    """Only words made of bits 0 and 1 reach a market; each other one names why it doesn't."""
    for word in range(65536):
        code = rig.flags.why_not(word)
        if not word & ~3:
            assert code == 0
        elif word & 8:
            assert code == R["RESERVED_FLAG"]
        elif word & ~19:
            assert code == R["UNKNOWN_FLAG"]
        else:
            assert code == R["FLAG_NOT_ARMED"]


def test_a_disarmed_flag_stops_what_would_follow(rig: Rig) -> None:
    arm(rig)
    rig.order("A", 300, flags=16)
    ((token, _, qty, _),) = rig.sent()
    rig.flags.disarm("RETAIL_LIQUIDITY")
    rig.cancel(token, qty)
    assert rig.sent() == []
    assert rig.reports()[-1][8] == R["FLAG_NOT_ARMED"]
