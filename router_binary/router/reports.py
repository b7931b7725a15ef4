"""What a client is told."""

from router import wire
from router.counters import Counters
from router.orders import Parent, User

PACK = wire.PACK_REPORT
LENGTH = wire.REPORT_LENGTH


class Reports:
    """Writes execution reports to the session of the user that they are for."""

    __slots__ = ("_counters", "exec_id")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.exec_id = 0

    def report(
        self, parent: Parent, kind: bytes, last_qty: int = 0, last_price: int = 0, reason: int = 0
    ) -> None:
        """Tell how a parent stands."""
        self.exec_id += 1
        out = parent.user.out
        if out is None:
            self._counters.dropped_reports += 1
            return
        leaves = parent.working + parent.unsent
        cum = parent.cum
        if leaves:
            status = wire.PARTLY if cum else wire.NEW
        else:
            status = wire.CANCELED if parent.cxl else wire.FILLED
        out += PACK(
            LENGTH, b"S", b"8", parent.clordid, kind, status, parent.qty, last_qty, last_price,
            cum, leaves, reason, self.exec_id, parent.cxl,
        )  # fmt: skip

    def status(self, parent: Parent, *, in_doubt: bool) -> None:
        """Answer a question, or a parent that was sent again."""
        out = parent.user.out
        if out is None:
            return
        self.exec_id += 1
        out += PACK(
            LENGTH, b"S", b"8", parent.clordid, wire.STATUS,
            wire.IN_DOUBT if in_doubt else parent.status(), parent.qty, 0, 0,
            parent.cum, parent.leaves, parent.reason, self.exec_id, parent.cxl,
        )  # fmt: skip

    def reject(self, user: User, clordid: bytes, qty: int, reason: int, kind: bytes) -> None:
        """Refuse: nothing of it is or will be in a market."""
        self.exec_id += 1
        if user.out is not None:
            user.out += PACK(
                LENGTH, b"S", b"8", clordid, kind, wire.REJECTED, qty, 0, 0, 0, 0, reason,
                self.exec_id, 0,
            )  # fmt: skip

    def cancel_reject(self, user: User, clordid: bytes, reason: int) -> None:
        """Refuse a cancel."""
        if user.out is not None:
            user.out += wire.PACK_CANCEL_REJECT(
                wire.CANCEL_REJECT_LENGTH, b"S", b"9", clordid, reason
            )
