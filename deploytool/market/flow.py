"""What a rehearsal uses: a market and a client, a flow of parents, and the sum at the end.

::

    with Flow(folder, venues, quotes) as flow:
        flow.start_gateway(routers, client)
        flow.trust([release])
        flow.send(Load(10_000, limits))
        ...                             # deploy, kill, halt
        flow.wait(deadline_s=60)
        result = flow.reconcile(statuses, deadline_s=30)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from deploytool.market.control import Json
from deploytool.market.exchange import Quote
from deploytool.market.gateway import ClientGatewayConfig
from deploytool.market.link import RouterAddress
from deploytool.market.load import Load
from deploytool.market.process import MarketProcess
from deploytool.market.reconcile import Reconciliation, Witnesses, reconcile
from deploytool.market.session import Deadlines
from deploytool.market.venue import Address

_POLL_S: Final = 0.05
_DECIMALS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Router:
    """One host of the fleet: where clients reach it, and its login to the market."""

    host: str
    address: str
    port: int
    login: str


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """Who the gateway logs in as."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class FlowProgress:
    """Where the parents are."""

    parents: int
    waiting: int
    sent: int
    open: int
    done: int
    rejected: int
    in_doubt: int
    problems: tuple[str, ...]
    loading: bool

    @property
    def finished(self) -> bool:
        """Whether the load is made and each parent came to its end."""
        return not (self.loading or self.waiting or self.sent or self.open)

    def __str__(self) -> str:
        """Return it in one line."""
        return (
            f"{self.parents} parents: {self.done} done, {self.open} open ({self.in_doubt} in "
            f"doubt), {self.sent} unacknowledged, {self.waiting} waiting, {self.rejected} rejected"
        )


