"""All eight hosts are deployed anew, one wave after the other, while a client trades."""

from __future__ import annotations

from deploytool.rehearsal.fleets.files import SYMBOLS
from deploytool.rehearsal.market.load import Load
from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.stage import Stage
from deploytool.rehearsal.trading import Trading

PARENTS = 10_000
_RATE_PER_S = 1_000.0
_READY_S = 30.0
_TRADE_S = 120.0


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
    limits = {name: (price + 500, price - 500) for name, price in SYMBOLS.items()}
    flow.send(Load(PARENTS, limits, rate=_RATE_PER_S, qty=(1, 300), seed=7))
    second = stage.deploy(stage.candidate)
    showing.point(second.exit_code == 0, f"candidate deployed under load: {second.text}")
    progress = flow.wait(_TRADE_S * stage.record.factor)
    showing.point(progress.finished, f"every parent came to its end: {progress}")
    ended = progress.done + progress.rejected
    showing.point(ended == PARENTS, f"{ended} of {PARENTS} parents are accounted for")
    books = trading.reconcile()
    showing.point(books.equal, f"client, routers and market agree: {books}")
    for line in books.differences[:5]:
        showing.point(False, line)  # noqa: FBT003 the point did not hold


UNDER_LOAD = Scenario(
    "under-load", "all eight are deployed anew while ten thousand orders flow", under_load
)
