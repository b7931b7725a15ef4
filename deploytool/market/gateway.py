"""A client gateway as a process: it sends parents, and a socket asks and steers it.

It is a part of safety, too: it holds back what must carry a flag bit until it is told to use it,
sends that only on sessions whose login showed the release that was certified, shows what it uses,
and gives orders only to routers that show a release it was told to trust.

``python -m deploytool.market.gateway --config gateway.json --control gateway.sock``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from deploytool.market.control import BadRequest, ControlServer, Json
from deploytool.market.dealer import Dealer, bits
from deploytool.market.ledger import ParentState
from deploytool.market.link import RouterAddress
from deploytool.market.load import MAX_PARENTS, Load
from deploytool.market.process import serve
from deploytool.market.wire import TRADING_STATES, SessionInfo

_PAGE: Final = 20_000
_LOAD_STEP_S: Final = 0.01
_BITS: Final = 16
_RELEASE_DIGITS: Final = 64
_A_RELEASE: Final = f"a release is a SHA-256 digest, {_RELEASE_DIGITS} hex digits"


class ClientGateway:
    """One client of all routers, and what can be asked of it."""

    def __init__(self, config: ClientGatewayConfig, control: Path) -> None:
        self.dealer = Dealer(config.routers, config.user, config.password)
        self._prefix = f"{config.user[:2]}{time.time_ns() // 10**9 % 10**5:05d}-"
        self._made = 0
        self._loading: asyncio.Task[None] | None = None
        self._server = ControlServer(
            control,
            {
                "use": self.use, "withdraw": self.withdraw, "observe": self.observe,
                "trust": self.trust, "sessions": self.sessions, "load": self.load,
                "cancel": self.cancel, "audit": self.audit, "report": self.report,
                "parents": self.parents,
            },
        )  # fmt: skip

    async def start(self) -> None:
        """Open the control socket, then the lines. Nothing is trusted until it is told so."""
        await self._server.start()
        self.dealer.start()

    async def stop(self) -> None:
        """Close everything. The routers keep what they accepted."""
        await self._server.stop()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self.dealer.stop()

    def use(self, request: Json) -> Json:
        """Set a ``bit`` in every parent that is dealt from now on, and let go what waited for it.

        With a ``release``, only on sessions whose login showed that one; without, on any trusted:
        so builds are driven that obey the bit always.
        """
        release = request.get("release")
        if release is not None and not _is_release(release):
            raise BadRequest(_A_RELEASE)
        self.dealer.uses[_bit(request)] = release
        self.dealer.deal()
        return self.observe(request)

    def withdraw(self, request: Json) -> Json:
        """Send a ``bit`` no more, not even again in what a router didn't acknowledge."""
        self.dealer.uses.pop(_bit(request), None)
        return self.observe(request)

    def observe(self, _request: Json) -> Json:
        """Tell which bits are in use, when each was last sent, and which parents carry them."""
        under_way: dict[str, Counter[int]] = {"sent": Counter(), "open": Counter()}
        for parent in self.dealer.ledger.parents.values():
            if parent.order.flags and parent.state in (ParentState.SENT, ParentState.OPEN):
                under_way[parent.state.value].update(bits(parent.order.flags))
        return {
            "monotonic": time.monotonic(),
            "wall": time.time(),
            "flags": self.dealer.flags,
            "bits": bits(self.dealer.flags),
            "certified": self.dealer.uses,
            "held_back": self.dealer.held_back,
            "last_sent": self.dealer.last_sent,
            "unacknowledged": under_way["sent"],
            "open": under_way["open"],
            "trusted": sorted(self.dealer.trusted),
        }

    def trust(self, request: Json) -> Json:
        """Trust the ``releases`` (SHA-256) and no others. A session of another is left."""
        releases = request["releases"]
        if not isinstance(releases, list) or not all(map(_is_release, releases)):
            raise BadRequest(f'"releases" must be a list; {_A_RELEASE}')
        self.dealer.trust(frozenset(releases))
        self.dealer.deal()
        return {"trusted": sorted(self.dealer.trusted)}

    def sessions(self, _request: Json) -> Json:
        """Tell for every router whether it is a member now, as which release, and why not."""
        return {
            "monotonic": time.monotonic(),
            "wall": time.time(),
            "sessions": [
                {
                    "host": host, "standing": link.state.value, "why": link.why,
                    "since": link.since, "logins": link.logins, "sent": link.sent,
                    **({} if link.info is None else _told(link.info)),
                }
                for host, link in self.dealer.links.items()
            ],
        }  # fmt: skip

    def load(self, request: Json) -> Json:
        """Begin to send so many ``parents``, or at a ``rate`` for ``duration_s``."""
        if self._loading is not None and not self._loading.done():
            raise BadRequest("a load is under way")
        rate = request.get("rate")
        parents = request["parents"] if rate is None else int(rate * request["duration_s"])
        fields = ("qty", "sides", "time_in_force", "seed", "flags")
        load = Load(
            parents,
            {symbol: (buy, sell) for symbol, (buy, sell) in request["limits"].items()},
            rate,
            **{name: request[name] for name in fields if name in request},
        )
        if self._made + load.parents > MAX_PARENTS:
            raise BadRequest(f"more than {MAX_PARENTS} parents in one gateway's life")
        self._loading = asyncio.create_task(self._send(load))
        return {"parents": load.parents}

    def cancel(self, _request: Json) -> Json:
        """Ask for the cancellation of every open parent."""
        return {"asked": self.dealer.cancel_open()}

    def audit(self, _request: Json) -> Json:
        """Begin to ask each router what its record says of each parent that it has."""
        had = (ParentState.OPEN, ParentState.DONE)
        self.dealer.audit.begin(p for p in self.dealer.ledger.parents.values() if p.state in had)
        for link in self.dealer.links.values():
            self.dealer.ask_audit(link)
        return {"left": self.dealer.audit.left}

    def report(self, _request: Json) -> Json:
        """Tell how many parents are where, and what doesn't add up."""
        ledger = self.dealer.ledger
        states = Counter(parent.state.value for parent in ledger.parents.values())
        return {
            "loading": self._loading is not None and not self._loading.done(),
            "parents": len(ledger.parents),
            "states": {state.value: states[state.value] for state in ParentState},
            "in_doubt": sum(parent.in_doubt for parent in ledger.parents.values()),
            "audit_left": self.dealer.audit.left,
            "problem_count": ledger.problem_count,
            "problems": ledger.problems,
        }

    def parents(self, request: Json) -> Json:
        """Tell all parents, a page at a time (``after``: how many to skip)."""
        after = int(request.get("after", 0))
        known = self.dealer.ledger.parents
        page = [parent.row() for parent in islice(known.values(), after, after + _PAGE)]
        done = after + len(page) >= len(known)
        return {"parents": page, "next": None if done else after + len(page)}

    async def _send(self, load: Load) -> None:
        began = time.monotonic()
        for made, order in enumerate(load.orders(self._prefix, self._made)):
            while load.rate is not None and made >= load.rate * (time.monotonic() - began):
                self.dealer.deal()
                await asyncio.sleep(_LOAD_STEP_S)
            self.dealer.ledger.add(order)
            self._made += 1
            if self._made % 100 == 0:  # reports are taken in while a load is made
                self.dealer.deal()
                await asyncio.sleep(0)
        self.dealer.deal()


