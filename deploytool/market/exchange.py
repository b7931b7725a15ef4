"""What the market does with an order. Pure: no clock, no socket; time comes in as ``now``.

Every order trades against the house: buys at the ask, sells at the bid, when their limit
allows it. How much of an order the house takes, and when, is the symbol's ``Mode``; that is
how a rehearsal gets fills, working orders, rejects and slow markets on demand.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Final

from deploytool.market import ouch

_DOLLAR: Final = 10_000
_CENT: Final = 100


class Mode(Enum):
    """What the house does with an order that could trade."""

    FILL = "fill"
    HALF = "half"
    """Takes half of it at once, rounded down; the rest works."""
    REST = "rest"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Quote:
    """A symbol's market: prices with four implied decimals, and how the house behaves."""

    bid: int
    ask: int
    mode: Mode = Mode.FILL
    delay_s: float = 0.0
    """How long after its acceptance an order trades."""

    def __post_init__(self) -> None:
        if type(self.bid) is not int or type(self.ask) is not int:  # as JSON had it
            raise TypeError("bid and ask are integers with four implied decimals")
        if not 0 < self.bid <= self.ask <= ouch.MAX_PRICE:
            raise ValueError(f"bid {self.bid}, ask {self.ask}: 0 < bid <= ask is needed")
        if not 0 <= self.delay_s <= 60:
            raise ValueError(f"delay of {self.delay_s} s; 0 to 60 are possible")


@dataclass(slots=True)
class Holding:
    """What one host traded in one symbol. Money is in ten-thousandths of a dollar."""

    bought: int = 0
    sold: int = 0
    paid: int = 0
    received: int = 0
    executions: int = 0

    @property
    def position(self) -> int:
        """Shares held: negative is short."""
        return self.bought - self.sold


@dataclass(slots=True)
class Order:
    """One child order, from acceptance on."""

    host: str
    enter: ouch.EnterOrder
    symbol: str
    reference: int
    leaves: int
    executed: int = 0
    canceled: int = 0
    expires: float = 0.0
    """When it is withdrawn, or zero for never."""


@dataclass(slots=True)
class Account:
    """Everything the market knows of one host."""

    holdings: dict[str, Holding] = field(default_factory=dict)
    orders: dict[bytes, Order] = field(default_factory=dict)
    working: dict[bytes, Order] = field(default_factory=dict)
    rejected: dict[bytes, str] = field(default_factory=dict)
    entered: int = 0
    repeated: int = 0
    accepted: int = 0
    executions: int = 0
    last_order: float | None = None
    """When its last order arrived, whatever became of it."""


