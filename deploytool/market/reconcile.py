"""Whether three witnesses tell one story: the gateway, the market, and each router.

Pure. Share by share, host by host, parent by parent; every difference in words that name
the host and both numbers. Nothing to compare is a difference, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Key = tuple[str, str]
"""Host and symbol."""

_HAD = ("open", "done")
_NOTHING: Row = {"position": 0, "cost": 0}


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What each of the three says."""

    parents: Sequence[Row]
    """The gateway's rows, one a parent."""
    problems: Sequence[str]
    """What the gateway found wrong in the routers' reports."""
    books: Sequence[Row]
    """The market's rows, one a venue, login and symbol."""
    accounts: Sequence[Row]
    """The market's rows, one a venue and login."""
    routers: Mapping[str, Row]
    """By host: what ``router status --json`` answered."""
    logins: Mapping[str, str]
    """By the name a router logs in to the market with: its host."""
    before: Mapping[str, Row] | None = None
    """By host: what ``router status --json`` answered before it saw this market. None: they began
    with nothing."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The outcome. Equal only if there was something to compare and nothing differed."""

    differences: tuple[str, ...]
    parents: int
    executed: int
    hosts: int
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether all three agree to the share."""
        return not self.differences

    def __str__(self) -> str:
        """Return the outcome in one line."""
        story = f"{self.parents} parents, {self.executed} shares, {self.hosts} hosts"
        if self.equal:
            return f"EQUAL: {story}"
        return f"DIFFERENT in {len(self.differences)} points: {story}"


def reconcile(told: Witnesses) -> Reconciliation:
    """Compare everything that can be compared."""
    differences = [
        *_anything(told),
        *(f"gateway: {problem}" for problem in told.problems),
        *_parents(told.parents),
        *_shares(told),
        *_working(told),
        *_routers(told),
    ]
    unseen = sum(row["cum"] - row["seen"] for row in told.parents)
    notes = (
        (f"{unseen} shares traded unseen by the gateway: only market and routers know the price",)
        if unseen
        else ()
    )
    return Reconciliation(
        tuple(differences),
        len(told.parents),
        sum(row["bought"] + row["sold"] for row in told.books),
        len(told.routers),
        notes,
    )


def _anything(told: Witnesses) -> Iterator[str]:
    if not told.parents:
        yield "there are no parents: nothing was shown"
    if not told.routers:
        yield "no router was asked: nothing was shown"
    for host in sorted({row["router"] for row in told.parents} - {""} - told.routers.keys()):
        yield f"{host}: has parents, and was not asked for its status"
    for login in sorted({row["host"] for row in (*told.accounts, *told.books)}):
        if told.logins.get(login) not in told.routers:
            yield f"market: {login} traded, and is none of the fleet's routers"
    seen: Counter[str] = Counter(row["id"] for row in told.parents)
    yield from (f"{name}: {n} parents have this ClOrdID" for name, n in seen.items() if n > 1)


def _parents(parents: Iterable[Row]) -> Iterator[str]:
    for row in parents:
        name = f"{row['router'] or 'no router'}, {row['id']}"
        wrong = _had(row) if row["state"] in _HAD else _never_had(row)
        yield from (f"{name}: {text}" for text in wrong)


def _never_had(row: Row) -> Iterator[str]:
    total = row["cum"] + row["leaves"] + row["cxl"]
    if row["state"] != "rejected":
        yield f"{row['state']}, never acknowledged"
    if total:
        yield f"{row['state']}, and yet {total} of its shares are accounted for"


def _had(row: Row) -> Iterator[str]:
    own = [row["cum"], row["leaves"], row["cxl"]]
    if row["in_doubt"]:
        yield f"in doubt, {row['leaves']} shares may work in the market or not"
    if min(own) < 0 or sum(own) != row["order_qty"]:
        yield (
            f"OrderQty {row['order_qty']} is not CumQty {row['cum']} + LeavesQty "
            f"{row['leaves']} + cancelled {row['cxl']}"
        )
    if row["seen"] > row["cum"]:
        yield f"executions of {row['seen']} shares reported, CumQty {row['cum']}"
    if row["state"] == "done" and row["leaves"]:
        yield f"done, with LeavesQty {row['leaves']}"
    if row["audit"] is None:
        yield "the router was not asked, or has no record of it"
    elif list(row["audit"]) != own:
        yield (
            f"CumQty, LeavesQty, cancelled are {own} at the gateway and "
            f"{list(row['audit'])} in the router's record"
        )


def _shares(told: Witnesses) -> Iterator[str]:
    """Every share and (where each execution was seen) every cent, by host, symbol and side."""
    shares: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for row in told.parents:
        if row["state"] in _HAD:
            buying = row["side"] == "B"
            sums = shares[row["router"], row["symbol"]]
            sums["bought" if buying else "sold"] += row["cum"]
            sums["paid" if buying else "received"] += row["value"]
            sums["paid unseen" if buying else "received unseen"] += row["cum"] - row["seen"]
    market = _market(told)
    for key in sorted(shares.keys() | market.keys()):
        ours, theirs = shares[key], market[key]
        for what in ("bought", "sold", "paid", "received"):
            if ours[f"{what} unseen"]:
                continue
            if ours[what] != theirs[what]:
                yield (
                    f"{key[0]}, {key[1]}: {what} {ours[what]} by the parents, {theirs[what]} by "
                    f"the market's books (differs by {theirs[what] - ours[what]:+d})"
                )


def _market(told: Witnesses) -> defaultdict[Key, Counter[str]]:
    """Add up the venues' books by the fleet's own names for its hosts."""
    market: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for row in told.books:
        sums = market[told.logins.get(row["host"], row["host"]), row["symbol"]]
        for what in ("bought", "sold", "paid", "received", "position"):
            sums[what] += row[what]
    return market


def _working(told: Witnesses) -> Iterator[str]:
    """Find hosts for which the market works more than their parents have left."""
    leaves: Counter[str] = Counter()
    for row in told.parents:
        leaves[row["router"]] += row["leaves"]
    working: Counter[str] = Counter()
    for row in told.accounts:
        working[told.logins.get(row["host"], row["host"])] += row["working_shares"]
    for host in sorted(working):
        if working[host] > leaves[host]:
            yield (
                f"{host}: {working[host]} shares work in the market, and its parents have "
                f"{leaves[host]} left"
            )


def _had_before(told: Witnesses, host: str) -> Mapping[str, Row] | None:
    """A router's positions before it saw this market; None where it was not asked."""
    if told.before is None:
        return {}
    return told.before[host]["positions"] if host in told.before else None


def _routers(told: Witnesses) -> Iterator[str]:
    """Each router's own positions against the market's books, and that nothing is in doubt."""
    market = _market(told)
    for host, status in sorted(told.routers.items()):
        if doubt := status["counters"]["in_doubt"]:
            yield f"{host}: {doubt} children are in doubt"
        own, had = status["positions"], _had_before(told, host)
        if had is None:
            yield f"{host}: was not asked what it held before"
            continue
        for symbol in sorted(own.keys() | had.keys() | {s for h, s in market if h == host}):
            books = market[host, symbol]
            theirs = (books["position"], books["paid"] - books["received"])
            now, then = own.get(symbol, _NOTHING), had.get(symbol, _NOTHING)
            mine = (now["position"] - then["position"], now["cost"] - then["cost"])
            if mine != theirs:
                yield (
                    f"{host}, {symbol}: position and cost are {mine[0]} and {mine[1]} at the "
                    f"router, {theirs[0]} and {theirs[1]} by the market's books"
                )
            if books["position"] != books["bought"] - books["sold"]:
                yield f"{host}, {symbol}: the market's own position is not bought - sold"
