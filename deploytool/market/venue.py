"""A market as a process: one or more venues, and a socket to ask and to steer them.

``python -m deploytool.market.venue --listen XA=127.0.0.1:9001 --quote ACME=9.99:10.01
--control /run/market.sock``
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Final

from deploytool.market.control import BadRequest, ControlServer, Json
from deploytool.market.exchange import Exchange, Mode, Quote
from deploytool.market.process import serve
from deploytool.market.session import Deadlines, Venue

_PAGE: Final = 20_000
_DECIMALS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Address:
    """Where a venue listens. Port 0 lets the kernel choose."""

    venue: str
    host: str
    port: int


@dataclass(slots=True)
class Market:
    """The venues of a rehearsal, and what can be asked of them."""

    listen: tuple[Address, ...]
    quotes: dict[str, Quote]
    control: Path
    deadlines: Deadlines = field(default_factory=Deadlines)
    max_orders: int = 1_000_000
    bound: list[Address] = field(default_factory=list)
    _venues: dict[str, Venue] = field(default_factory=dict)
    _server: ControlServer | None = None

    async def start(self) -> None:
        """Open every venue, then the control socket: who gets an answer finds a whole market."""
        if not self.listen or len({a.venue for a in self.listen}) != len(self.listen):
            raise ValueError("a market needs venues, each with a name of its own")
        try:
            for address in self.listen:
                venue = Venue(address.venue, Exchange(self.quotes, self.max_orders), self.deadlines)
                host, port = await venue.start(address.host, address.port)
                self._venues[address.venue] = venue
                self.bound.append(Address(address.venue, host, port))
            self._server = ControlServer(
                self.control,
                {
                    "books": self.books,
                    "orders": self.orders,
                    "silence": self.silence,
                    "sessions": self.sessions,
                    "set": self.set,
                },
            )
            await self._server.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all sessions; what worked is cancelled."""
        if self._server is not None:
            await self._server.stop()
        for venue in self._venues.values():
            await venue.stop()

    def books(self, _request: Json) -> Json:
        """Tell what each host traded in each symbol at each venue, and its counters."""
        rows, hosts = [], []
        for name, venue in self._venues.items():
            for host, account in venue.exchange.accounts.items():
                hosts.append(
                    {
                        "venue": name, "host": host, "entered": account.entered,
                        "accepted": account.accepted, "rejected": len(account.rejected),
                        "repeated": account.repeated, "executions": account.executions,
                        "working": len(account.working),
                        "working_shares": sum(o.leaves for o in account.working.values()),
                    }
                )  # fmt: skip
                rows += [
                    {
                        "venue": name, "host": host, "symbol": symbol,
                        "position": holding.position, **asdict(holding),
                    }
                    for symbol, holding in account.holdings.items()
                ]  # fmt: skip
        return {"books": rows, "hosts": hosts}

    def orders(self, request: Json) -> Json:
        """Tell one venue's orders of one host, a page at a time (``after``: how many to skip)."""
        venue = self._venues.get(str(request.get("venue")))
        account = venue and venue.exchange.accounts.get(str(request.get("host")))
        if not account:
            raise BadRequest('"venue" and "host" must name a venue and a host that traded there')
        after = int(request.get("after", 0))
        page = [
            {
                "token": token.decode("ascii"), "side": order.enter.side.decode("ascii"),
                "symbol": order.symbol, "shares": order.enter.shares, "leaves": order.leaves,
                "executed": order.executed, "canceled": order.canceled,
            }
            for token, order in islice(account.orders.items(), after, after + _PAGE)
        ]  # fmt: skip
        done = after + len(page) >= len(account.orders)
        return {"orders": page, "next": None if done else after + len(page)}

    def silence(self, _request: Json) -> Json:
        """Tell when the last child order of each host came: nothing heard is a null."""
        now, wall = time.monotonic(), time.time()
        last: dict[str, float | None] = {}
        for venue in self._venues.values():
            for host, account in venue.exchange.accounts.items():
                known, at = last.get(host), account.last_order
                last[host] = at if known is None else max(known, at or known)
        return {
            "monotonic": now,
            "wall": wall,
            "hosts": {
                host: {
                    "monotonic": at,
                    "wall": None if at is None else wall - (now - at),
                    "silent_s": None if at is None else now - at,
                }
                for host, at in last.items()
            },
        }

    def sessions(self, _request: Json) -> Json:
        """Tell who is logged in where, with which release, and what garbage came."""
        return {
            "monotonic": time.monotonic(),
            "addresses": {a.venue: f"{a.host}:{a.port}" for a in self.bound},
            "sessions": [
                {
                    "venue": name, "host": host, "up": stream.connection is not None,
                    "release": stream.release, "logins": stream.logins,
                    "sequence": stream.next_sequence, "session": venue.session,
                }
                for name, venue in self._venues.items()
                for host, stream in venue.streams.items()
            ],
            "refused_logins": sum(v.refused_logins for v in self._venues.values()),
            "malformed": sum(v.malformed for v in self._venues.values()),
            "last_malformed": [v.last_malformed for v in self._venues.values() if v.malformed],
        }  # fmt: skip

    def set(self, request: Json) -> Json:
        """Change ``bid``, ``ask``, ``mode``, ``delay_s`` of a ``symbol``, or of all, everywhere."""
        symbol = request.get("symbol")
        known = next(iter(self._venues.values())).exchange.quotes
        if symbol is not None and symbol not in known and not {"bid", "ask"} <= request.keys():
            raise BadRequest(f"{symbol} is not traded here; a new symbol needs bid and ask")
        wanted = {
            name: _changed(known.get(name), request)
            for name in ([symbol] if symbol is not None else list(known))
        }
        for venue in self._venues.values():
            for name, quote in wanted.items():
                venue.requote(name, quote)
            venue.arm_timer()
        return {"symbols": sorted(wanted)}


