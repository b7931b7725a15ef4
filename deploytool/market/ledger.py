"""What the gateway knows of each parent. Pure: sockets, clocks and dealing are elsewhere.

A parent is dealt to one router and stays there until that router says in so many words that
it does not have it. It is never sent to a second one on a guess: that is how one order
becomes two.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from deploytool.market import wire

_MAX_PROBLEMS: Final = 200


class ParentState(Enum):
    """Where a parent is."""

    WAITING = "waiting"
    """For a router to be dealt to."""
    SENT = "sent"
    """To a router that hasn't acknowledged it."""
    OPEN = "open"
    DONE = "done"
    """Filled or cancelled: nothing is left."""
    REJECTED = "rejected"


@dataclass(slots=True)
class Parent:
    """One parent order. Money is in ten-thousandths."""

    order: wire.NewOrderSingle
    wants: int = 0
    """The flag bits that it must carry: without them it is another order, and waits."""
    state: ParentState = ParentState.WAITING
    router: str = ""
    dealt: int = 0
    """How often it was given to a router as new."""
    cum: int = 0
    leaves: int = 0
    cxl: int = 0
    seen: int = 0
    """Shares whose executions were reported one by one; fewer than ``cum`` after a lost line."""
    value: int = 0
    """What those cost."""
    in_doubt: bool = False
    missed: bool = False
    """The line broke since its last report: the next may tell of more than one thing."""
    reason: int = 0
    asked: bool = False
    """An audit waits for the router's own word on it."""
    audit: tuple[int, int, int] | None = None
    """CumQty, LeavesQty and CxlQty from the router's record, when an audit asked for them."""

    def row(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        order = self.order
        return {
            "id": order.cl_ord_id, "side": order.side.decode(), "symbol": order.symbol,
            "order_qty": order.order_qty, "flags": order.flags, "state": self.state.value,
            "router": self.router, "cum": self.cum, "leaves": self.leaves, "cxl": self.cxl,
            "seen": self.seen, "value": self.value, "in_doubt": self.in_doubt,
            "reason": self.reason, "dealt": self.dealt,
            "audit": None if self.audit is None else list(self.audit),
        }  # fmt: skip


@dataclass(slots=True)
class Ledger:
    """All parents, and everything in the routers' reports that doesn't add up."""

    max_dealt: int = 24
    parents: dict[str, Parent] = field(default_factory=dict)
    waiting: dict[int, deque[Parent]] = field(default_factory=dict)
    """By the flag bits that they must carry, in the order in which they came."""
    sent: dict[str, dict[str, Parent]] = field(default_factory=dict)
    """By router: dealt and not acknowledged."""
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    _last_exec_id: dict[str, int] = field(default_factory=dict)

    def add(self, order: wire.NewOrderSingle) -> None:
        """Take a parent in."""
        if order.cl_ord_id in self.parents:
            raise ValueError(f"ClOrdID {order.cl_ord_id} is in use")
        parent = self.parents[order.cl_ord_id] = Parent(order, order.flags)
        self._wait(parent)

    def _wait(self, parent: Parent) -> None:
        self.waiting.setdefault(parent.wants, deque()).append(parent)

    def deal(self, parent: Parent, router: str, flags: int) -> None:
        """Note that a parent goes to a router now, as new and with these flags."""
        parent.order = parent.order._replace(flags=flags)
        parent.state, parent.router = ParentState.SENT, router
        parent.dealt += 1
        self.sent.setdefault(router, {})[parent.order.cl_ord_id] = parent

    def line_lost(self, router: str) -> None:
        """Note that reports of this router may have been missed."""
        for parent in self.parents.values():
            if parent.router == router and parent.state in (ParentState.SENT, ParentState.OPEN):
                parent.missed = True

    def apply(self, router: str, report: wire.ExecutionReport) -> None:
        """Take a report in."""
        parent = self.parents.get(report.cl_ord_id)
        wrong = self._why_not(router, parent, report)
        if parent is None or wrong:
            self.problem(f"{router}, {report.cl_ord_id}: {wrong}")
            return
        self._last_exec_id[router] = report.exec_id
        if report.ord_status == wire.REJECTED:
            self._rejected(parent, report)
        elif parent.state in (ParentState.DONE, ParentState.REJECTED):
            self._after_the_end(parent, report)
        else:
            self._progress(parent, report)
        if parent.asked and report.exec_type == wire.STATUS:
            parent.asked = False
            parent.audit = (report.cum_qty, report.leaves_qty, report.cxl_qty)

    def problem(self, text: str) -> None:
        """Note what doesn't add up: the first so many in words, the rest counted."""
        self.problem_count += 1
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)

    def _why_not(self, router: str, parent: Parent | None, report: wire.ExecutionReport) -> str:
        last = self._last_exec_id.get(router, 0)
        total = report.cum_qty + report.leaves_qty + report.cxl_qty
        if parent is None:
            return "a report of a parent that this gateway never sent"
        if parent.router != router:
            return f"a report from a router that doesn't have it ({parent.router or 'none'} has)"
        if report.exec_id <= last:
            return f"ExecID {report.exec_id} after {last}: a report came twice or late"
        if report.ord_status == wire.REJECTED:
            return ""
        if report.order_qty != parent.order.order_qty:
            return f"OrderQty {report.order_qty}, but {parent.order.order_qty} were sent"
        if total != report.order_qty:
            return (
                f"OrderQty {report.order_qty} is not CumQty {report.cum_qty} + LeavesQty "
                f"{report.leaves_qty} + CxlQty {report.cxl_qty}"
            )
        return ""

    def _rejected(self, parent: Parent, report: wire.ExecutionReport) -> None:
        name = f"{parent.router}, {report.cl_ord_id}"
        if parent.state is not ParentState.SENT:
            self.problem(f"{name}: rejected ({report.reason}) after it was {parent.state.value}")
            return
        del self.sent[parent.router][report.cl_ord_id]
        parent.reason, parent.missed = report.reason, False
        if report.reason in wire.TRY_ELSEWHERE and parent.dealt < self.max_dealt:
            parent.state, parent.router = ParentState.WAITING, ""
            self._wait(parent)
        else:
            parent.state = ParentState.REJECTED

    def _after_the_end(self, parent: Parent, report: wire.ExecutionReport) -> None:
        told = (report.cum_qty, report.leaves_qty, report.cxl_qty)
        # a cancellation may be reported after an answer to `H` that already counted it
        if report.exec_type == wire.TRADE or told != (parent.cum, parent.leaves, parent.cxl):
            self.problem(
                f"{parent.router}, {report.cl_ord_id}: {parent.state.value} with CumQty "
                f"{parent.cum}, then a report with CumQty {report.cum_qty}, LeavesQty "
                f"{report.leaves_qty}, CxlQty {report.cxl_qty}"
            )

    def _progress(self, parent: Parent, report: wire.ExecutionReport) -> None:
        traded = report.last_qty if report.exec_type == wire.TRADE else 0
        expected = parent.cum + traded
        if report.cum_qty < expected or (report.cum_qty != expected and not parent.missed):
            self.problem(
                f"{parent.router}, {report.cl_ord_id}: CumQty {report.cum_qty} where {expected} "
                "was expected"
            )
        if parent.state is ParentState.SENT:
            del self.sent[parent.router][report.cl_ord_id]
        parent.missed = False
        parent.seen += traded
        parent.value += traded * report.last_px
        parent.cum, parent.leaves, parent.cxl = (
            report.cum_qty, report.leaves_qty, report.cxl_qty,
        )  # fmt: skip
        parent.reason = report.reason
        parent.in_doubt = report.ord_status == wire.IN_DOUBT
        over = report.ord_status in (wire.FILLED, wire.CANCELED)
        parent.state = ParentState.DONE if over else ParentState.OPEN
        if over and parent.leaves:
            self.problem(f"{parent.router}, {report.cl_ord_id}: final with LeavesQty > 0")
