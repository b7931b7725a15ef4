"""What watched the account then: a limit that was linked to nothing."""

from typing import TYPE_CHECKING

from router.limits import Thresholds

if TYPE_CHECKING:
    from router.engine import Engine


class Breakers:
    """Has today's interface, and never trips."""

    __slots__ = ("_limits",)

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits

    def reset(self, engine: "Engine") -> None:
        """Have nothing to reset."""

    def tripped(self, engine: "Engine", now_s: float) -> str:  # noqa: ARG002 - the interface's
        """Notice nothing."""
        return ""

    def holding(self, engine: "Engine", now_s: float) -> str:  # noqa: ARG002 - the interface's
        """Hold nothing against who resumes."""
        return ""
