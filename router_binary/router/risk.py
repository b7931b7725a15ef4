"""The one risk check. Only it makes the token without which the gate sends nothing."""

from typing import Final

from router import wire
from router.books import Account
from router.flags import Flags
from router.latch import ACTIVE, HALTED, Latch
from router.limits import Limits
from router.orders import Parent, Plan

CODES: Final = wire.CODES
NO_LIMIT: Final = -1


class RefusedError(Exception):
    """Children may not leave; the code is one of wire.REASONS."""

    def __init__(self, code: int) -> None:
        super().__init__(wire.REASONS[code])
        self.code = code


class Cleared:
    """Proof that these children of this parent passed every check. Good once."""

    __slots__ = ("parent", "plan")

    def __init__(self, parent: Parent, plan: Plan) -> None:
        self.parent = parent
        self.plan = plan


class Risk:
    """Holds children against the limits, working orders included, and reserves for them."""

    __slots__ = (
        "_account", "_clock_second", "_flags", "_latch", "_limits", "_sent", "blocked", "draining",
        "issued", "leased",
    )  # fmt: skip

    def __init__(self, limits: Limits, flags: Flags, latch: Latch, account: Account) -> None:
        self._limits = limits
        self._flags = flags
        self._latch = latch
        self._account = account
        self._clock_second = 0
        self._sent = 0
        self.blocked = False  # a limit isn't configured
        self.draining = False
        self.leased = True  # looked at again before each write: this only answers clients early
        self.issued: Cleared | None = None

    def clock(self, now_s: float) -> None:
        """Begin a new second of the message rate."""
        if int(now_s) != self._clock_second:
            self._clock_second = int(now_s)
            self._sent = 0

    def clear(self, parent: Parent, plan: Plan) -> Cleared:
        """Check all; reserve; give the token. Raises RefusedError with the first reason."""
        code = self._state(parent, plan) or self._order(parent, plan) or self._room(parent, plan)
        if code:
            raise RefusedError(code)
        parent.unsent -= plan.total
        parent.working += plan.total
        parent.book.work(parent.side, plan.total, parent.price)
        self._sent += len(plan.slices)
        self.issued = cleared = Cleared(parent, plan)
        return cleared

    def _state(self, parent: Parent, plan: Plan) -> int:
        """Whether anything may leave now."""
        if self.blocked:
            return CODES["MISSING_LIMIT"]
        if self.draining:
            return CODES["DRAINING"]
        if parent.flags & ~self._flags.sure:
            code = self._flags.why_not(parent.flags)
            if code:
                return code
        if self._latch.state == ACTIVE and self.leased:
            return 0
        if self._latch.state == HALTED or not self.leased:
            return CODES["HALTED"]
        book = parent.book
        room = -book.position - book.buying if parent.side == b"B" else book.position - book.selling
        return 0 if plan.total <= room else CODES["REDUCING"]

    def _order(self, parent: Parent, plan: Plan) -> int:
        """Whether the parent is sane, and these children are its own and no others."""
        limits = self._limits
        if parent.user.parents.get(parent.clordid) is not parent:
            return CODES["DUPLICATE"]
        if plan.smallest <= 0 or plan.total > parent.unsent:
            return CODES["NOT_CLEARED"]
        if parent.qty > (limits.order_qty or NO_LIMIT):
            return CODES["ORDER_QTY"]
        if parent.qty * parent.price > (limits.order_value or NO_LIMIT):
            return CODES["ORDER_VALUE"]
        if not parent.book.low <= parent.price <= parent.book.high:
            return CODES["PRICE_COLLAR"]
        if parent.children + len(plan.slices) > (limits.children_per_parent or NO_LIMIT):
            return CODES["CHILDREN_PER_PARENT"]
        return 0

    def _room(self, parent: Parent, plan: Plan) -> int:
        """Whether it still fits, if all that works were filled."""
        limits, book, account = self._limits, parent.book, self._account
        total = plan.total
        if parent.side == b"B":
            reach = book.position + book.buying + total
        else:
            reach = book.selling + total - book.position
        if reach > book.max_position:
            return CODES["SYMBOL_POSITION"]
        if account.position + account.working + total > (limits.account_position or NO_LIMIT):
            return CODES["ACCOUNT_POSITION"]
        value = account.position_value + account.working_value + total * parent.price
        if value > (limits.gross_notional or NO_LIMIT):
            return CODES["GROSS_NOTIONAL"]
        if self._sent + len(plan.slices) > (limits.messages_per_s or NO_LIMIT):
            return CODES["MESSAGE_RATE"]
        return 0
