"""The exchange against a naive oracle: what it answered must add up to what its books say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.market import ouch
from deploytool.market.exchange import Exchange, Mode, Quote

from .peers import order

HOSTS = ("RTR001", "RTR002")
prices = st.sampled_from([90_000, 99_900, 100_000, 110_000])
quotes = st.builds(
    lambda bid, spread, mode, delay: Quote(bid, bid + spread, mode, delay),
    prices, st.sampled_from([0, 100, 5_000]), st.sampled_from(Mode), st.sampled_from([0.0, 2.0]),
)  # fmt: skip
steps = st.one_of(
    st.tuples(
        st.just("enter"), st.sampled_from(HOSTS), st.integers(0, 30),
        st.sampled_from([b"B", b"S", b"T", b"E"]), st.integers(0, 999), prices,
        st.sampled_from([0, 3, 99998, 99999]),
    ),
    st.tuples(st.just("cancel"), st.sampled_from(HOSTS), st.integers(0, 30), st.integers(0, 999)),
    st.tuples(st.just("gone"), st.sampled_from(HOSTS)),
    st.tuples(st.just("quote"), quotes),
    st.tuples(st.just("tick"), st.sampled_from([0.5, 2.0])),
)  # fmt: skip


@given(st.lists(steps, max_size=60))
def test_every_share_is_accounted_for(script: list[Any]) -> None:
    exchange = Exchange({"ACME": Quote(99_900, 100_000)})
    told: list[tuple[str, bytes]] = []
    now = 0.0
    for what, *rest in script:
        match what, rest:
            case "enter", (host, n, side, shares, price, tif):
                message = order(f"T{n}", side, shares, price, tif)
                told += [(host, a) for a in exchange.enter(host, message, now, 0)]
            case "cancel", (host, n, shares):
                cancel = ouch.CancelOrder(ouch.alpha(f"T{n}", 14), shares)
                told += [(host, a) for a in exchange.cancel(host, cancel, 0)]
            case "gone", (host,):
                told += [(host, a) for a in exchange.disconnected(host, 0)]
                assert not exchange.account(host).working
            case "quote", (quote,):
                told += exchange.requote("ACME", quote, 0)
            case "tick", (passes,):
                now += passes
                told += exchange.tick(now, 0)
    _compare(exchange, told)


def _compare(exchange: Exchange, told: list[tuple[str, bytes]]) -> None:
    """Build the books again from the answers alone, and hold them against the exchange's."""
    leaves: Counter[tuple[str, bytes]] = Counter()
    orders: dict[tuple[str, bytes], ouch.Accepted] = {}
    bought: Counter[str] = Counter()
    sold: Counter[str] = Counter()
    money: Counter[str] = Counter()
    for host, raw in told:
        match ouch.unpack_outbound(raw):
            case ouch.Accepted() as accepted:
                assert (host, accepted.token) not in orders
                orders[host, accepted.token] = accepted
                leaves[host, accepted.token] = accepted.shares
            case ouch.Executed() as done:
                entry = orders[host, done.token]
                leaves[host, done.token] -= done.shares
                buying = entry.side == b"B"
                assert done.price <= entry.price if buying else done.price >= entry.price
                (bought if buying else sold)[host] += done.shares
                money[host] += done.shares * done.price * (1 if buying else -1)
            case ouch.Canceled() as canceled:
                leaves[host, canceled.token] -= canceled.decrement
            case other:
                assert isinstance(other, ouch.Rejected)
    assert all(left >= 0 for left in leaves.values())
    for host, account in exchange.accounts.items():
        held = account.holdings.values()
        assert sum(h.bought for h in held) == bought[host]
        assert sum(h.sold for h in held) == sold[host]
        assert sum(h.paid - h.received for h in held) == money[host]
        for token, one in account.orders.items():
            assert one.leaves == leaves[host, token]
            assert one.enter.shares == one.leaves + one.executed + one.canceled
        assert {t for t, o in account.orders.items() if o.leaves} == set(account.working)


def test_a_full_market_takes_no_more_orders() -> None:
    exchange = Exchange({"ACME": Quote(99_900, 100_000)}, max_orders=2)
    answers = [exchange.enter("RTR001", order(f"T{n}"), 0.0, 0)[0] for n in range(4)]
    assert [a[:1] for a in answers] == [b"A", b"A", b"J", b"J"]


@pytest.mark.parametrize(("bid", "ask"), [(0, 1), (2, 1), (-1, 1), (1, 2_000_000_000)])
def test_a_quote_that_is_none_is_refused(bid: int, ask: int) -> None:
    with pytest.raises(ValueError, match="bid"):
        Quote(bid, ask)
