"""Circuit breakers: what stops the router without a person."""

from typing import TYPE_CHECKING, Final, Protocol

from router.limits import Thresholds

if TYPE_CHECKING:
    from router.books import Account
    from router.counters import Counters
    from router.gate import Gate
    from router.orders import Parent

WINDOW_S: Final = 10
NEVER: Final = 2**63


class Watched(Protocol):
    """What the breakers look at of the engine."""

    counters: "Counters"
    gate: "Gate"
    account: "Account"
    parents: "dict[int, Parent]"
    most_children: int


class Breakers:
    """Looks once a turn of the loop; names the first thing that no healthy day reaches."""

    __slots__ = (
        "_limits", "_repeated", "_second", "_second_sent", "_window", "_window_parents",
        "_window_rejects", "_window_repeated", "_window_sent",
    )  # fmt: skip

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits
        self._second = self._second_sent = 0
        self._window = self._window_sent = self._window_parents = self._window_rejects = 0
        self._repeated = self._window_repeated = 0

    def reset(self, engine: Watched) -> None:
        """Count anew, after a person has resumed."""
        self._repeated = engine.counters.repeated
        self._second = self._window = -1
        engine.most_children = 0

    def tripped(self, engine: Watched, now_s: float) -> str:
        """Say what tripped, or nothing."""
        sent = engine.gate.released
        second = int(now_s)
        if second != self._second:
            self._turn(engine, second, sent)
        levels = self._levels(engine, sent, engine.most_children)
        return levels or self._repeats(engine, self._repeated) or self._ratios(engine, sent)

    def holding(self, engine: Watched, now_s: float) -> str:
        """Say what would trip again at once, or nothing: for who wants to resume.

        What was counted before this window is past, and a person has looked at it; a level that
        is still too high is not, nor is what went on happening in the last seconds.
        """
        sent = engine.gate.released
        if int(now_s) != self._second:
            self._turn(engine, int(now_s), sent)
        most = max((p.children for p in engine.parents.values() if p.leaves), default=0)
        levels = self._levels(engine, sent, most)
        repeats = self._repeats(engine, max(self._repeated, self._window_repeated))
        return levels or repeats or self._ratios(engine, sent)

    def _levels(self, engine: Watched, sent: int, most_children: int) -> str:
        limits = self._limits
        found = (
            ("orders a second", sent - self._second_sent, limits.orders_per_s),
            ("position value", engine.account.position_value, limits.position_value),
            ("children of one parent", most_children, limits.children_per_parent),
        )
        for name, value, limit in found:
            if value > (limit or 0):
                return f"{name}: {value} is above {limit}"
        return ""

    def _turn(self, engine: Watched, second: int, sent: int) -> None:
        self._second, self._second_sent = second, sent
        if self._window < 0 or second - self._window >= WINDOW_S:
            self._window, self._window_sent = second, sent
            self._window_parents = engine.counters.parents
            self._window_rejects = engine.counters.market_rejects
            self._window_repeated = engine.counters.repeated

    def _repeats(self, engine: Watched, before: int) -> str:
        repeated = engine.counters.repeated - before
        if repeated >= max(1, self._limits.repeated_executions or 0):
            return f"executions repeated, too large or of no order of ours: {repeated}"
        return ""

    def _ratios(self, engine: Watched, sent: int) -> str:
        limits = self._limits
        out = sent - self._window_sent
        rejects = engine.counters.market_rejects - self._window_rejects
        if rejects >= (limits.reject_min or NEVER):
            percent = 100 * rejects // max(1, out)
            if percent >= (limits.reject_percent or 0):
                return f"market rejects: {percent}% of {out} orders in {WINDOW_S} s"
        parents = engine.counters.parents - self._window_parents
        if out >= (limits.out_per_in_min or NEVER) and out > parents * (limits.out_per_in or 0):
            return f"orders out against orders in: {out} for {parents} in {WINDOW_S} s"
        return ""