def _changed(old: Quote | None, request: Json) -> Quote:
    def value(key: str) -> Json:
        return {key: request[key]} if key in request else {}

    mode = {"mode": Mode(request["mode"])} if "mode" in request else {}
    before = {} if old is None else {k: getattr(old, k) for k in ("bid", "ask", "mode", "delay_s")}
    return Quote(**{**before, **value("bid"), **value("ask"), **value("delay_s"), **mode})


def parse_address(text: str, default_name: str = "XA") -> Address:
    """Read ``NAME=HOST:PORT``, or ``HOST:PORT`` for the venue XA."""
    name, _, rest = text.rpartition("=")
    host, _, port = rest.rpartition(":")
    if not host or not port.isdigit() or int(port) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is not [NAME=]HOST:PORT")
    return Address(name or default_name, host, int(port))


def parse_quote(text: str) -> tuple[str, Quote]:
    """Read ``SYMBOL=BID:ASK``, in dollars."""
    symbol, _, prices = text.partition("=")
    bid, _, ask = prices.partition(":")
    try:
        quote = Quote(int(Decimal(bid) * _DECIMALS), int(Decimal(ask) * _DECIMALS))
    except (InvalidOperation, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not SYMBOL=BID:ASK: {error}") from error
    return symbol, quote


def main() -> None:
    """Run a market from the command line."""
    parser = argparse.ArgumentParser(description="A market for rehearsals: OUCH 4.2, SoupBinTCP")
    parser.add_argument("--listen", type=parse_address, action="append", required=True)
    parser.add_argument("--quote", type=parse_quote, action="append", required=True)
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--silence", type=float, default=15.0, help="drop a session after so long")
    parser.add_argument("--max-orders", type=int, default=1_000_000)
    given = parser.parse_args()
    market = Market(
        tuple(given.listen), dict(given.quote), given.control,
        Deadlines(silence_s=given.silence), given.max_orders,
    )  # fmt: skip
    asyncio.run(serve(market))


if __name__ == "__main__":
    main()
