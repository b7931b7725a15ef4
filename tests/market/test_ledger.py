"""The gateway's ledger: believes what adds up, names what doesn't, never deals on a guess."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.market import wire
from deploytool.market.ledger import Ledger, Parent, ParentState
from deploytool.market.load import Load
from deploytool.market.soup import MalformedPacket

ORDER = wire.NewOrderSingle("P1", b"B", 100, "ACME", 100_000, b"0", 0)


def report(exec_id: int, **changes: Any) -> wire.ExecutionReport:
    plain = wire.ExecutionReport("P1", b"0", b"0", 100, 0, 0, 0, 100, 0, exec_id, 0)
    return plain._replace(**changes)


def trade(exec_id: int, qty: int, cum: int, **changes: Any) -> wire.ExecutionReport:
    filled = wire.FILLED if cum == 100 else b"1"
    done: dict[str, Any] = {
        "exec_type": b"F", "ord_status": filled, "last_qty": qty, "last_px": 7, "cum_qty": cum,
        "leaves_qty": 100 - cum,
    }  # fmt: skip
    return report(exec_id, **done | changes)


def dealt() -> tuple[Ledger, Parent]:
    ledger = Ledger()
    ledger.add(ORDER)
    parent = ledger.waiting[0].popleft()
    ledger.deal(parent, "router1", 0)
    return ledger, parent


def test_a_parent_from_dealing_to_its_end() -> None:
    ledger, parent = dealt()
    ledger.apply("router1", report(1))
    assert parent.state is ParentState.OPEN
    assert not ledger.sent["router1"]
    ledger.apply("router1", trade(2, 60, 60))
    ledger.apply("router1", trade(3, 40, 100))
    assert (parent.state, parent.cum, parent.seen, parent.value) == (
        ParentState.DONE,
        100,
        100,
        700,
    )
    assert ledger.problem_count == 0


@pytest.mark.parametrize(
    ("router", "wrong", "words"),
    [
        ("router2", report(9), "doesn't have it"),
        ("router1", report(9, cl_ord_id="P2"), "never sent"),
        ("router1", report(5), "twice or late"),
        ("router1", report(9, order_qty=200, leaves_qty=200), "OrderQty 200"),
        ("router1", report(9, leaves_qty=99), "is not CumQty"),
    ],
)
def test_a_report_that_does_not_add_up_is_named_and_changes_nothing(
    router: str, wrong: wire.ExecutionReport, words: str
) -> None:
    ledger, parent = dealt()
    ledger.apply("router1", report(5))
    before = parent.row()
    ledger.apply(router, wrong)
    assert words in ledger.problems[0]
    assert parent.row() == before


@pytest.mark.parametrize(
    "wrong",
    [
        trade(9, 10, 80),
        trade(9, 50, 50),
        report(9, exec_type=b"8", ord_status=b"8"),
        report(9, exec_type=b"4", ord_status=b"4", cum_qty=60, leaves_qty=40),
    ],
)
def test_a_story_that_jumps_is_named(wrong: wire.ExecutionReport) -> None:
    ledger, _ = dealt()
    ledger.apply("router1", report(1))
    ledger.apply("router1", trade(2, 60, 60))
    ledger.apply("router1", wrong)
    assert ledger.problem_count


def test_after_a_lost_line_a_jump_is_no_surprise_but_going_back_is() -> None:
    ledger, parent = dealt()
    ledger.apply("router1", report(1))
    ledger.line_lost("router1")
    ledger.apply("router1", trade(7, 10, 80))
    assert ledger.problem_count == 0
    assert (parent.cum, parent.seen) == (80, 10)
    ledger.line_lost("router1")
    ledger.apply("router1", trade(8, 10, 40))
    assert ledger.problem_count == 1


def test_nothing_may_happen_after_the_end() -> None:
    ledger, parent = dealt()
    ledger.apply("router1", trade(1, 100, 100))
    ledger.apply("router1", report(2, exec_type=b"I", cum_qty=100, leaves_qty=0, ord_status=b"2"))
    assert ledger.problem_count == 0
    ledger.apply("router1", trade(3, 100, 100))
    assert ledger.problem_count == 1
    assert parent.seen == 100
    ledger.apply("router1", report(4, exec_type=b"4", leaves_qty=0, cxl_qty=100))
    assert ledger.problem_count == 2


def test_a_cancellation_that_was_told_before_may_be_told_again() -> None:
    ledger, parent = dealt()
    done = {"ord_status": b"4", "leaves_qty": 0, "cxl_qty": 100}
    ledger.apply("router1", report(1, exec_type=b"I", **done))
    ledger.apply("router1", report(2, exec_type=b"4", **done))
    assert (ledger.problem_count, parent.state) == (0, ParentState.DONE)


@pytest.mark.parametrize("reason", sorted(wire.TRY_ELSEWHERE))
def test_only_a_router_that_says_no_frees_a_parent_for_another(reason: int) -> None:
    ledger, parent = dealt()
    ledger.line_lost("router1")
    assert not any(ledger.waiting.values())
    assert parent.row()["state"] == "sent"
    ledger.apply("router1", report(1, exec_type=b"8", ord_status=b"8", reason=reason))
    assert parent.state is ParentState.WAITING
    assert list(ledger.waiting[0]) == [parent]


def test_a_rejection_of_the_order_itself_is_final_and_so_is_the_last_try() -> None:
    ledger, parent = dealt()
    ledger.apply("router1", report(1, ord_status=b"8", reason=4))
    assert parent.state is ParentState.REJECTED
    ledger, parent = dealt()
    parent.dealt = ledger.max_dealt
    ledger.apply("router1", report(1, ord_status=b"8", reason=wire.Reason.DRAINING))
    assert parent.state is ParentState.REJECTED


def test_doubt_is_shown_until_it_is_settled() -> None:
    ledger, parent = dealt()
    ledger.apply("router1", report(1, exec_type=b"I", ord_status=wire.IN_DOUBT))
    assert parent.row()["in_doubt"]
    ledger.apply("router1", report(2, exec_type=b"4", ord_status=b"4", leaves_qty=0, cxl_qty=100))
    assert (parent.row()["in_doubt"], parent.state) == (False, ParentState.DONE)


def test_problems_are_counted_without_end_and_kept_to_a_bound() -> None:
    ledger = Ledger()
    for n in range(1000):
        ledger.problem(str(n))
    assert (ledger.problem_count, len(ledger.problems)) == (1000, 200)


@given(st.binary(max_size=160))
def test_garbage_from_a_router_is_malformed(raw: bytes) -> None:
    for read in (wire.unpack_report, wire.unpack_session_info, wire.unpack_cancel_reject):
        try:
            read(raw)
        except MalformedPacket:
            continue
        assert len(raw) in (53, 142, 19)


@pytest.mark.parametrize(
    "wrong",
    [
        {"parents": 0}, {"parents": 10**9}, {"rate": 0.0001}, {"limits": {}}, {"qty": (0, 5)},
        {"qty": (9, 5)}, {"sides": ""}, {"sides": "X"}, {"time_in_force": "for ever"},
    ],
)  # fmt: skip
def test_a_load_has_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Load(**dict[str, Any](parents=10, limits={"ACME": (1, 1)}) | wrong)


def test_a_load_is_the_same_for_the_same_seed() -> None:
    load = Load(50, {"ACME": (11, 9), "ZINC": (5, 4)}, seed=3)
    first = list(load.orders("G-", 0))
    assert first == list(load.orders("G-", 0))
    assert len({order.cl_ord_id for order in first}) == 50
    assert {(o.side, o.price) for o in first} == {(b"B", 11), (b"S", 9), (b"B", 5), (b"S", 4)}
