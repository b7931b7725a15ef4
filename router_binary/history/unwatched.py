"""What watched the account then: a limit that was linked to nothing."""

from router.limits import Thresholds


class Breakers:
    """Has today's interface, and never trips."""

    __slots__ = ("_limits",)

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits

    def reset(self, engine: object) -> None:
        """Have nothing to reset."""

    def tripped(self, engine: object, now_s: float) -> str:  # noqa: ARG002 - the interface's
        """Notice nothing."""
        return ""

    def holding(self, engine: object, now_s: float) -> str:  # noqa: ARG002 - the interface's
        """Hold nothing against who resumes."""
        return ""