class Exchange:
    """Orders in, answers out, books kept."""

    def __init__(self, quotes: dict[str, Quote], max_orders: int = 1_000_000) -> None:
        self.quotes = dict(quotes)
        self.accounts: dict[str, Account] = {}
        self._max_orders = max_orders
        self._orders = 0
        self._due: list[tuple[float, int, Order]] = []
        self._numbers = count(1)

    def account(self, host: str) -> Account:
        """Return the host's account; the first use opens it."""
        account = self.accounts.get(host)
        if account is None:
            account = self.accounts[host] = Account()
        return account

    def enter(self, host: str, order: ouch.EnterOrder, now: float, stamp: int) -> list[bytes]:
        """Take an order; return the packed answers."""
        account = self.account(host)
        account.last_order = now
        account.entered += 1
        token = order.token
        if token in account.orders or token in account.rejected:
            account.repeated += 1  # the specification: a repeated token is ignored
            return []
        symbol = order.stock.rstrip().decode("ascii", "replace")
        quote = self.quotes.get(symbol)
        if reason := self._why_not(order, quote):
            account.rejected[token] = reason.decode()
            self._orders += 1
            return [ouch.pack_rejected(stamp, token, reason)]
        assert quote is not None  # noqa: S101 - _why_not refuses a symbol without a quote
        self._orders += 1
        reference = next(self._numbers)
        taken = Order(host, order, symbol, reference, order.shares)
        account.orders[token] = account.working[token] = taken
        account.accepted += 1
        answers = [ouch.pack_accepted(stamp, order, reference)]
        if quote.delay_s:
            self._later(now + quote.delay_s, taken)
        else:
            answers += self._execute(account, taken, quote, stamp)
        if taken.leaves and ouch.IMMEDIATE_OR_CANCEL < order.time_in_force < ouch.MARKET_HOURS:
            taken.expires = now + order.time_in_force
            self._later(taken.expires, taken)
        return answers

    def cancel(self, host: str, cancel: ouch.CancelOrder, stamp: int) -> list[bytes]:
        """Reduce an order. What isn't working is past cancelling, and gets no answer."""
        account = self.account(host)
        order = account.working.get(cancel.token)
        if order is None:
            return []
        excess = order.leaves - max(0, cancel.shares - order.executed)
        return self._cancel(account, order, excess, ouch.CANCEL_USER, stamp)

    def disconnected(self, host: str, stamp: int) -> list[bytes]:
        """Cancel all that works for a host whose session ended."""
        account = self.account(host)
        answers: list[bytes] = []
        for order in list(account.working.values()):
            answers += self._cancel(account, order, order.leaves, ouch.CANCEL_SYSTEM, stamp)
        return answers

    def requote(self, symbol: str, quote: Quote, stamp: int) -> Iterator[tuple[str, bytes]]:
        """Change a symbol's market; what works and can trade now does. Yields (host, answer)."""
        self.quotes[symbol] = quote
        for host, account in self.accounts.items():
            for order in [o for o in account.working.values() if o.symbol == symbol]:
                for answer in self._trade(account, order, quote, stamp):
                    yield host, answer

    def next_due(self) -> float | None:
        """When ``tick`` has something to do, or None."""
        return self._due[0][0] if self._due else None

    def tick(self, now: float, stamp: int) -> Iterator[tuple[str, bytes]]:
        """Do what is due: delayed trades, and orders whose time is over."""
        while self._due and self._due[0][0] <= now:
            _, _, order = heapq.heappop(self._due)
            account = self.account(order.host)
            if not order.leaves:
                continue
            if order.expires and order.expires <= now:
                answers = self._cancel(account, order, order.leaves, ouch.CANCEL_TIMEOUT, stamp)
            else:
                answers = self._execute(account, order, self.quotes[order.symbol], stamp)
            for answer in answers:
                yield order.host, answer

    def _why_not(self, order: ouch.EnterOrder, quote: Quote | None) -> bytes:
        sub_penny = order.price >= _DOLLAR and order.price % _CENT
        checks = (
            (self._orders >= self._max_orders, ouch.REJECT_OTHER),
            (quote is None, ouch.REJECT_STOCK),
            (quote is not None and quote.mode is Mode.REJECT, ouch.REJECT_HALTED),
            (not 0 < order.shares <= ouch.MAX_SHARES, ouch.REJECT_SHARES),
            (not 0 < order.price <= ouch.MAX_PRICE or sub_penny, ouch.REJECT_PRICE),
            (order.time_in_force > ouch.SYSTEM_HOURS, ouch.REJECT_OTHER),
            (order.minimum_quantity != 0, ouch.REJECT_MIN_QUANTITY),
            (order.cross_type != ouch.CONTINUOUS, ouch.REJECT_CROSS),
        )
        return next((reason for wrong, reason in checks if wrong), b"")

    def _execute(self, account: Account, order: Order, quote: Quote, stamp: int) -> list[bytes]:
        """Trade what can be; an immediate-or-cancel order does not outlive it."""
        answers = self._trade(account, order, quote, stamp)
        if order.leaves and order.enter.time_in_force == ouch.IMMEDIATE_OR_CANCEL:
            answers += self._cancel(account, order, order.leaves, ouch.CANCEL_IMMEDIATE, stamp)
        return answers

    def _trade(self, account: Account, order: Order, quote: Quote, stamp: int) -> list[bytes]:
        buying = order.enter.side in ouch.BUYS
        price = quote.ask if buying else quote.bid
        limit = order.enter.price
        if not order.leaves or (price > limit if buying else price < limit):
            return []
        if quote.mode is Mode.FILL:
            shares = order.leaves
        elif quote.mode is Mode.HALF and not order.executed:
            shares = order.leaves // 2
        else:
            shares = 0
        if not shares:
            return []
        order.leaves -= shares
        order.executed += shares
        if not order.leaves:
            del account.working[order.enter.token]
        holding = account.holdings.get(order.symbol)
        if holding is None:
            holding = account.holdings[order.symbol] = Holding()
        if buying:
            holding.bought += shares
            holding.paid += shares * price
        else:
            holding.sold += shares
            holding.received += shares * price
        holding.executions += 1
        account.executions += 1
        match = next(self._numbers)
        return [ouch.pack_executed(stamp, order.enter.token, shares, price, match)]

    def _cancel(
        self, account: Account, order: Order, shares: int, reason: bytes, stamp: int
    ) -> list[bytes]:
        if shares <= 0:
            return []
        order.leaves -= shares
        order.canceled += shares
        if not order.leaves:
            del account.working[order.enter.token]
        return [ouch.pack(ouch.Canceled(stamp, order.enter.token, shares, reason))]

    def _later(self, when: float, order: Order) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), order))
