"""Who watches a procedure while it goes on. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Observer(Protocol):
    """Is told what a procedure does. Calls come from the thread that runs it."""

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        """It is now in ``state``, and works on ``hosts``."""

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """``host`` reached something (good), failed (bad), or is still at it (None)."""


class NullObserver:
    """Shows nothing: what the procedure came to is in its report."""

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        """Not shown."""

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """Not shown."""


def never() -> bool:
    """Stands for a user who does not interrupt."""
    return False
