"""All eight hosts are deployed anew, one wave after the other, while a client trades."""

from __future__ import annotations

from enum import Enum

from deploytool.market.flow import Flow
from deploytool.market.load import Load
from deploytool.rehearsal.fleets.files import LIMITS
from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.stage import Stage
from deploytool.rehearsal.trading import Trading
from deploytool.rollout.model import State

PARENTS = 10_000
_RATE_PER_S = 1_000.0
_READY_S = 30.0
_TRADE_S = 120.0


class _Client:
    """Sends parents, and goes on to for as long as a rollout that it watches switches hosts."""

    def __init__(self, flow: Flow, rate: float) -> None:
        self._flow, self._rate = flow, rate
        self.sent = 0
        self.done_before: int | None = None

    def send(self) -> None:
        """Sends another ten thousand."""
        self._flow.send(
            Load(PARENTS, LIMITS, rate=self._rate, qty=(1, 300), seed=7 + self.sent // PARENTS)
        )
        self.sent += PARENTS

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        """Before each wave: a load that is over on slow hosts would show nothing of it."""
        del hosts
        if state is not State.SWITCHING:
            return
        now = self._flow.progress()
        if self.done_before is None:
            self.done_before = now.done
        if not now.loading:
            self.send()

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """Not of interest."""


def under_load(stage: Stage, showing: Showing) -> None:
    """No parent order is lost or sent twice while every router is replaced under way."""
    first = stage.deploy(stage.baseline)
    showing.point(first.exit_code == 0, f"baseline deployed: {first.text}")
    if first.exit_code != 0:
        return
    with stage.trading() as trading:
        _trade(stage, showing, trading)


def _trade(stage: Stage, showing: Showing, trading: Trading) -> None:
    flow, count = trading.flow, len(stage.record.hosts)
    flow.trust([stage.baseline.digest, stage.candidate.digest])
    ready = flow.wait_for_routers(count, _READY_S * stage.record.factor)
    showing.point(ready, f"{count} routers take orders")
    client = _Client(flow, _RATE_PER_S / stage.record.factor)
    client.send()
    second = stage.deploy(stage.candidate, observer=client)
    showing.point(second.exit_code == 0, f"candidate deployed under load: {second.text}")
    during = flow.progress().done - (client.done_before or 0)
    showing.point(
        client.done_before is not None and during > 0,
        f"{during} parents came to their end while hosts were replaced",
    )
    progress = flow.wait(_TRADE_S * stage.record.factor)
    showing.point(progress.finished, f"every parent came to its end: {progress}")
    ended = progress.done + progress.rejected
    showing.point(ended == client.sent, f"{ended} of {client.sent} parents are accounted for")
    books = trading.reconcile()
    showing.point(books.equal, f"client, routers and market agree: {books}")
    for line in books.differences[:5]:
        showing.point(False, line)  # noqa: FBT003 the point did not hold


UNDER_LOAD = Scenario(
    "under-load", "all eight are deployed again while ten thousand orders flow", under_load
)
