"""A market and a client gateway beside a stage: orders through every host, all accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from deploytool.market.flow import Flow, GatewayClient, Router
from deploytool.market.load import Load
from deploytool.market.reconcile import Reconciliation
from deploytool.rehearsal.fleets.files import LIMITS
from deploytool.rehearsal.fleets.model import FleetRecord
from deploytool.release.model import Release

Statuses = Callable[[], dict[str, dict[str, Any]]]

_READY_S = 30.0
_TRADE_S = 60.0
_SETTLE_S = 10.0


class Trading:
    """Parents sent through every host, and accounted for to the share.

    ``statuses`` asks each host of the fleet for its service's status, now.
    """

    def __init__(self, record: FleetRecord, statuses: Statuses, flow: Flow) -> None:
        self.flow = flow
        self._record = record
        self._statuses = statuses
        self._idle_before: dict[str, int] = {}
        # A router keeps its positions; what came before this market is not in this market's books.
        self._before = self._statuses()
        routers = []
        for number, host in enumerate(record.hosts, start=1):
            address, _, port = host.listen.rpartition(":")
            reached = host.address if address == "0.0.0.0" else address  # noqa: S104 compared, not bound
            routers.append(Router(host.name, reached, int(port), f"RTR{number:03d}"))
        flow.start_gateway(routers, GatewayClient(record.client.user, record.client.password))

    def ready(self, releases: tuple[Release, ...]) -> str:
        """Trusts these releases, and waits for a session with every router; what went wrong."""
        count = len(self._record.hosts)
        self.flow.trust([release.digest for release in releases])
        if self.flow.wait_for_routers(count, _READY_S * self._record.factor):
            return ""
        standing = (f"{m['host']} {m['standing']}: {m['why']}" for m in self.flow.members())
        return f"not all {count} routers take orders: {'; '.join(standing)}"

    def through_all(self, release: Release, parents: int, seed: int) -> str:
        """Sends parents to routers of this release only, and waits for the end of each.

        Returns what went wrong, in words; nothing where all is well.
        """
        if trouble := self.ready((release,)):
            return trouble
        before = {member["host"]: member["sent"] for member in self.flow.members()}
        self.flow.send(Load(parents, LIMITS, qty=(1, 300), seed=seed))
        progress = self.flow.wait(_TRADE_S * self._record.factor)
        if not progress.finished or progress.done != parents * (seed + 1):
            return f"not every parent came to its end: {progress}"
        idle = [m["host"] for m in self.flow.members() if m["sent"] == before[m["host"]]]
        return f"no order flowed through {', '.join(idle)}" if idle else ""

    def flagged(self, parents: int, bit: int) -> None:
        """Begins to send parents that carry the bit: each waits until the senders may use it."""
        self._idle_before = {member["host"]: member["sent"] for member in self.flow.members()}
        self.flow.send(Load(parents, LIMITS, qty=(1, 300), seed=11, flags=1 << bit))

    def held_back(self, for_s: float) -> int:
        """How many parents wait with the senders, after that long."""
        time.sleep(for_s)
        return self.flow.progress().waiting

    def all_done(self, parents: int) -> str:
        """Waits for the end of each of so many; what went wrong, and whom none flowed through."""
        progress = self.flow.wait(_TRADE_S * self._record.factor)
        if not progress.finished or progress.done != parents:
            return f"not every parent came to its end: {progress}"
        idle = [m["host"] for m in self.flow.members() if m["sent"] == self._idle_before[m["host"]]]
        return f"no order flowed through {', '.join(idle)}" if idle else ""

    def reconcile(self) -> Reconciliation:
        """Holds client, routers and market against each other, share by share."""
        ends = time.monotonic() + _SETTLE_S * self._record.factor
        while True:
            told = self._statuses()
            counters = [item.get("counters", {}) for item in told.values()]
            left = sum(c.get("open_parents", 1) + c.get("in_doubt", 1) for c in counters)
            if not left or time.monotonic() > ends:
                return self.flow.reconcile(told, before=self._before)
            time.sleep(0.2)
