"""An altered share is always found, whoever altered it."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deploytool.market.reconcile import Witnesses, reconcile

HOSTS = ("router1", "router2", "router3")
LOGINS = {"RTR001": "router1", "RTR002": "router2", "RTR003": "router3"}
SYMBOLS = ("ACME", "GLOBEX")

parent: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "router": st.sampled_from(HOSTS),
        "symbol": st.sampled_from(SYMBOLS),
        "side": st.sampled_from("BSTE"),
        "cum": st.integers(0, 900),
        "leaves": st.integers(0, 3),
        "cxl": st.integers(0, 900),
        "price": st.integers(1, 10**6),
        "venue": st.sampled_from(("XA", "XB")),
    }
)


@st.composite
def worlds(draw: st.DrawFn) -> Witnesses:
    """Three witnesses of the same trades."""
    drawn = draw(st.lists(parent, min_size=1, max_size=12))
    parents: list[dict[str, Any]] = []
    books: dict[tuple[str, str, str], dict[str, Any]] = {}
    accounts: dict[tuple[str, str], dict[str, Any]] = {}
    positions: dict[str, dict[str, Counter[str]]] = {host: {} for host in HOSTS}
    login = {host: name for name, host in LOGINS.items()}
    for number, p in enumerate(drawn):
        value = p["cum"] * p["price"]
        parents.append(
            {
                "id": f"P{number}", "side": p["side"], "symbol": p["symbol"],
                "order_qty": p["cum"] + p["leaves"] + p["cxl"], "router": p["router"],
                "state": "open" if p["leaves"] else "done", "cum": p["cum"],
                "leaves": p["leaves"], "cxl": p["cxl"], "seen": p["cum"], "value": value,
                "in_doubt": False, "audit": [p["cum"], p["leaves"], p["cxl"]],
            }
        )  # fmt: skip
        key = (p["venue"], login[p["router"]])
        account = accounts.setdefault(key, {"venue": key[0], "host": key[1], "working_shares": 0})
        account["working_shares"] += p["leaves"]
        if not p["cum"]:
            continue
        book = books.setdefault(
            (*key, p["symbol"]),
            {
                "venue": key[0], "host": key[1], "symbol": p["symbol"], "position": 0,
                "bought": 0, "sold": 0, "paid": 0, "received": 0,
            },
        )  # fmt: skip
        own = positions[p["router"]].setdefault(p["symbol"], Counter())
        sign = 1 if p["side"] == "B" else -1
        book["bought" if sign > 0 else "sold"] += p["cum"]
        book["paid" if sign > 0 else "received"] += value
        book["position"] += sign * p["cum"]
        own["position"] += sign * p["cum"]
        own["cost"] += sign * value
    routers = {
        host: {
            "counters": {"in_doubt": 0},
            "positions": {s: {"position": c["position"], "cost": c["cost"]} for s, c in p.items()},
        }
        for host, p in positions.items()
    }
    return Witnesses(parents, (), list(books.values()), list(accounts.values()), routers, LOGINS)


@given(worlds())
def test_a_true_story_is_equal(told: Witnesses) -> None:
    result = reconcile(told)
    assert result.equal, result.differences
    assert result.executed == sum(p["cum"] for p in told.parents)
    assert str(result).startswith("EQUAL")


held = st.dictionaries(
    st.sampled_from((*SYMBOLS, "INITECH")),
    st.fixed_dictionaries({"position": st.integers(-900, 900), "cost": st.integers(-900, 900)}),
)


@given(worlds(), st.fixed_dictionaries(dict.fromkeys(HOSTS, held)))
def test_what_routers_held_before_is_none_of_this_markets_trades(
    told: Witnesses, held_before: dict[str, dict[str, Any]]
) -> None:
    later = copy.deepcopy(told)
    for host, had in held_before.items():
        own: Any = later.routers[host]["positions"]
        for symbol, numbers in had.items():
            now = own.setdefault(symbol, {"position": 0, "cost": 0})
            for what, number in numbers.items():
                now[what] += number
    before: dict[str, Any] = {host: {"positions": had} for host, had in held_before.items()}
    result = reconcile(replace(later, before=before))
    assert result.equal, result.differences
    missing = {host: had for host, had in before.items() if host != "router2"}
    result = reconcile(replace(later, before=missing))
    assert result.differences == ("router2: was not asked what it held before",)
    if any(any(n.values()) for had in held_before.values() for n in had.values()):
        assert not reconcile(later).equal


NUMBERS = {
    "parents": ("order_qty", "cum", "leaves", "cxl", "seen", "value", "audit"),
    "books": ("bought", "sold", "paid", "received", "position"),
    "routers": ("position", "cost", "in_doubt"),
}


@given(worlds(), st.data())
def test_an_altered_number_is_always_found(told: Witnesses, data: st.DataObject) -> None:
    who = data.draw(st.sampled_from(sorted(NUMBERS)))
    what = data.draw(st.sampled_from(NUMBERS[who]))
    by = data.draw(st.integers(-500, 500).filter(bool))
    altered = copy.deepcopy(told)
    if who == "routers":
        router: Any = altered.routers[data.draw(st.sampled_from(HOSTS))]
        if what == "in_doubt":
            router["counters"]["in_doubt"] += abs(by)
        else:
            assume(router["positions"])
            router["positions"][data.draw(st.sampled_from(sorted(router["positions"])))][what] += by
    else:
        rows: Any = getattr(altered, who)
        assume(rows)
        row = data.draw(st.sampled_from(rows))
        if what == "audit":
            row[what][data.draw(st.integers(0, 2))] += by
        elif what == "seen":
            row[what] += abs(by)  # fewer is a lost line, which is no difference: see below
        else:
            row[what] += by
    result = reconcile(altered)
    assert not result.equal, (who, what, by)
    assert str(result).startswith("DIFFERENT")


@given(worlds(), st.data())
def test_a_missing_or_doubled_row_is_always_found(told: Witnesses, data: st.DataObject) -> None:
    who = data.draw(st.sampled_from(["parents", "books"]))
    rows: Any = list(getattr(told, who))
    assume(rows)
    at = data.draw(st.integers(0, len(rows) - 1))
    assume(who == "books" or rows[at]["cum"] or len(rows) == 1)
    for other in (rows[:at] + rows[at + 1 :], [*rows, rows[at]]):
        change: dict[str, Any] = {who: other}
        assert not reconcile(replace(told, **change)).equal


@given(worlds(), st.sampled_from(HOSTS))
def test_a_host_that_was_not_asked_is_a_difference(told: Witnesses, host: str) -> None:
    assume(any(p["router"] == host for p in told.parents))
    others = {name: status for name, status in told.routers.items() if name != host}
    assert any(host in text for text in reconcile(replace(told, routers=others)).differences)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"audit": None}, "no record"),
        ({"state": "sent"}, "never acknowledged"),
        ({"state": "waiting"}, "never acknowledged"),
        ({"state": "rejected"}, "accounted for"),
        ({"in_doubt": True}, "in doubt"),
        ({"router": "router2"}, "market's books"),
        ({"symbol": "GLOBEX"}, "market's books"),
        ({"side": "S"}, "market's books"),
        ({"leaves": 1, "cxl": -1}, "LeavesQty"),
    ],
)
def test_each_kind_of_lie_has_its_words(change: dict[str, Any], words: str) -> None:
    row = _one_parent() | change
    result = reconcile(replace(_one(), parents=[row]))
    assert any(words in text for text in result.differences), result.differences


def test_shares_traded_while_a_line_was_broken_are_compared_and_their_price_is_a_note() -> None:
    row = _one_parent() | {"seen": 60, "value": 60 * 7}
    result = reconcile(replace(_one(), parents=[row]))
    assert result.equal
    assert "40 shares" in result.notes[0]
    books = [dict(_one().books[0]) | {"bought": 101, "position": 101}]
    assert not reconcile(replace(_one(), parents=[row], books=books)).equal


def test_nothing_is_not_equal() -> None:
    nothing = Witnesses([], (), [], [], {}, {})
    assert len(reconcile(nothing).differences) == 2
    assert not reconcile(replace(_one(), routers={})).equal


def test_a_stranger_on_the_market_and_a_gateways_finding_are_differences() -> None:
    stranger = {"venue": "XA", "host": "RTR009", "working_shares": 0}
    [text] = reconcile(replace(_one(), accounts=[stranger])).differences
    assert "RTR009" in text
    [text] = reconcile(replace(_one(), problems=["a report came twice"])).differences
    assert "twice" in text


def test_orders_that_work_for_nobody_are_found() -> None:
    account = {"venue": "XA", "host": "RTR001", "working_shares": 5}
    [text] = reconcile(replace(_one(), accounts=[account])).differences
    assert "router1: 5 shares work" in text


def _one_parent() -> dict[str, Any]:
    return {
        "id": "P1", "side": "B", "symbol": "ACME", "order_qty": 100, "router": "router1",
        "state": "done", "cum": 100, "leaves": 0, "cxl": 0, "seen": 100, "value": 700,
        "in_doubt": False, "audit": [100, 0, 0],
    }  # fmt: skip


def _one() -> Witnesses:
    book = {
        "venue": "XA", "host": "RTR001", "symbol": "ACME", "position": 100, "bought": 100,
        "sold": 0, "paid": 700, "received": 0,
    }  # fmt: skip
    status = {"counters": {"in_doubt": 0}, "positions": {"ACME": {"position": 100, "cost": 700}}}
    empty: dict[str, Any] = {"counters": {"in_doubt": 0}, "positions": {}}
    routers = {"router1": status, "router2": empty, "router3": empty}
    return Witnesses([_one_parent()], (), [book], [], routers, LOGINS)