class Flow:
    """A market and a gateway in processes of their own, for the length of a block."""

    def __init__(
        self,
        folder: Path,
        venues: Sequence[Address],
        quotes: Mapping[str, Quote],
        deadlines: Deadlines | None = None,
    ) -> None:
        self._folder = folder
        self._venues = tuple(venues)
        self._quotes = dict(quotes)
        self._deadlines = deadlines or Deadlines()
        self._stack = ExitStack()
        self._market: MarketProcess | None = None
        self._gateway: MarketProcess | None = None
        self._routers: tuple[Router, ...] = ()

    def __enter__(self) -> Self:
        """Start the market: routers want it before they take orders."""
        self._folder.mkdir(parents=True, exist_ok=True)
        listen = [f"--listen={a.venue}={a.host}:{a.port}" for a in self._venues]
        quote = [
            f"--quote={symbol}={q.bid / _DECIMALS:.4f}:{q.ask / _DECIMALS:.4f}"
            for symbol, q in self._quotes.items()
        ]
        silence = f"--silence={self._deadlines.silence_s}"
        self._market = self._start("venue", "market", [*listen, *quote, silence])
        for symbol, q in self._quotes.items():
            self.market.ask("set", symbol=symbol, mode=q.mode.value, delay_s=q.delay_s)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the gateway, then the market."""
        self._stack.close()

    @property
    def market(self) -> MarketProcess:
        """The market's process."""
        if self._market is None:
            raise RuntimeError("the market is started by entering the block")
        return self._market

    @property
    def gateway(self) -> MarketProcess:
        """The gateway's process."""
        if self._gateway is None:
            raise RuntimeError("the gateway is started by start_gateway")
        return self._gateway

    @property
    def venues(self) -> dict[str, str]:
        """Where each venue listens, as ``HOST:PORT``, for the routers' configuration."""
        return dict(self.market.ask("sessions")["addresses"])

    def start_gateway(self, routers: Sequence[Router], client: GatewayClient) -> None:
        """Start the client. It keeps trying every router, and trusts none yet."""
        self._routers = tuple(routers)
        addresses = tuple(RouterAddress(r.host, r.address, r.port) for r in routers)
        config = self._folder / "gateway.json"
        config.touch(mode=0o600)
        config.write_text(ClientGatewayConfig(client.user, client.password, addresses).as_json())
        self._gateway = self._start("gateway", "gateway", ["--config", str(config)])

    def trust(self, releases: Sequence[str]) -> None:
        """Let the gateway use routers that run these releases, and no others."""
        self.gateway.ask("trust", releases=list(releases))

    def use(self, bit: int, release: str | None = None) -> Json:
        """Set a flag bit in the parents that are sent from now on, to ``release`` or to any."""
        return self.gateway.ask("use", bit=bit, release=release)

    def withdraw(self, bit: int) -> Json:
        """Send a flag bit no more."""
        return self.gateway.ask("withdraw", bit=bit)

    def observe(self) -> Json:
        """Tell which flag bits the gateway uses, and which parents still carry them."""
        return self.gateway.ask("observe")

    def members(self) -> list[Json]:
        """Tell for each router whether the gateway has a trusted session with it now."""
        return list(self.gateway.ask("sessions")["sessions"])

    def silence(self) -> Json:
        """Tell when the market last heard a child order from each host: all null for never."""
        heard = self.market.ask("silence")
        never = {"monotonic": None, "wall": None, "silent_s": None}
        return {
            **heard, "hosts": {r.host: heard["hosts"].get(r.login, never) for r in self._routers}
        }  # fmt: skip

    def quote(self, symbol: str | None = None, **changes: object) -> None:
        """Change ``bid``, ``ask``, ``mode`` or ``delay_s`` of one symbol or of all."""
        where: Json = {} if symbol is None else {"symbol": symbol}
        self.market.ask("set", **where | changes)

    def wait_for_routers(self, count: int, deadline_s: float) -> bool:
        """Wait until so many routers take orders; tell whether they do."""
        return self._until(deadline_s, lambda: sum(map(_takes_orders, self.members())) >= count)

    def send(self, load: Load) -> None:
        """Begin to send parents, round-robin over the routers that take them."""
        told = {name: value for name, value in asdict(load).items() if name != "rate"}
        if load.rate is not None:
            told |= {"rate": load.rate, "duration_s": load.parents / load.rate}
        self.gateway.ask("load", **told)

    def cancel(self) -> int:
        """Ask for the cancellation of every open parent; return how many there were."""
        return int(self.gateway.ask("cancel")["asked"])

    def progress(self) -> FlowProgress:
        """Tell where the parents are now."""
        told = self.gateway.ask("report")
        states = told["states"]
        return FlowProgress(
            told["parents"], states["waiting"], states["sent"], states["open"], states["done"],
            states["rejected"], told["in_doubt"], tuple(told["problems"]), told["loading"],
        )  # fmt: skip

    def wait(self, deadline_s: float) -> FlowProgress:
        """Wait until every parent came to its end, or the deadline; tell where they are."""
        self._until(deadline_s, lambda: self.progress().finished)
        return self.progress()

    def reconcile(
        self,
        statuses: Mapping[str, Json],
        deadline_s: float = 30.0,
        before: Mapping[str, Json] | None = None,
    ) -> Reconciliation:
        """Hold gateway, market and routers against each other.

        ``statuses`` has for each host what its running router answered to ``status --json``,
        asked after ``wait``; ``before``, what they answered before this market was there (None:
        they had traded nothing). Each router is asked through the gateway for its record of each
        parent; what isn't answered by the deadline is a difference.
        """
        self.gateway.ask("audit")
        self._until(deadline_s, lambda: not self.gateway.ask("report")["audit_left"])
        books = self.market.ask("books")
        return reconcile(
            Witnesses(
                parents=self.parents(),
                problems=self.progress().problems,
                books=books["books"],
                accounts=books["hosts"],
                routers=statuses,
                logins={router.login: router.host for router in self._routers},
                before=before,
            )
        )

    def parents(self) -> list[Json]:
        """Return the gateway's row of each parent."""
        rows: list[Any] = []
        after: int | None = 0
        while after is not None:
            page = self.gateway.ask("parents", after=after)
            rows += page["parents"]
            after = page["next"]
        return rows

    def _start(self, module: str, name: str, arguments: list[str]) -> MarketProcess:
        log, control = self._folder / f"{name}.log", self._folder / f"{name}.sock"
        process = MarketProcess(f"deploytool.market.{module}", arguments, control, log)
        return self._stack.enter_context(process)

    def _until(self, deadline_s: float, true: Callable[[], bool]) -> bool:
        end = time.monotonic() + deadline_s
        while not (held := true()) and time.monotonic() < end:
            time.sleep(_POLL_S)
        return held


def _takes_orders(member: Json) -> bool:
    return (member["standing"], member.get("trading_state")) == ("trusted", "ACTIVE")