@dataclass(frozen=True, slots=True)
class ClientGatewayConfig:
    """Who the gateway is, and its routers."""

    user: str
    password: str
    routers: tuple[RouterAddress, ...]

    def as_json(self) -> str:
        """Return the file's text."""
        routers = {r.host: f"{r.address}:{r.port}" for r in self.routers}
        return json.dumps({"user": self.user, "password": self.password, "routers": routers})

    @classmethod
    def from_json(cls, text: str) -> ClientGatewayConfig:
        """Read the file's text."""
        told: dict[str, Any] = json.loads(text)
        routers = []
        for host, where in told["routers"].items():
            address, _, port = where.rpartition(":")
            routers.append(RouterAddress(host, address, int(port)))
        return cls(told["user"], told["password"], tuple(routers))


def _told(info: SessionInfo) -> Json:
    return {**info._asdict(), "trading_state": TRADING_STATES[info.trading_state]}


def _bit(request: Json) -> int:
    bit = request.get("bit")
    if type(bit) is not int or not 0 <= bit < _BITS:
        raise BadRequest(f'"bit" must be 0 to {_BITS - 1}')
    return bit


def _is_release(text: object) -> bool:
    return (
        isinstance(text, str)
        and len(text) == _RELEASE_DIGITS
        and not set(text) - set("0123456789abcdef")
    )


def main() -> None:
    """Run a gateway from the command line."""
    parser = argparse.ArgumentParser(description="A client gateway for rehearsals")
    parser.add_argument("--config", type=Path, required=True, help="user, password and routers")
    parser.add_argument("--control", type=Path, required=True)
    given = parser.parse_args()
    asyncio.run(
        serve(ClientGateway(ClientGatewayConfig.from_json(given.config.read_text()), given.control))
    )


if __name__ == "__main__":
    main()
